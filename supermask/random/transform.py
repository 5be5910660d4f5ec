"""What a ticket does to the random weights of a parameter besides masking them, and what of a mask its seed fixes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.random.stream import Stream


@dataclass(frozen=True, eq=False)
class Treatment:
    """How the kept weights of one parameter are made from its random ones: redrawn, moved, then multiplied.

    Attributes:
        gain: factor on all of them, taken in the dtype of the network's weights.
        factors: int8 of the weight's shape, an integer factor of each kept weight: +-1 of a signed supermask, the
            number of coats of a multicoated one; 0 exactly where the weight is pruned. None is 1 for all.
        redraws: int32 of the weight's shape, which draw each kept weight is of: 0 the first, g the g-th that replaced
            it; 0 where the weight is pruned. None is the first for all.
        reshuffled: whether the kept values changed places among themselves, in an order that the seed draws.

    Raises:
        SupermaskError: the gain is not a positive, finite number, or a tensor has another dtype.

    """

    gain: float = 1.0
    factors: Tensor | None = None
    redraws: Tensor | None = None
    reshuffled: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.gain < math.inf:
            raise SupermaskError(f"A gain of {self.gain} was given; it must be positive and finite.")
        for part, tensor, dtype in (("factors", self.factors, torch.int8), ("redraws", self.redraws, torch.int32)):
            if tensor is not None and tensor.dtype is not dtype:
                raise SupermaskError(f"The {part} of a treatment are {tensor.dtype}; they must be {dtype}.")

    def check(self, name: str, mask: Tensor) -> None:
        """Hold the treatment against the mask of its parameter.

        Raises:
            TicketError: they contradict each other.

        """
        for part, tensor in (("factors", self.factors), ("redraws", self.redraws)):
            if tensor is not None and tensor.shape != mask.shape:
                raise TicketError(
                    f"The {part} of {name} have shape {tuple(tensor.shape)}, its mask {tuple(mask.shape)}."
                )
        if self.factors is not None and not torch.equal(self.factors != 0, mask):
            raise TicketError(f"The factors of {name} must be 0 exactly where its mask prunes.")
        if self.redraws is not None and bool(((self.redraws < 0) | ((self.redraws != 0) & ~mask)).any()):
            raise TicketError(f"The redraws of {name} must be 0 where its mask prunes, and not negative.")

    def apply(self, mask: Tensor, grow: Callable[[int], Tensor], seed: int, name: str) -> Tensor:
        """Return the weights of the network; the pruned ones are +0.

        Args:
            mask: bool, True = kept.
            grow: returns the random weights of a draw, 0 being the first.
            seed: of the ticket.
            name: of the parameter.

        """
        value = grow(0)
        for draw in [] if self.redraws is None else self.redraws.unique().tolist():
            if draw:
                value = torch.where(self.redraws == draw, grow(draw), value)
        # before the factors, which belong to a place and do not move with the values
        if self.reshuffled:
            kept = value[mask]
            value = value.clone()  # the caller may keep what grow returned
            value[mask] = kept[_order(len(kept), seed, name, "reshuffle")]
        if self.factors is not None:
            value = value * self.factors
        if self.gain != 1.0:
            value = value * self.gain
        # not value * mask, which makes -0 of a pruned negative weight
        return torch.where(mask, value, 0.0)

    def moved_to(self, before: Tensor, after: Tensor) -> "Treatment":
        """Return the treatment for another mask: factors and redraws go to its kept weights in row-major order.

        Where it keeps more weights than before, they are repeated from the first.
        """
        return Treatment(
            self.gain, _dealt(self.factors, before, after), _dealt(self.redraws, before, after), self.reshuffled
        )


class Fixed(NamedTuple):
    """What the seed fixes of a mask: bool tensors of its shape.

    Attributes:
        free: entries that a search chooses.
        locked: entries that are always kept; what is neither is always pruned.

    """

    free: Tensor
    locked: Tensor


@dataclass(frozen=True)
class Preset:
    """How many entries of a mask the seed fixes, so that a file need not hold them (Otsuka et al. 2025).

    Attributes:
        pruned: entries that are always pruned.
        locked: entries that are always kept.

    Raises:
        SupermaskError: a number is negative.

    """

    pruned: int
    locked: int

    def __post_init__(self) -> None:
        if min(self.pruned, self.locked) < 0:
            raise SupermaskError(f"{self} has a negative number of entries.")

    def grow(self, seed: int, name: str, shape: tuple[int, ...]) -> Fixed:
        """Return which entries are free and which are locked; the same on every machine.

        Raises:
            SupermaskError: the mask has fewer entries.

        """
        count = math.prod(shape)
        if self.pruned + self.locked > count:
            raise SupermaskError(f"{self} fixes more entries than the {count} of {name}.")
        order = _order(count, seed, name, "preset")
        kinds = torch.full((count,), 2, dtype=torch.uint8, device="cpu")
        kinds[order[: self.pruned]] = 0
        kinds[order[self.pruned : self.pruned + self.locked]] = 1
        return Fixed((kinds == 2).reshape(shape), (kinds == 1).reshape(shape))

    def check(self, seed: int, name: str, mask: Tensor) -> None:
        """Hold a mask against what the seed fixes of it.

        Raises:
            TicketError: it differs.

        """
        free, locked = self.grow(seed, name, tuple(mask.shape))
        if not torch.equal(mask & ~free, locked):
            raise TicketError(f"The mask of {name} differs from its preset where that leaves no choice.")


def _order(count: int, seed: int, name: str, purpose: str) -> Tensor:
    """Return a permutation of `count` places that (seed, name, purpose) draws."""
    # stable, so that equal words have one order with every version of numpy
    return torch.from_numpy(np.argsort(Stream(seed, name, purpose).words(count), kind="stable"))


def _dealt(tensor: Tensor | None, before: Tensor, after: Tensor) -> Tensor | None:
    if tensor is None:
        return None
    values = tensor[before].numpy()
    dealt = torch.zeros(after.shape, dtype=tensor.dtype, device="cpu")
    # a layer that was empty has nothing to hand on: its first weights are single and of the first draw
    values = values if values.size else np.array([int(tensor.dtype is torch.int8)], dtype=values.dtype)
    # numpy's resize repeats the values from the first; torch's would leave the rest undefined
    dealt[after] = torch.from_numpy(np.resize(values, int(after.sum())))
    return dealt
