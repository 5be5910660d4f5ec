"""Transfer: the ticket of one data set, optimizer, initialisation or width on another network of the same body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from supermask.errors import TicketError
from supermask.judge.controls import CONTROLS
from supermask.ticket import Ticket


@dataclass(frozen=True)
class Carried:
    """A ticket that was carried to another network.

    Attributes:
        ticket: the weights of the other network with the masks of the first.
        taken: the layers that have the masks of the first.
        left: the layers that have none, and are whole: those of another shape, such as a head for other classes, and
            those that the first does not know.
        same_weights: whether the layers that were taken have the same random weights in both networks.

    """

    ticket: Ticket
    taken: tuple[str, ...]
    left: tuple[str, ...]
    same_weights: bool

    @property
    def density(self) -> float:
        """The fraction of the weights of the layers taken that is kept."""
        masks = [self.ticket.masks[name] for name in self.taken]
        return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def carried(ticket: Ticket, whole: Ticket, *, stretch: bool = False) -> Carried:
    """Carry the masks of a ticket to another network, where layers have the same names and shapes.

    Morcos, Yu, Paganini & Tian 2019, section 3: a winning ticket of one data set is trained on another; its head, which
    may have other classes, is drawn again and not pruned. With the seed and the distribution of the first network, the
    other one has the same weights where the shapes are the same, as there; with another seed, the masks alone are
    carried ("reinitialised").

    Args:
        ticket: whose masks are carried; left as it is.
        whole: of the other network, e.g. `supermask.baselines.sparse.whole_ticket(model, seed=ticket.seed)`.
        stretch: let layers of another width take masks too: unit i of N has the place of unit `i * n // N` of n, so
            that a wider network repeats units, as Chen, Goodfellow & Shlens 2016 widen one, and a narrower one leaves
            some out. What a network reads and its classes must agree all the same.

    Raises:
        TicketError: no layer has the same name and shape; or the ticket does more to its weights than prune them.

    """
    if ticket.treatments:
        raise TicketError(
            "The ticket changes weights besides pruning them, which cannot be carried to others; take one of a search"
            " or a baseline that only prunes."
        )
    names = [name for name in whole.masks if name in ticket.masks]
    taken = {name: ticket.masks[name] for name in names if ticket.masks[name].shape == whole.masks[name].shape}
    if stretch:
        taken = _stretched(names, ticket.masks, whole.masks)
    if not taken:
        theirs = ", ".join(f"{name} {tuple(mask.shape)}" for name, mask in list(ticket.masks.items())[:3])
        ours = ", ".join(f"{name} {tuple(mask.shape)}" for name, mask in list(whole.masks.items())[:3])
        raise TicketError(
            f"The ticket's layers begin with {theirs}, the network's with {ours}: none has the same name and shape;"
            " take a network that differs in its head alone, or one of another width with stretch=True."
        )
    masks = {name: taken.get(name, mask).clone() for name, mask in whole.masks.items()}
    left = tuple(name for name in whole.masks if name not in taken)
    same = ticket.seed == whole.seed and all(
        ticket.masks[name].shape == mask.shape and ticket.weights.get(name) == whole.weights.get(name)
        for name, mask in taken.items()
        if name in whole.weights
    )
    return Carried(replace(whole, masks=masks), tuple(taken), left, same)


def _stretched(names: Sequence[str], masks: Mapping[str, Tensor], wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks of the layers that can be brought to another width, by name.

    Args:
        names: layers of both networks in the order in which they are used; the first reads the input, the last gives
            the classes.
        masks: of the one network.
        wholes: of the other.

    """
    found, before = {}, ""
    for name in names:
        mask, whole = masks[name], wholes[name]
        if mask.dim() == whole.dim():
            inputs = _places(mask, masks.get(before))
            free = {} if name == names[-1] else {0: 1}  # axes that may change, and the places of a unit there
            if name != names[0] and mask.dim() > 1 and inputs == _places(whole, wholes.get(before)):
                free[1] = inputs
            if all(axis in free or mask.shape[axis] == whole.shape[axis] for axis in range(mask.dim())):
                for axis, places in free.items():
                    sources = _sources(mask.shape[axis], whole.shape[axis], places)
                    mask = mask.index_select(axis, sources.to(mask.device))
                found[name] = mask
        before = name if mask.dim() > 1 else before
    return found


def _places(layer: Tensor, before: Tensor | None) -> int:
    """Return how many inputs of a layer belong to one unit of the layer before it: several where it was flattened."""
    if before is None or layer.dim() != 2 or before.dim() <= 2 or layer.shape[1] % before.shape[0]:
        return 1
    return layer.shape[1] // before.shape[0]


def _sources(old: int, new: int, places: int) -> Tensor:
    """Return for each of `new` inputs or outputs which of `old` it takes after, where units have so many each."""
    units = torch.arange(new // places) * (old // places) // (new // places)
    return (units[:, None] * places + torch.arange(places)).flatten()


def with_controls(ticket: Ticket, *, seed: int) -> dict[str, Ticket]:
    """Return a carried ticket with what it is compared to on the other data, by name.

    Args:
        ticket: of `carried`.
        seed: of what the controls draw.

    Returns:
        "ticket"; "reinitialised", its masks over other weights; "random", its masks shuffled within their layers.

    """
    return {
        "ticket": ticket,
        "reinitialised": CONTROLS["reinitialised"](ticket, seed=seed),
        "random": CONTROLS["shuffled_in_layers"](ticket, seed=seed),
    }


@torch.no_grad()
def with_signs(signs: Mapping[str, Tensor], magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the signs of one network and the magnitudes of another, by name.

    A mask is carried to another initialisation by signs where that has these weights (Zhou et al. 2019; Frankle, Schwab
    & Morcos 2020). A sign of zero counts as positive, so that the magnitudes stay.

    Args:
        signs: weights of the first network.
        magnitudes: weights of the other, of the same names and shapes.

    Raises:
        TicketError: names or shapes differ.

    """
    wrong = [name for name in magnitudes if name not in signs or signs[name].shape != magnitudes[name].shape]
    if wrong:
        raise TicketError(f"There are no signs of the shape of {', '.join(wrong[:3])}; take those layers apart.")
    return {
        name: torch.where(signs[name].to(weight.device) < 0, -weight.abs(), weight.abs())
        for name, weight in magnitudes.items()
    }
