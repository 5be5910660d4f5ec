"""The proof that a masked network of integers computes what its target does: every number in it is exact.

A float64 holds every integer up to 2^53, and sums and products of integers are rounded only where they are larger. The
products behind one output are integers whose sizes add up to at most `largest`; so is every partial sum of them, in
whatever order and however grouped they are added. Where `largest` is below 2^53, nothing is rounded anywhere, and the
two networks are equal as functions if their layers are, which is a comparison of integers.

The bound itself is computed in float64. Its terms are nonnegative integers: as long as it stays below 2^53 it is exact,
and a partial sum that passes 2^53 is rounded to 2^53 or above, and stays there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from supermask.errors import SupermaskError
from theory.constructions.effective import Effective
from theory.exact.quantise import Quantised
from theory.target import FixedStep, Matrix, Node, TargetLayer

LIMIT = 2.0**53
"""Above it float64 does not hold every integer."""


@dataclass(frozen=True)
class ExactCertificate:
    """How far a masked network of integers is from its target, over all whole inputs of the range.

    Attributes:
        upper: no output differs by more, in the unit of the whole outputs; 0.0 where no weight is missed.
        missed: weights and biases of the target that no subset meets.
        largest: no partial sum of either network is larger; below 2^53.

    """

    upper: float
    missed: int
    largest: float

    @property
    def exact(self) -> bool:
        """Whether the two networks are equal on every input."""
        return self.upper == 0.0

    @property
    def exact_in(self) -> tuple[str, ...]:
        """The types in which the network computes without rounding: float32 too, where no sum passes 2^24."""
        return ("float64", "float32") if self.largest < 2.0**24 else ("float64",)


def certify_exactly(quantised: Quantised, found: Sequence[Effective]) -> ExactCertificate:
    """Prove how far a masked network is from its target, from what its own layers compute.

    Args:
        quantised: the target, of integers.
        found: what each pair of masked layers computes.

    Raises:
        SupermaskError: a partial sum may pass 2^53.

    """
    missed, largest, left = 0, 0.0, iter(enumerate(found, 1))

    def through(node: Node, *behind: _Sizes) -> _Sizes:
        (before,), layer = behind, node.operation
        if isinstance(layer, FixedStep):
            return _Sizes(layer.module(before.own), layer.module(before.apart))
        nonlocal missed, largest
        i, pair = next(left)
        kernel, offset = _differences(layer, pair)
        missed += int(np.count_nonzero(kernel)) + int(np.count_nonzero(offset))
        either = pair.positive if pair.negative is None else np.maximum(np.abs(pair.positive), np.abs(pair.negative))
        within = before.own + before.apart  # of the masked network's hidden numbers
        own = _sizes_behind(layer, before.own)
        largest = max(largest, _checked(torch.stack([layer.affine(within, pair.mass, pair.offset_mass), own]), i))
        apart = layer.affine(before.apart, np.abs(either), np.zeros(layer.outputs))
        apart += layer.affine(before.own, kernel, offset)
        _checked(own + apart, i)
        return _Sizes(own, apart)

    end = quantised.target.follow(_first(quantised), through)[-1]
    return ExactCertificate(float(end.apart.max()), missed, largest)


def check_sums(quantised: Quantised) -> None:
    """Refuse a target whose own sums may pass 2^53, before a network is drawn for it.

    Raises:
        SupermaskError: they may.

    """
    numbers = count(1)

    def through(node: Node, sizes: Tensor) -> Tensor:
        layer = node.operation
        if isinstance(layer, FixedStep):
            return layer.module(sizes)
        behind = _sizes_behind(layer, sizes)
        _checked(behind, next(numbers))
        return behind

    quantised.target.follow(_first(quantised).own, through)


@dataclass(frozen=True)
class _Sizes:
    """The largest sizes of a target's hidden numbers, and by how much the masked network's differ at most.

    ReLUs, maxima, paddings and flattenings enlarge neither.
    """

    own: Tensor
    apart: Tensor


def _first(quantised: Quantised) -> _Sizes:
    sizes = torch.full((1, *quantised.target.input_shape), float(quantised.inputs.size), dtype=torch.float64)
    return _Sizes(sizes, torch.zeros_like(sizes))


def _differences(layer: TargetLayer, pair: Effective) -> tuple[Matrix, Matrix]:
    """Return by how much each weight and each bias is missed, the larger of the two halves."""
    over, under = pair.missed(layer)
    kernel = np.abs(over) if under is None else np.maximum(np.abs(over), np.abs(under))
    return kernel, np.abs(pair.offset - layer.offset)


def _sizes_behind(layer: TargetLayer, sizes: Tensor) -> Tensor:
    return layer.affine(sizes, np.abs(layer.kernel), np.abs(layer.offset))


def _checked(sums: Tensor, layer: int) -> float:
    largest = float(sums.max())
    if not largest < LIMIT:
        raise SupermaskError(
            f"Sums in layer {layer} may reach {largest:.3g}, and float64 holds every integer only up to 2^53 ="
            f" {LIMIT:.3g}; give fewer bits, smaller inputs or fewer layers."
        )
    return largest
