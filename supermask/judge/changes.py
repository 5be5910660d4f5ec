"""What a control changed in a ticket: counted, and compared with what the control says.

A control that changes nothing passes every check that it stands for: a published code's shuffle binds its result to a
local name and leaves the mask as it was. So what moved is counted each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from supermask.errors import TicketError
from supermask.ticket import Ticket

Kept = Literal["masks", "layers", "total"]
"""What stays of the masks: all of them, the count of each layer, or the count over the network."""


@dataclass(frozen=True)
class Changed:
    """How one ticket differs from another of the same network.

    Attributes:
        moved: mask entries that differ, by parameter name; a weight that moved counts where it was and where it is.
        weights: whether any random weight differs.

    """

    moved: Mapping[str, int]
    weights: bool

    @property
    def total(self) -> int:
        """Mask entries that differ, over the network."""
        return sum(self.moved.values())


def changed(before: Ticket, after: Ticket) -> Changed:
    """Return how a ticket differs from the one that it was made from.

    Raises:
        TicketError: they have other layers.

    """
    if {name: mask.shape for name, mask in before.masks.items()} != {n: m.shape for n, m in after.masks.items()}:
        raise TicketError("The two tickets have masks of other layers; compare tickets of one network.")
    moved = {name: int((mask ^ after.masks[name]).sum()) for name, mask in before.masks.items()}
    # digests stand for the weights, which then need not be regrown
    return Changed(moved, before.digest != after.digest)


def check_control(name: str, kept: Kept, before: Ticket, after: Ticket) -> Ticket:
    """Return what a control made, if it kept what it says and changed the rest.

    Args:
        name: of the control.
        kept: what it keeps of the masks; with "masks" it changes the weights, else it moves mask entries wherever
            some could move.
        before: the ticket.
        after: what the control made of it.

    Raises:
        TicketError: it did not; the message says what it kept or changed.

    """
    differs = changed(before, after)
    counts, now = _counts(before.masks), _counts(after.masks)
    if kept == "masks":
        _require(not differs.total, name, f"moved {differs.total:,} mask entries, but must leave the masks alone")
        _require(differs.weights, name, "drew the same weights again; give it another seed")
        return after
    _require(
        sum(now.values()) == sum(counts.values()),
        name,
        f"keeps {sum(now.values()):,} weights instead of {before.kept:,}",
    )
    if kept == "layers":
        other = [layer for layer in counts if counts[layer] != now[layer]]
        _require(not other, name, f"keeps another number of weights in {', '.join(other)}")
        stuck = [layer for layer in _movable(before.masks) if not differs.moved[layer]]
        _require(not stuck, name, f"moved nothing in {', '.join(stuck)}, where it could have")
    # with all or none of the weights kept there is only one mask
    movable = 0 < before.kept < before.prunable
    _require(not movable or differs.total > 0, name, "moved no mask entry, and could have")
    return after


def _movable(masks: Mapping[str, Tensor]) -> list[str]:
    """Return the layers in which something is kept and something pruned."""
    return [name for name, mask in masks.items() if bool(mask.any()) and not bool(mask.all())]


def _counts(masks: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _require(holds: bool, name: str, problem: str) -> None:
    if not holds:
        raise TicketError(f"The control {name} {problem}; its results would mean nothing.")
