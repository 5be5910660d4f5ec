"""What a control is: one thing about a ticket is drawn again, and the change is checked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supermask.errors import TicketError
from supermask.judge.changes import Kept, check_control
from supermask.random.weights import checked_seed
from supermask.ticket import Ticket


@dataclass(frozen=True)
class Control(ABC):
    """One way to change something in a ticket, strong or weak, whatever found it.

    What a ticket stores besides its seed and masks (learned tensors, batch-norm statistics, constants) stays as it is;
    the statistics are estimated again when a control is measured.

    A new control is such a class, and a line in `supermask.judge.controls`.
    """

    name: ClassVar[str]
    kept: ClassVar[Kept]
    """What it leaves of the masks: all, the count of each layer, or the count over the network."""

    scored: ClassVar[bool] = False
    """Whether it needs the scores that chose the masks."""

    def __call__(self, ticket: Ticket, *, seed: int, scores: Mapping[str, Tensor] | None = None) -> Ticket:
        """Return the control's ticket.

        Args:
            ticket: left as it is.
            seed: of what the control draws.
            scores: that chose the ticket's masks, by parameter name.

        Raises:
            TicketError: the scores that it needs are missing or not the ticket's, or it did not change what it says.

        """
        if self.scored and scores is None:
            raise TicketError(f"The control {self.name} needs the scores that chose the ticket's masks; give them.")
        made = self.make(ticket, checked_seed(seed), scores or {})
        return check_control(self.name, self.kept, ticket, made)

    @abstractmethod
    def make(self, ticket: Ticket, seed: int, scores: Mapping[str, Tensor]) -> Ticket:
        """Return the control's ticket, whose changes are then checked."""
