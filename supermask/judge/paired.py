"""Paired comparisons over seeds: two networks that share a seed share its data, its order and its luck."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError
from supermask.report import Mean, mean

MOST = 40
"""Pairs up to which the exact test counts all 2^n signs: each half has at most 2^20 sums, which fit in memory.

scipy's `permutation_test` finds the same p-values but visits the 2^n signs one by one: seconds for 16 pairs."""


@dataclass(frozen=True)
class Paired:
    """A difference over n seeds.

    Attributes:
        difference: mean of first - second with Student's 95 % interval, which takes the differences for normal.
            Accuracies are counts: a few differences that happen to be equal make an interval too short, so that it
            reaches at least one unit to either side.
        p: exact two-sided p-value of the sign-flip permutation test: the share of the 2^n ways to give the differences
            signs whose mean is as far from 0 as theirs. It assumes that first and second are exchangeable within a
            pair, and nothing about how they are distributed.

    """

    difference: Mean
    p: float

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.difference.n

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that so many pairs can have, 2 / 2^n: with five it is 0.0625."""
        return 2.0 ** (1 - self.n)

    @property
    def low(self) -> float:
        """Lower end of the interval; minus infinity with one pair."""
        return self.difference.value - (math.inf if self.difference.half_width is None else self.difference.half_width)

    @property
    def high(self) -> float:
        """Upper end of the interval; infinity with one pair."""
        return self.difference.value + (math.inf if self.difference.half_width is None else self.difference.half_width)

    def text(self, factor: float = 100.0) -> str:
        """Return the difference and its interval times a factor: for accuracies, points."""
        half = self.difference.half_width
        value = f"{factor * self.difference.value:+.2f}"
        return value if half is None else f"{value} ± {factor * half:.2f}"

    def values(self) -> dict[str, float | int | None]:
        """Return plain values."""
        half = self.difference.half_width
        difference = {"difference": self.difference.value, "half_width": half, "n": self.n}
        return {**difference, "p": self.p, "smallest_p": self.smallest_p}


def paired(first: Sequence[float], second: Sequence[float], *, unit: float = 0.0) -> Paired:
    """Compare measurements that belong together in pairs.

    Args:
        first: one per seed.
        second: of the same seeds, in the same order.
        unit: that they are counted in: of an accuracy, one test image.

    Raises:
        SupermaskError: there are none, not as many of one as of the other, or more than `MOST`.

    """
    if len(first) != len(second) or not 1 <= len(first) <= MOST:
        raise SupermaskError(f"Cannot pair {len(first)} values with {len(second)}; give 1 to {MOST} of each.")
    differences = [one - other for one, other in zip(first, second, strict=True)]
    found = mean(differences)
    if found.half_width is not None:
        found = replace(found, half_width=max(found.half_width, unit))
    return Paired(found, _sign_flip(np.array(differences)))


def _sign_flip(differences: NDArray[np.float64]) -> float:
    """Return the share of sums of signed differences that are at least as far from 0 as the sum that was seen."""
    # sums in another order differ in their last bits, and equal ones must count as equal
    # 1e-9 is far above the rounding of 40 additions and far below one image of a usual test set
    seen = abs(math.fsum(differences)) - 1e-9 * math.fsum(abs(differences))
    half = len(differences) // 2
    left, right = _sums(differences[:half]), np.sort(_sums(differences[half:]))
    above = len(right) - np.searchsorted(right, seen - left, side="left")
    below = np.searchsorted(right, -seen - left, side="right")
    count = int(above.sum() + below.sum())
    # where the sum seen is 0, a sum of 0 is counted on both sides
    return min(1.0, count / 2.0 ** len(differences))


def _sums(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums under all 2^n signs."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums
