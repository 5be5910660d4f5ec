"""Structures of masks: what is kept or pruned together, or how many of a few neighbours stay."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn.functional import pad

from supermask.errors import SupermaskError

Shape = tuple[int, ...]
Side = Literal["in", "out"]


class Groups(ABC):
    """Weights of a layer that are kept or pruned together."""

    name: ClassVar[str]

    @abstractmethod
    def pool(self, entries: Tensor) -> Tensor:
        """Return the sum of a tensor of the weight's shape over each group: the groups' tensor."""

    @abstractmethod
    def spread(self, values: Tensor, shape: Shape) -> Tensor:
        """Return a tensor of the weight's shape in which each entry has the value of its group."""


@dataclass(frozen=True)
class Channels(Groups):
    """All weights that read one input channel ("in": a column, a pixel of the first layer), or that make one output.

    With "out" the last layer loses classes, unless it is left whole (`dense`).
    """

    side: Side = "in"
    name: ClassVar[str] = "channels"

    def __post_init__(self) -> None:
        if self.side not in ("in", "out"):
            raise SupermaskError(f"Channels(side={self.side!r}) is unknown; known are in, out.")

    def pool(self, entries: Tensor) -> Tensor:
        """Return the sum over each channel: (channels,)."""
        axis = self._axis(entries.ndim)
        others = [other for other in range(entries.ndim) if other != axis]
        return entries.sum(others) if others else entries.clone()

    def spread(self, values: Tensor, shape: Shape) -> Tensor:
        """Return each channel's value at its weights."""
        axis = self._axis(len(shape))
        return values.reshape([-1 if place == axis else 1 for place in range(len(shape))]).expand(shape)

    def _axis(self, dimensions: int) -> int:
        return 1 if self.side == "in" and dimensions > 1 else 0


@dataclass(frozen=True)
class Blocks(Groups):
    """Blocks of a weight seen as a matrix (outputs, all else in row-major order); those at its ends may be smaller."""

    rows: int = 4
    columns: int = 4
    name: ClassVar[str] = "blocks"

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise SupermaskError(f"{self} has blocks without weights; give at least one row and column.")

    def pool(self, entries: Tensor) -> Tensor:
        """Return the sum over each block: (blocks of rows, blocks of columns)."""
        matrix = _matrix(entries)
        height, width = matrix.shape
        padded = pad(matrix, (0, -width % self.columns, 0, -height % self.rows))
        return reduce(padded, "(a r) (b c) -> a b", "sum", r=self.rows, c=self.columns)

    def spread(self, values: Tensor, shape: Shape) -> Tensor:
        """Return each block's value at its weights."""
        height = shape[0] if shape else 1
        whole = repeat(values, "a b -> (a r) (b c)", r=self.rows, c=self.columns)
        return whole[:height, : math.prod(shape[1:])].reshape(shape)


@dataclass(frozen=True)
class NofM:
    """The n largest of every m weights that follow each other in an output unit, e.g. 2 of 4 (N:M sparsity).

    The weights of a unit are counted in row-major order; what is left at its end, fewer than m, keeps n at the most.
    Ties go to the lowest index.
    """

    n: int = 2
    m: int = 4
    name: ClassVar[str] = "n_of_m"

    def __post_init__(self) -> None:
        if not 0 <= self.n <= self.m or self.m < 1:
            raise SupermaskError(f"{self} does not fit: keep from 0 to m of every m weights.")

    def fraction(self, shape: Shape) -> float:
        """Return the fraction of a weight of this shape that is kept."""
        width = math.prod(shape[1:])
        groups, left = divmod(width, self.m)
        return (groups * self.n + min(left, self.n)) / max(1, width)

    def mask(self, ranks: Tensor) -> Tensor:
        """Return the bool mask of the largest ranks (which hold no NaN), of their shape."""
        matrix = _matrix(ranks)
        width = matrix.shape[1]
        # padding comes after all else in its group, so that it is never kept before a weight
        padded = pad(matrix, (0, -width % self.m), value=-torch.inf)
        grouped = rearrange(padded, "o (g m) -> o g m", m=self.m)
        order = grouped.sort(dim=2, descending=True, stable=True).indices
        kept = torch.zeros_like(grouped, dtype=torch.bool).scatter_(2, order[..., : self.n], True)
        return rearrange(kept, "o g m -> o (g m)")[:, :width].reshape(ranks.shape)


Structure = Groups | NofM


def _matrix(tensor: Tensor) -> Tensor:
    rows = tensor.shape[0] if tensor.ndim else 1
    return tensor.reshape(rows, math.prod(tensor.shape[1:]))
