"""Interval matrices from hidden tensors to the outputs, one for each point, followed backward from the outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.ascent import norms, powers
from theory.norms import SLACK, Norm, schur_norm, step_norm
from theory.precision import FLOAT64
from theory.target import FixedStep, Shape, TargetLayer


@dataclass(frozen=True, eq=False)
class Tail:
    """All matrices between middle - radius and middle + radius, and such as differ from these by rounding.

    Attributes:
        middle: (points, outputs, *shape of the hidden tensor).
        radius: of the same shape, nowhere negative; None where it is 0.
        off: (points,), a bound of the operator norm of what rounding of the middle moved it by. A norm, and not a part
            of the radius, which grows faster from layer to layer.
        norm: of tensors.

    """

    middle: Tensor
    radius: Tensor | None
    off: Tensor
    norm: Norm

    @classmethod
    def of_outputs(cls, points: int, shape: Shape, norm: Norm, *, intervals: bool) -> "Tail":
        """Return the tail behind everything, which changes nothing, for outputs of a shape."""
        count = torch.Size(shape).numel()
        identity = torch.eye(count, dtype=torch.float64).reshape(count, *shape).expand(points, count, *shape)
        radius = torch.zeros_like(identity) if intervals else None
        return cls(identity, radius, torch.zeros(points, dtype=torch.float64), norm)

    def __add__(self, other: "Tail") -> "Tail":
        """Return the tail of a tensor that goes two ways."""
        middle = self.middle + other.middle
        radius = None if self.radius is None or other.radius is None else self.radius + other.radius
        return self._rounded(middle, radius, self.off + other.off)

    def through_slopes(self, middles: Tensor, radii: Tensor) -> "Tail":
        """Go before a ReLU whose slopes (points, *shape) are within radii of middles, at most 1.

        Without a radius, it is the tail of the middles; what the slopes may differ is for the caller to add.
        """
        middles, radii = middles[:, None], radii[:, None]
        radius = None if self.radius is None else self.radius * (middles + radii) + self.middle.abs() * radii
        middle = self.middle * middles
        return self._rounded(middle, radius, self.off)

    def through_step(self, step: FixedStep) -> "Tail":
        """Go before a padding, a flattening or an averaging."""
        factor = step_norm(step, self.norm)
        return self._back(step.module, step.module, step.shape, factor, factor, int(np.prod(step.shape)) + 4)

    def through_layer(self, layer: TargetLayer, factor: float) -> "Tail":
        """Go before a layer whose operator norm is a factor."""
        nothing = np.zeros(layer.outputs)

        def signed(x: Tensor) -> Tensor:
            return layer.affine(x, layer.kernel, nothing)

        def sizes(x: Tensor) -> Tensor:
            return layer.affine(x, np.abs(layer.kernel), nothing)

        of_sizes = schur_norm(layer, np.abs(layer.kernel), self.norm)
        terms = layer.outputs // layer.groups * layer.taps + 4
        return self._back(signed, sizes, layer.input_shape, factor, of_sizes, terms)

    def channels(self, start: int, stop: int) -> "Tail":
        """Go before a concatenation, to the tensor whose channels are these."""
        radius = None if self.radius is None else self.radius[:, :, start:stop]
        return Tail(self.middle[:, :, start:stop], radius, self.off, self.norm)

    def norms(self) -> Tensor:
        """Return bounds of the operator norms, (points,)."""
        found = _matrix_norms(self.middle.flatten(2), self.norm) + self.off
        return found if self.radius is None else found + _schur(self.radius.flatten(2), self.norm)

    def _back(
        self,
        linear: Callable[[Tensor], Tensor],
        sizes: Callable[[Tensor], Tensor],
        shape: Shape,
        factor: float,
        of_sizes: float,
        terms: int,
    ) -> "Tail":
        """Multiply by a linear map from the right; `sizes` is the map of the sizes of its entries.

        Their operator norms are at most `factor` and `of_sizes`; an entry is a sum of so many terms.
        """
        middle = _transposed(linear, shape, self.middle)
        radius = None if self.radius is None else _transposed(sizes, shape, self.radius) * SLACK
        rounded = FLOAT64.sums(terms) * of_sizes * _norms_of_sizes(self.middle, self.norm)
        return Tail(middle, radius, (factor * self.off + rounded) * SLACK, self.norm)

    def _rounded(self, middle: Tensor, radius: Tensor | None, off: Tensor) -> "Tail":
        """Return the tail of a middle whose entries were rounded a few times more."""
        rounded = FLOAT64.sums(4) * _norms_of_sizes(middle, self.norm)
        return Tail(middle, radius, (off + rounded) * SLACK, self.norm)


@dataclass(eq=False)
class Total:
    """A bound of what tails make of all that was added in front of them.

    Attributes:
        norm: of tensors.
        sum: (points, outputs), what the middles make of it.
        doubt: of the same shape, by how much each output may differ from that for other matrices.
        unknown: (points,), a bound of the norm of what is there because slopes are not known.
        beyond: (points,), a bound of the norm of what else there is.

    """

    norm: Norm
    sum: Tensor
    doubt: Tensor
    unknown: Tensor
    beyond: Tensor

    @classmethod
    def of_nothing(cls, points: int, outputs: int, norm: Norm) -> "Total":
        """Return the total before anything is added."""
        nothing = torch.zeros(points, outputs, dtype=torch.float64)
        return cls(norm, nothing, nothing, nothing[:, 0], nothing[:, 0])

    def add(self, tail: Tail, tensors: Tensor, spread: Tensor) -> None:
        """Add what is within a spread (points,) of tensors (points, *shape)."""
        middle, column = tail.middle.flatten(2), tensors.flatten(1)[:, :, None]
        self.sum = self.sum + (middle @ column)[:, :, 0]
        off = FLOAT64.sums(middle.shape[2] + 4) * middle.abs()  # the product rounds too
        if tail.radius is not None:
            off = off + tail.radius.flatten(2)
        self.doubt = self.doubt + (off @ column.abs())[:, :, 0]
        self.beyond = self.beyond + tail.off * norms(tensors, self.norm) * SLACK
        self.add_norm(tail, spread)

    def add_slopes(self, tail: Tail, radii: Tensor, entries: Tensor, difference: Tensor) -> None:
        """Add what a ReLU may make of a difference beyond the middles of its slopes.

        Args:
            tail: behind the ReLU.
            radii: of the slopes, (points, *shape).
            entries: bounds of the entries of the difference before it, of the same shape.
            difference: a bound of its norm, (points,).

        """
        column = (radii * entries).flatten(1)[:, :, None]
        by_entries = norms((tail.middle.flatten(2).abs() @ column)[:, :, 0], self.norm)
        by_norm = _matrix_norms((tail.middle * radii[:, None]).flatten(2), self.norm) * difference
        beyond = tail.off * radii.flatten(1).amax(dim=1) * difference
        self.unknown = self.unknown + (torch.fmin(by_entries, by_norm) + beyond) * SLACK

    def add_norm(self, tail: Tail, sizes: Tensor) -> None:
        """Add tensors that are known only by a bound of their norms, (points,)."""
        if bool(sizes.any()):
            self.beyond = self.beyond + tail.norms() * sizes * SLACK

    def bound(self) -> Tensor:
        """Return a bound of the norm of what the matrices make of all that was added, (points,)."""
        return (self.known() + self.unknown) * SLACK

    def known(self) -> Tensor:
        """Return the same without what is there because slopes are not known."""
        return (norms(self.sum.abs() + self.doubt, self.norm) + self.beyond) * SLACK


@torch.enable_grad()
def _transposed(linear: Callable[[Tensor], Tensor], shape: tuple[int, ...], rows: Tensor) -> Tensor:
    """Return rows (points, outputs, ...) times the matrix of a linear map."""
    x = torch.zeros(rows.shape[0] * rows.shape[1], *shape, dtype=torch.float64, requires_grad=True)
    y = linear(x)
    (found,) = torch.autograd.grad(y, x, rows.reshape(y.shape))
    return found.reshape(*rows.shape[:2], *shape)


def _matrix_norms(matrices: Tensor, norm: Norm) -> Tensor:
    """Return bounds of the operator norms of (points, rows, columns)."""
    if norm == "linf":
        return matrices.abs().sum(dim=2).amax(dim=1) * SLACK
    scale = powers(matrices.flatten(1))  # exact, so that no square overflows or vanishes
    near = matrices / scale[:, None, None]
    short = near if near.shape[1] <= near.shape[2] else near.transpose(1, 2)
    squares = torch.linalg.eigvalsh(short @ short.transpose(1, 2))[:, -1]
    return squares.clamp(min=0.0).sqrt() * scale * SLACK


def _norms_of_sizes(matrices: Tensor, norm: Norm) -> Tensor:
    """Return bounds of the operator norms of the sizes of entries of (points, rows, ...)."""
    return matrices.flatten(2).abs().sum(dim=2).amax(dim=1) * SLACK if norm == "linf" else norms(matrices, "l2") * SLACK


def _schur(matrices: Tensor, norm: Norm) -> Tensor:
    """Return bounds of the operator norms of matrices (points, rows, columns) without negative entries."""
    rows = matrices.sum(dim=2).amax(dim=1)
    return rows * SLACK if norm == "linf" else rows.sqrt() * matrices.sum(dim=1).amax(dim=1).sqrt() * SLACK
