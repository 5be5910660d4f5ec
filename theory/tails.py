"""Interval matrices from hidden tensors to the outputs, one for each point, followed backward from the outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.ascent import norms, powers
from theory.norms import SLACK, Norm
from theory.precision import FLOAT64
from theory.target import FixedStep, Shape, TargetLayer


@dataclass(frozen=True, eq=False)
class Tail:
    """All matrices between middle - radius and middle + radius.

    Attributes:
        middle: (points, outputs, *shape of the hidden tensor).
        radius: of the same shape, nowhere negative.

    """

    middle: Tensor
    radius: Tensor

    @classmethod
    def of_outputs(cls, points: int, shape: Shape) -> "Tail":
        """Return the tail behind everything, which changes nothing, for outputs of a shape."""
        count = torch.Size(shape).numel()
        identity = torch.eye(count, dtype=torch.float64).reshape(count, *shape).expand(points, count, *shape)
        return cls(identity, torch.zeros_like(identity))

    def __add__(self, other: "Tail") -> "Tail":
        """Return the tail of a tensor that goes two ways."""
        middle = self.middle + other.middle
        return Tail(middle, self.radius + other.radius + FLOAT64.sums(2) * middle.abs())

    def through_slopes(self, middles: Tensor, radii: Tensor) -> "Tail":
        """Go before a ReLU whose slopes (points, *shape) are within radii of middles."""
        middles, radii = middles[:, None], radii[:, None]
        return Tail(self.middle * middles, self.radius * (middles + radii) + self.middle.abs() * radii)

    def through_step(self, step: FixedStep) -> "Tail":
        """Go before a padding, a flattening or an averaging."""
        return self._back(step.module, step.module, step.shape, int(np.prod(step.shape)) + 4)

    def through_layer(self, layer: TargetLayer) -> "Tail":
        """Go before a layer."""
        nothing = np.zeros(layer.outputs)

        def signed(x: Tensor) -> Tensor:
            return layer.affine(x, layer.kernel, nothing)

        def sizes(x: Tensor) -> Tensor:
            return layer.affine(x, np.abs(layer.kernel), nothing)

        return self._back(signed, sizes, layer.input_shape, layer.outputs * layer.taps + 4)

    def channels(self, start: int, stop: int) -> "Tail":
        """Go before a concatenation, to the tensor whose channels are these."""
        return Tail(self.middle[:, :, start:stop], self.radius[:, :, start:stop])

    def norms(self, norm: Norm) -> Tensor:
        """Return bounds of the operator norms, (points,)."""
        return _matrix_norms(self.middle.flatten(2), norm) + _schur(self.radius.flatten(2), norm)

    def _back(
        self, linear: Callable[[Tensor], Tensor], sizes: Callable[[Tensor], Tensor], shape: tuple[int, ...], terms: int
    ) -> "Tail":
        """Multiply by a linear map from the right; `sizes` is the map of the sizes of its entries."""
        rounding = FLOAT64.sums(terms) * self.middle.abs()
        return Tail(_transposed(linear, shape, self.middle), _transposed(sizes, shape, self.radius + rounding))


@dataclass(eq=False)
class Total:
    """A bound of what tails make of all that was added in front of them.

    Attributes:
        norm: of tensors.
        sum: (points, outputs), what the middles make of it.
        doubt: of the same shape, by how much each output may differ from that for other matrices.
        beyond: (points,), a bound of the norm of what else there is.

    """

    norm: Norm
    sum: Tensor
    doubt: Tensor
    beyond: Tensor

    @classmethod
    def of_nothing(cls, points: int, outputs: int, norm: Norm) -> "Total":
        """Return the total before anything is added."""
        nothing = torch.zeros(points, outputs, dtype=torch.float64)
        return cls(norm, nothing, nothing, nothing[:, 0])

    def add(self, tail: Tail, tensors: Tensor, spread: Tensor) -> None:
        """Add what is within a spread (points,) of tensors (points, *shape)."""
        middle, column = tail.middle.flatten(2), tensors.flatten(1)[:, :, None]
        self.sum = self.sum + (middle @ column)[:, :, 0]
        off = tail.radius.flatten(2) + FLOAT64.sums(middle.shape[2] + 4) * middle.abs()  # which rounds too
        self.doubt = self.doubt + (off @ column.abs())[:, :, 0]
        self.add_norm(tail, spread)

    def add_norm(self, tail: Tail, sizes: Tensor) -> None:
        """Add tensors that are known only by a bound of their norms, (points,)."""
        if bool(sizes.any()):
            self.beyond = self.beyond + tail.norms(self.norm) * sizes * SLACK

    def bound(self) -> Tensor:
        """Return a bound of the norm of what the matrices make of all that was added, (points,)."""
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


def _schur(matrices: Tensor, norm: Norm) -> Tensor:
    """Return bounds of the operator norms of matrices (points, rows, columns) without negative entries."""
    rows = matrices.sum(dim=2).amax(dim=1)
    return rows * SLACK if norm == "linf" else rows.sqrt() * matrices.sum(dim=1).amax(dim=1).sqrt() * SLACK
