"""A batch of subset-sum problems, and what a solver found for it.

Given n coefficients and a target, choose the subset whose sum is closest to the target.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from supermask.errors import SupermaskError

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

_LARGEST = np.finfo(np.float64).max / 4  # room for every order in which the sums may be rounded


@dataclass(frozen=True)
class Problem:
    """A batch of problems: coefficients (batch, n) and targets (batch,), float64 and finite, n at least 1.

    Raises:
        SupermaskError: a shape is wrong, a number is NaN or infinite, or the numbers of one problem are so large that
            float64 cannot hold their sum.

    """

    coefficients: Floats
    targets: Floats

    def __post_init__(self) -> None:
        _check_shapes(self.coefficients, self.targets)
        _check_finite("coefficients", self.coefficients)
        _check_finite("targets", self.targets)
        with np.errstate(over="ignore"):
            too_large = np.abs(self.coefficients).sum(axis=1) + np.abs(self.targets) > _LARGEST
        if too_large.any():
            raise SupermaskError(
                f"The numbers of problem {too_large.argmax()} add up to more than {_LARGEST:.2g}, beyond which sums "
                "overflow; scale its coefficients and its target by the same factor."
            )

    @property
    def batch(self) -> int:
        """Return the number of problems."""
        return self.coefficients.shape[0]

    @property
    def n(self) -> int:
        """Return the number of coefficients of each problem."""
        return self.coefficients.shape[1]

    def error(self, mask: Mask) -> Floats:
        """Return |sum of the chosen coefficients - target| of a mask (batch, n), computed in float64: (batch,)."""
        return np.abs(np.where(mask, self.coefficients, 0.0).sum(axis=1) - self.targets)


@dataclass(frozen=True)
class Answer:
    """What a solver returns: a mask (batch, n), and whether it claims each row to be optimal (batch,)."""

    mask: Mask
    optimal: NDArray[np.bool_]


@dataclass(frozen=True)
class Solution:
    """What was found for each problem of a batch, as NumPy arrays.

    Attributes:
        mask: bool (batch, n), True where the coefficient is in the subset.
        error: float64 (batch,), |sum of the subset - target| in the unit of the target. It is computed from the mask,
            never taken from the solver.
        optimal: bool (batch,), whether no subset does better, to the tolerance that the solver's docstring states.

    """

    mask: Mask
    error: Floats
    optimal: NDArray[np.bool_]

    @classmethod
    def of(cls, problem: Problem, answer: Answer) -> "Solution":
        """Judge a solver's answer by its mask."""
        shape = (problem.batch, problem.n)
        for name, array, wanted in (("mask", answer.mask, shape), ("optimal", answer.optimal, shape[:1])):
            if array.shape != wanted or array.dtype != np.bool_:
                raise TypeError(f"a solver must return {name} as bool {wanted}, not {array.dtype} {array.shape}")
        return cls(answer.mask, problem.error(answer.mask), answer.optimal)


def as_floats(name: str, values: object) -> Floats:
    """Return a NumPy array or a tensor of float32 or float64 as contiguous float64.

    Raises:
        SupermaskError: it is something else.

    """
    if isinstance(values, torch.Tensor):
        if values.dtype not in (torch.float32, torch.float64):
            raise SupermaskError(f"The {name} must be float32 or float64, not {values.dtype}.")
        values = values.detach().cpu().numpy()
    if not isinstance(values, np.ndarray):
        raise SupermaskError(f"The {name} must be a NumPy array or a torch tensor, not {type(values).__name__}.")
    if values.dtype not in (np.float32, np.float64):
        raise SupermaskError(f"The {name} must be float32 or float64, not {values.dtype}.")
    return np.ascontiguousarray(values, dtype=np.float64).reshape(values.shape)


def _check_shapes(coefficients: Floats, targets: Floats) -> None:
    if coefficients.ndim != 2:
        raise SupermaskError(f"The coefficients must have shape (batch, n), not {coefficients.shape}.")
    if coefficients.shape[1] == 0:
        raise SupermaskError("The coefficients have n = 0; a problem needs at least one coefficient.")
    if targets.shape != coefficients.shape[:1]:
        raise SupermaskError(
            f"The targets must have shape (batch,) = ({coefficients.shape[0]},), one for each row of the coefficients, "
            f"not {targets.shape}."
        )


def _check_finite(name: str, values: Floats) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise SupermaskError(
            f"The {name} must be finite, but {name}{list(where)} is {values[where]}; remove NaN and infinity."
        )
