"""What one weight can be made of: each family of random items, its errors and the law of their median."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from scipy.optimize import brentq

from supermask.random.stream import Floats
from theory import laws
from theory.subset_sum import solve

_BLOCK = 1 << 20  # pairs drawn at a time


def subset_errors(factors: int, items: int, problems: int, generator: Generator) -> Floats:
    """Return the errors of the best subsets of products of so many uniforms on [-1, 1], for targets in [-1/2, 1/2]."""
    coefficients = generator.uniform(-1, 1, (factors, problems, items)).prod(0)
    return solve(coefficients, generator.uniform(-0.5, 0.5, problems), threads=1).error


def nearest_errors(
    distance: Callable[[Floats, Floats, Floats], Floats], items: int, problems: int, generator: Generator
) -> Floats:
    """Return the least distance(u, v, w) over pairs (u, v) uniform on [-1, 1]^2, for targets w in [-1/2, 1/2]."""
    found = []
    rows = max(1, _BLOCK // items)
    for start in range(0, problems, rows):
        count = min(rows, problems - start)
        u, v = generator.uniform(-1, 1, (2, count, items))
        found.append(distance(u, v, generator.uniform(-0.5, 0.5, (count, 1))).min(1))
    return np.concatenate(found)


def to_the_pair(u: Floats, v: Floats, w: Floats) -> Floats:
    """Return max(|u - w|, |v - 1|), by which Malach et al. choose their pair."""
    return np.maximum(np.abs(u - w), np.abs(v - 1))


def to_the_product(u: Floats, v: Floats, w: Floats) -> Floats:
    """Return |u v - w|."""
    return np.abs(u * v - w)


def subset_median(second_moment: float, items: int) -> float:
    """Return the median error of the best subset for large n: `laws.asymptotic_median_ratio` times sqrt(n) 2^-n."""
    return laws.asymptotic_median_ratio(second_moment) * math.sqrt(items) * 2.0**-items


def product_median(pairs: int) -> float:
    """Return the median of the least |u v - w| over k pairs for large k: 0.457 / k.

    The product has density -ln|z| / 2, so none of k is within x/k of w with probability near exp(x ln|w|) = |w|^x. Its
    mean over |w| uniform on (0, 1/2) is 2^-x / (1 + x), which is 1/2 at the median. Derived, not proven.
    """
    return float(brentq(lambda x: 2.0**-x / (1 + x) - 0.5, 0, 1)) / pairs


@dataclass(frozen=True)
class Family:
    """A way to make one weight of random items.

    Attributes:
        grows: what the table calls the number of items.
        errors: draws the errors of (items, problems, generator).
        median: the law of their median, by the number of items.
        exponential: whether the law is sqrt(n) 2^(slope n), and not n^slope.
        slope: of the law.

    """

    grows: str
    errors: Callable[[int, int, Generator], Floats]
    median: Callable[[int], float]
    exponential: bool
    slope: float

    def places(self, items: Sequence[int]) -> Floats:
        """Return what the slope is taken over: n, or log2 of k."""
        return np.array(items, np.float64) if self.exponential else np.log2(items)

    def factor(self, items: Sequence[int]) -> Floats:
        """Return what an error is divided by before its log2 is taken: sqrt(n), or 1."""
        return np.sqrt(items) if self.exponential else np.ones(len(items))


FAMILIES: Mapping[str, Family] = {
    "subset sum of uniforms": Family("n numbers", partial(subset_errors, 1), partial(subset_median, 1 / 3), True, -1),
    "subset sum of products": Family("n products", partial(subset_errors, 2), partial(subset_median, 1 / 9), True, -1),
    "Malach's closest pair": Family(
        "k pairs", partial(nearest_errors, to_the_pair), laws.closest_pair_median, False, -0.5
    ),
    "nearest single product": Family("k pairs", partial(nearest_errors, to_the_product), product_median, False, -1),
}
