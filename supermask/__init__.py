"""supermask: find, judge and keep strong lottery tickets."""

from supermask import data, distributions, masking, models, search, training
from supermask.errors import DataError, RunError, SupermaskError, TicketError
from supermask.masking import hold
from supermask.search import EdgePopup
from supermask.ticket import Ticket

__all__ = [
    "DataError",
    "EdgePopup",
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
