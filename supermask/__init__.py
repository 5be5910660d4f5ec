"""supermask: find, judge and keep strong lottery tickets."""

from supermask import data, distributions, masking, models, search, training
from supermask.errors import DataError, RunError, SupermaskError, TicketError
from supermask.masking import hold
from supermask.parameters.given import Given
from supermask.search import EdgePopup
from supermask.ticket import Ticket

__all__ = [
    "DataError",
    "EdgePopup",
    "Given",
    "RunError",
    "SupermaskError",
    "Ticket",
    "TicketError",
    "data",
    "distributions",
    "hold",
    "masking",
    "models",
    "search",
    "training",
]
