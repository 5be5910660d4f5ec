"""Linear maps with the sizes behind them: of a target, of a random network, and the norms that the proof needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from theory.norms import SLACK, grown, scaled
from theory.target import Matrix


@dataclass(frozen=True, eq=False)
class LinearMap:
    """x -> matrix x + offset, and what its rounding is bounded by.

    Attributes:
        matrix: float64 (outputs, inputs).
        offset: float64 (outputs,).
        mass: the sizes of the products that add up to the matrix, like it.
        offset_mass: the same of the offset.
        terms: roundings on the way to one output at most.

    """

    matrix: Matrix
    offset: Matrix
    mass: Matrix
    offset_mass: Matrix
    terms: int

    @classmethod
    def product(cls, factors: Sequence[Matrix], offset: Sequence[tuple[Matrix, ...]] = ()) -> "LinearMap":
        """Return the map of a product of matrices, and of a sum of products of matrices and a vector each."""
        outputs = len(factors[0])
        whole, mass = _chained(factors), _chained([np.abs(each) for each in factors])
        constant, constant_mass = np.zeros(outputs), np.zeros(outputs)
        for parts in offset:
            constant = constant + _chained(parts)
            constant_mass = constant_mass + _chained([np.abs(each) for each in parts])
        terms = sum(sum(each.shape) for each in factors) + 2 * len(offset) + 16
        return cls(whole, constant, mass, constant_mass, terms)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.matrix.shape[0]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.matrix.shape[1]

    @cached_property
    def norm(self) -> float:
        """A bound of the spectral norm of the matrix."""
        return spectral(self.matrix)

    @cached_property
    def mass_norm(self) -> float:
        """A bound of that of the mass."""
        return spectral(self.mass)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs of inputs (..., inputs)."""
        return x @ torch.from_numpy(self.matrix).T + torch.from_numpy(self.offset)

    def sizes(self, x: Tensor, spread: Tensor) -> Tensor:
        """Return a bound of the norm of the sizes that add up to an output, (...), within a spread of inputs."""
        at = x.abs() @ torch.from_numpy(self.mass).T + torch.from_numpy(self.offset_mass)
        return (at.norm(dim=-1) + self.mass_norm * spread) * SLACK

    def minus(self, other: "LinearMap") -> "LinearMap":
        """Return the difference, with no mass of its own."""
        matrix, offset = self.matrix - other.matrix, self.offset - other.offset
        return LinearMap(matrix, offset, np.zeros_like(matrix), np.zeros_like(offset), 0)


def spectral(matrix: Matrix) -> float:
    """Return a bound of a matrix's spectral norm."""
    if not matrix.size:
        return 0.0
    exponent, near = scaled(matrix)
    return grown(float(np.linalg.norm(near, 2)), exponent) * SLACK


def _chained(factors: Sequence[Matrix]) -> Matrix:
    found = factors[-1]
    for each in reversed(factors[:-1]):
        found = each @ found
    return found
