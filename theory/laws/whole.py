"""How often no subset of whole numbers adds up to a whole target.

The normal law of `optimum.rate` is about the middle of the sums. Weights that are missed lie at the ends, where it is
wrong in two ways, and whole numbers repeat, which is a third:

1. A target below the sum of all negative items or above that of all positive ones has no subset at all, and the normal
   density is not 0 there.
2. Towards the ends the sums of bounded items thin out faster than a normal density. The number of subsets that add up
   to t is, as a coefficient of the product of 1 + e^(theta x_i), near exp(K(theta) - theta t) / sqrt(2 pi K''(theta))
   with K the logarithm of the product and K'(theta) = t (the saddle point, or exponential tilting; Daniels 1954). At
   theta = 0 this is the normal law.
3. A zero doubles each subset, and equal items, or one and its negative, may stand for each other: subsets come in
   clumps, and it is more likely that there is none. So what is counted is not subsets but different multiples: of the
   items of size v, m of them positive and l negative, only the multiple a v, a = -l to m, counts, and the factor of
   the product is the sum of e^(theta a v) over a.

If the number of different sums at t were a Poisson variable of this mean lambda, none would be there with probability
exp(-lambda). It is less random than that, the more so the smaller the items are: measured, the law is right to 10 % for
8 bits and above what is found by up to half for 6 bits and by two to four times for 4 bits, where most that are
missed are out of reach. With 3 left out it is below what is found by a fifth for 8 bits and by up to four tenths for
fewer. Derived as above, not proven.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supermask.errors import SupermaskError
from theory.laws.optimum import Floats, checked_problems

Integers = NDArray[np.int64]

STEPS = 200
"""Of the search for the saddle point at most; Newton's take about eight."""
STEEPEST = 60.0
"""Of the tilt, over one: beyond it only the ends themselves are left."""


def whole_rate(coefficients: ArrayLike, targets: ArrayLike, *, distinct: bool = True) -> Floats:
    """Return lambda, the expected number of ways to add up to each target.

    Args:
        coefficients: whole numbers (batch, n).
        targets: whole numbers (batch,).
        distinct: count the multiples of each size; else subsets, where zeros and equal items count several times.

    Returns:
        (batch,); 0 of a target that is out of reach, infinity of one that is an end of what is in reach.

    Raises:
        SupermaskError: a number is not whole.

    """
    x, t = checked_problems(coefficients, targets)
    if not ((x == np.rint(x)).all() and (t == np.rint(t)).all()):
        raise SupermaskError("coefficients and targets must be whole numbers; round them first, or use rate.")
    sizes, counts = _sizes(np.abs(x)) if distinct else (np.abs(x), np.ones_like(x))
    above = t - np.minimum(x, 0.0).sum(axis=1)  # over the lowest sum, from which multiples count from 0
    reach = (sizes * counts).sum(axis=1)
    found = np.where((above == 0.0) | (above == reach), np.inf, 0.0)
    inside = (above > 0.0) & (above < reach)
    if inside.any():
        found[inside] = _saddle(sizes[inside], counts[inside], above[inside])
    return found


def predicted_misses(coefficients: ArrayLike, targets: ArrayLike, *, distinct: bool = True) -> float:
    """Return the fraction of these targets that no subset of their whole numbers is expected to add up to.

    Args:
        coefficients: whole numbers (batch, n), a sample of the distribution in question.
        targets: whole numbers (batch,).
        distinct: as in `whole_rate`.

    Returns:
        A probability, the mean of exp(-lambda).

    Raises:
        SupermaskError: a number is not whole, or there is none.

    """
    rates = whole_rate(coefficients, targets, distinct=distinct)
    if not rates.size:
        raise SupermaskError("A mean over no problems does not exist; give at least one.")
    return float(np.exp(-rates).mean())


def _sizes(items: Floats) -> tuple[Floats, Floats]:
    """Return the different sizes of each row, and how often each is there; zeros, which change nothing, never."""
    ordered = np.sort(items, axis=1)
    new = np.diff(ordered, axis=1, prepend=-1.0) > 0.0
    place = np.cumsum(new, axis=1) - 1
    rows = np.arange(len(items))[:, None]
    sizes, counts = np.zeros_like(items), np.zeros_like(items)
    sizes[rows, place] = ordered
    np.add.at(counts, (rows, place), 1.0)
    return sizes, np.where(sizes > 0.0, counts, 0.0)


def _saddle(sizes: Floats, counts: Floats, above: Floats) -> Floats:
    """Return exp(K(theta) - theta t) / sqrt(2 pi K''(theta)) at the theta where K' is t."""
    low, high = np.full(len(above), -STEEPEST), np.full(len(above), STEEPEST)
    theta, left = np.zeros(len(above)), np.arange(len(above))
    for _ in range(STEPS):
        _, mean, variance = _cumulants(sizes[left], counts[left], theta[left])
        wanted, off = above[left], np.abs(mean - above[left]) > 1e-6 * (1.0 + above[left])
        low[left], high[left] = np.where(mean < wanted, (theta[left], high[left]), (low[left], theta[left]))
        step = theta[left] + (wanted - mean) / np.maximum(variance, 1e-300)
        middle = (low[left] + high[left]) / 2
        step = np.where((step > low[left]) & (step < high[left]), step, middle)
        left, step = left[off], step[off]
        theta[left] = step
        if not len(left):
            break
    value, _, variance = _cumulants(sizes, counts, theta)
    return np.asarray(np.exp(value - theta * above) / np.sqrt(2.0 * np.pi * np.maximum(variance, 1e-300)))


def _cumulants(sizes: Floats, counts: Floats, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Return K, K' and K'' of each problem."""
    tilt = theta[:, None] * sizes
    multiples = np.arange(int(counts.max()) + 1)
    exponents = np.where(multiples <= counts[..., None], tilt[..., None] * multiples, -np.inf)
    largest = exponents.max(axis=2)
    weights = np.exp(exponents - largest[..., None])
    total = weights.sum(axis=2)
    mean = (weights @ multiples) / total
    variance = (weights @ multiples**2) / total - mean**2
    return (largest + np.log(total)).sum(axis=1), (sizes * mean).sum(axis=1), (sizes**2 * variance).sum(axis=1)
