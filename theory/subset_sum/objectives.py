"""What a solver is asked for."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from supermask.errors import SupermaskError
from theory.subset_sum.problem import Mask


@dataclass(frozen=True)
class SmallestError:
    """The subset whose sum is closest to the target."""

    def allows(self, mask: Mask, error: float) -> bool:
        """Return whether a mask (n,) with that error may be an answer: all may."""
        return True

    def fallback(self, n: int) -> Mask:
        """Return the mask (n,) for a search that found none."""
        return np.zeros(n, np.bool_)


@dataclass(frozen=True)
class FewestTerms:
    """The smallest subset whose sum is at most `max_error` (in the unit of the target) from the target."""

    max_error: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_error) and self.max_error >= 0):
            raise SupermaskError(f"max_error must be a finite number of at least 0, not {self.max_error}.")

    def allows(self, mask: Mask, error: float) -> bool:
        """Return whether a mask (n,) with that error may be an answer: one that is close enough."""
        return error <= self.max_error

    def fallback(self, n: int) -> Mask:
        """Return the mask (n,) for a search that found none."""
        return np.zeros(n, np.bool_)


@dataclass(frozen=True)
class FixedTerms:
    """The subset of exactly `terms` coefficients whose sum is closest to the target."""

    terms: int

    def __post_init__(self) -> None:
        if self.terms < 0:
            raise SupermaskError(f"terms must be at least 0, not {self.terms}.")

    def allows(self, mask: Mask, error: float) -> bool:
        """Return whether a mask (n,) with that error may be an answer: one of that many terms."""
        return int(mask.sum()) == self.terms

    def fallback(self, n: int) -> Mask:
        """Return the mask (n,) for a search that found none: the first coefficients."""
        return np.arange(n) < self.terms


Objective: TypeAlias = SmallestError | FewestTerms | FixedTerms


def check_terms(objective: Objective, n: int) -> None:
    """Refuse an objective of more terms than there are coefficients.

    Raises:
        SupermaskError: it is one.

    """
    if isinstance(objective, FixedTerms) and objective.terms > n:
        raise SupermaskError(f"{objective.terms} terms were asked for, but there are {n} coefficients.")
