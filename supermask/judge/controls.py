"""Every control by name: what is left of a ticket's accuracy without its weights, its mask or its choice of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.judge.changes import Kept
from supermask.judge.control import Control
from supermask.judge.draws import moved, remasked, shuffled
from supermask.judge.inversion import inverted
from supermask.masking.budget import named_scope, round_to_total
from supermask.random.keyed import keyed_bits
from supermask.random.weights import digest, grow_all
from supermask.shown import quoted
from supermask.ticket import Ticket

Scores = Mapping[str, Tensor]


@dataclass(frozen=True)
class Reinitialised(Control):
    """The same masks over weights of another seed, with the same distributions, fans and scales.

    Frankle & Carbin 2019, section 2, "random reinitialization". Random tensors without a mask are drawn again too.
    """

    name: ClassVar[str] = "reinitialised"
    kept: ClassVar[Kept] = "masks"

    def make(self, ticket: Ticket, seed: int, scores: Scores) -> Ticket:
        """Draw the weights of another seed."""
        if ticket.checkpoint:
            raise TicketError(
                f"The control {self.name} draws the weights again, and those of this ticket are given:"
                f" {ticket.checkpoint.title}; take a control that changes its masks."
            )
        other = int(keyed_bits(seed, "control", self.name, ticket.seed).random_raw()) >> 1  # a seed has 63 bits
        return replace(
            ticket,
            seed=other,
            digest=digest(grow_all(ticket.weights, other)),
            presets={},  # of the old seed, as the masks are
            drawn={},
        )


@dataclass(frozen=True)
class ShuffledInLayers(Control):
    """Each mask permuted within its layer (Frankle et al. 2021, "Why are we missing the mark?", ablations)."""

    name: ClassVar[str] = "shuffled_in_layers"
    kept: ClassVar[Kept] = "layers"

    def make(self, ticket: Ticket, seed: int, scores: Scores) -> Ticket:
        """Permute the masks."""
        return ticket.remasked({name: moved(mask, seed, self.name, name) for name, mask in ticket.masks.items()})


@dataclass(frozen=True)
class ShuffledGlobally(Control):
    """The masks of all layers permuted as one: the layers' densities are lost too, and one may end up empty."""

    name: ClassVar[str] = "shuffled_globally"
    kept: ClassVar[Kept] = "total"

    def make(self, ticket: Ticket, seed: int, scores: Scores) -> Ticket:
        """Permute the network's mask."""
        flat = [mask.reshape(-1) for mask in ticket.masks.values()]
        # torch.cat refuses an empty list, and a ticket may be without masks
        parts = moved(torch.cat([torch.empty(0, dtype=torch.bool), *flat]), seed, self.name).split([*map(len, flat)])
        layers = zip(ticket.masks.items(), parts, strict=True)
        return remasked(ticket, {name: part.reshape(mask.shape) for (name, mask), part in layers})


@dataclass(frozen=True)
class Inverted(Control):
    """The lowest instead of the highest scores of each layer (Frankle et al. 2021, ablations, "inversion")."""

    name: ClassVar[str] = "inverted"
    kept: ClassVar[Kept] = "layers"
    scored: ClassVar[bool] = True

    def make(self, ticket: Ticket, seed: int, scores: Scores) -> Ticket:
        """Invert the scores."""
        return ticket.remasked(inverted(ticket, scores, seed))


@dataclass(frozen=True)
class RandomMasks(Control):
    """Random masks over the ticket's own weights, of its density to one weight; a scope gives each layer its share."""

    kept: ClassVar[Kept] = "total"
    scope: ClassVar[str]

    def make(self, ticket: Ticket, seed: int, scores: Scores) -> Ticket:
        """Draw the masks."""
        sizes = {name: mask.numel() for name, mask in ticket.masks.items()}
        shapes = {name: tuple(mask.shape) for name, mask in ticket.masks.items()}
        densities = named_scope(self.scope).layer_densities(shapes, ticket.density)
        # shares are fractions of weights, and the total must be the ticket's to one weight
        counts = round_to_total({name: densities[name] * sizes[name] for name in sizes}, sizes, ticket.kept)
        # the right count first and the order after, so that no draw changes the density
        first = {name: (torch.arange(sizes[name]) < counts[name]).reshape(shapes[name]) for name in sizes}
        return remasked(ticket, {name: shuffled(mask, seed, self.name, name) for name, mask in first.items()})


@dataclass(frozen=True)
class RandomUniform(RandomMasks):
    """Random masks with the same density in every layer."""

    name: ClassVar[str] = "random_uniform"
    scope: ClassVar[str] = "layer"


@dataclass(frozen=True)
class RandomERK(RandomMasks):
    """Random masks with Erdos-Renyi-Kernel densities (Evci et al. 2020)."""

    name: ClassVar[str] = "random_erk"
    scope: ClassVar[str] = "erk"


@dataclass(frozen=True)
class RandomSmartRatio(RandomMasks):
    """Random masks with the densities by depth of Su et al. 2020, "random tickets"."""

    name: ClassVar[str] = "random_smart_ratio"
    scope: ClassVar[str] = "smart_ratio"


_ALL: tuple[Control, ...] = (
    Reinitialised(),
    ShuffledInLayers(),
    ShuffledGlobally(),
    Inverted(),
    RandomUniform(),
    RandomERK(),
    RandomSmartRatio(),
)
CONTROLS: dict[str, Control] = {control.name: control for control in _ALL}
"""Every control by name."""
assert len(CONTROLS) == len(_ALL), "two controls have one name"


def named_control(name: str) -> Control:
    """Return the control of that name.

    Raises:
        SupermaskError: there is none.

    """
    if name not in CONTROLS:
        raise SupermaskError(f"Unknown control {quoted(name)}; known are {', '.join(CONTROLS)}.")
    return CONTROLS[name]
