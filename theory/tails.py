"""Interval matrices from hidden tensors to the outputs, one for each point, followed backward from the outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.ascent import norms, powers
from theory.norms import SLACK, Norm
from theory.precision import FLOAT64
from theory.target import FixedStep, TargetLayer


@dataclass(eq=False)
class Tail:
    """All matrices between middle - radius and middle + radius, and a bound of what they made of what was added.

    Attributes:
        middle: (points, outputs, *shape of the hidden tensor).
        radius: of the same shape, nowhere negative.
        norm: of tensors.
        total: (points, outputs), what the middles make of what was added.
        doubt: of the same shape, by how much each output may differ from that for other matrices.
        beyond: (points,), a bound of the norm of what else there is.

    """

    middle: Tensor
    radius: Tensor
    norm: Norm
    total: Tensor
    doubt: Tensor
    beyond: Tensor

    @classmethod
    def of_outputs(cls, points: int, last: TargetLayer, norm: Norm) -> "Tail":
        """Return the tail behind everything, which changes nothing."""
        shape = last.after_shape
        count = torch.Size(shape).numel()
        identity = torch.eye(count, dtype=torch.float64).reshape(count, *shape).expand(points, count, *shape)
        nothing = torch.zeros(points, count, dtype=torch.float64)
        return cls(identity, torch.zeros_like(identity), norm, nothing, nothing, nothing[:, 0])

    def add(self, tensors: Tensor, spread: Tensor) -> None:
        """Add what is within a spread (points,) of tensors (points, *shape)."""
        middle, column = self.middle.flatten(2), tensors.flatten(1)[:, :, None]
        self.total = self.total + (middle @ column)[:, :, 0]
        off = self.radius.flatten(2) + FLOAT64.sums(middle.shape[2] + 4) * middle.abs()  # which rounds too
        self.doubt = self.doubt + (off @ column.abs())[:, :, 0]
        self.add_norm(spread)

    def add_norm(self, sizes: Tensor) -> None:
        """Add tensors that are known only by a bound of their norms, (points,)."""
        if bool(sizes.any()):
            whole = _matrix_norms(self.middle.flatten(2), self.norm) + self._of_radius()
            self.beyond = self.beyond + whole * sizes * SLACK

    def through_slopes(self, slopes: Tensor) -> None:
        """Go before a ReLU whose slopes (points, *shape) are 0 or 1, or anything between where they are 1/2."""
        middles = slopes[:, None]
        unknown = torch.where(middles == 0.5, 0.5, 0.0)
        self.radius = self.radius * (middles + unknown) + self.middle.abs() * unknown
        self.middle = self.middle * middles

    def through_step(self, step: FixedStep) -> None:
        """Go before a padding, a flattening or an averaging."""
        self._back(step.module, step.module, step.shape, int(np.prod(step.shape)) + 4)

    def through_layer(self, layer: TargetLayer) -> None:
        """Go before a layer."""
        nothing = np.zeros(layer.outputs)

        def signed(x: Tensor) -> Tensor:
            return layer.affine(x, layer.kernel, nothing)

        def sizes(x: Tensor) -> Tensor:
            return layer.affine(x, np.abs(layer.kernel), nothing)

        shape = (layer.inputs, *layer.size) if layer.convolutional else (layer.inputs,)
        self._back(signed, sizes, shape, layer.outputs * layer.taps + 4)

    def bound(self) -> Tensor:
        """Return a bound of the norm of what the matrices make of all that was added, (points,)."""
        return (norms(self.total.abs() + self.doubt, self.norm) + self.beyond) * SLACK

    def _of_radius(self) -> Tensor:
        return _schur(self.radius.flatten(2), self.norm)

    def _back(
        self, linear: Callable[[Tensor], Tensor], sizes: Callable[[Tensor], Tensor], shape: tuple[int, ...], terms: int
    ) -> None:
        """Multiply by a linear map from the right; `sizes` is the map of the sizes of its entries."""
        rounding = FLOAT64.sums(terms) * self.middle.abs()
        self.radius = _transposed(sizes, shape, self.radius + rounding)
        self.middle = _transposed(linear, shape, self.middle)


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
