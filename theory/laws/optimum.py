"""How the error of the best subset sum is distributed.

The 2^n subset sums near a target look like a Poisson process whose density is 2^n times a normal one. This is a local
limit argument, not a theorem with a rate: its checks are the statistical tests, and from n = 12 or so on they find no
difference. Every error here is that of the optimum, and is taken to be exact. Where most targets are met, those that
are not lie far from the middle of the sums, and the law is too low: `whole` says by what, and has it for whole numbers.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import brentq

from supermask.errors import SupermaskError
from theory.bounds.arguments import check_positive, checked_count

Floats = NDArray[np.float64]

MOST_ITEMS = 26  # 2^26 sums are half a gigabyte


def rate(coefficients: ArrayLike, targets: ArrayLike) -> Floats:
    """Return lambda, one over the expected error of the best subset sum for these coefficients and this target.

    lambda = 2^(n+1) (2 pi V)^(-1/2) exp(-(t - S/2)^2 / (2 V)) with S the sum of the coefficients and V a quarter of the
    sum of their squares: the mean and the variance of a random subset's sum. Derived as above, not proven.

    Args:
        coefficients: (batch, n).
        targets: t, (batch,).

    Returns:
        (batch,) in one over the unit of the targets.

    """
    x, t = checked_problems(coefficients, targets)
    variance = (x**2).sum(1) / 4
    if not variance.all():
        raise SupermaskError("Some problem has coefficients of 0 alone; its subset sums have no distribution.")
    exponent = (x.shape[1] + 1) * math.log(2) - (t - x.sum(1) / 2) ** 2 / (2 * variance)
    return np.asarray(np.exp(exponent) / np.sqrt(2 * np.pi * variance))


def uniformized(coefficients: ArrayLike, targets: ArrayLike, errors: ArrayLike) -> Floats:
    """Return 1 - exp(-lambda error) for each problem: close to uniform on (0, 1) for optimal errors.

    Args:
        coefficients: (batch, n).
        targets: (batch,).
        errors: of the best subset of each problem, (batch,).

    Returns:
        (batch,) values from 0 to 1, to be tested with `kolmogorov_smirnov`.

    """
    rates = rate(coefficients, targets)
    found = np.asarray(errors, dtype=np.float64)
    if found.shape != rates.shape or not (found >= 0).all():
        raise SupermaskError(f"errors must hold {len(rates)} numbers of at least 0, one for each problem.")
    return -np.expm1(-rates * found)


def predicted_failure(coefficients: ArrayLike, targets: ArrayLike, epsilon: float) -> float:
    """Return the fraction of these problems whose best error the law puts above epsilon: the mean of exp(-lambda eps).

    Args:
        coefficients: (batch, n), a sample of the distribution in question.
        targets: (batch,).
        epsilon: the error allowed.

    Returns:
        A probability.

    """
    check_positive(epsilon, "epsilon")
    rates = rate(coefficients, targets)
    if not rates.size:
        raise SupermaskError("A mean over no problems does not exist; give at least one.")
    return float(np.exp(-rates * epsilon).mean())


def asymptotic_median_ratio(second_moment: float = 1 / 3) -> float:
    """Return the limit of median error 2^n / sqrt(n) for targets that are small beside sqrt(n).

    For i.i.d. symmetric coefficients with E[x^2] = m, V is near n m / 4 and S/2 near a normal of that variance, so the
    error is near sqrt(2 pi m / 4) / 2 sqrt(n) 2^-n times E exp(Z^2 / 2), with E exponential and Z normal. That product
    has a finite median and no finite mean, which is why means are never tested. Derived, not proven.

    Args:
        second_moment: m; 1/3 for uniforms on [-1, 1], which gives 0.377, and 1/9 for products of two of them.

    Returns:
        The ratio, without a unit.

    """
    check_positive(second_moment, "second_moment")

    def excess(m: float) -> float:
        above = quad(lambda z: math.exp(-m * math.exp(-(z**2) / 2) - z**2 / 2), 0, np.inf)[0]
        return float(above) * math.sqrt(2 / math.pi) - 0.5

    return math.sqrt(2 * math.pi * second_moment / 4) / 2 * float(brentq(excess, 0.1, 10))


def covering_radius(coefficients: ArrayLike, low: float = -0.5, high: float = 0.5) -> float:
    """Return the largest error over *all* targets in [low, high], exactly: the event of Lueker's theorem.

    The error as a function of the target is piecewise linear and largest half-way between two neighbouring sums, or at
    an end of the interval.

    Args:
        coefficients: (n,), at most MOST_ITEMS of them.
        low: the smallest target.
        high: the largest target.

    Returns:
        The error of the worst target, in its unit.

    """
    x = np.asarray(coefficients, dtype=np.float64)
    if x.ndim != 1 or not 1 <= x.size <= MOST_ITEMS or not np.isfinite(x).all():
        raise SupermaskError(f"coefficients must be 1 to {MOST_ITEMS} finite numbers; all 2^n sums are enumerated.")
    if not low < high:
        raise SupermaskError(f"The interval from low={low} to high={high} is empty; give low < high.")
    sums = np.zeros(1)
    for item in x:
        sums = np.concatenate([sums, sums + item])
    sums.sort()
    middle = (sums[1:] + sums[:-1]) / 2
    gaps = np.diff(sums)[(middle > low) & (middle < high)]
    ends = [np.abs(sums[_neighbours(sums, end)] - end).min() for end in (low, high)]
    return float(max(*ends, gaps.max(initial=0.0) / 2))


def closest_pair_median(pairs: int) -> float:
    """Return the median error of the closest of k uniform pairs to (w, 1), as max(|u - w|, |v - 1|).

    Proven: a pair is within e with probability e^2 / 2 while |w| + e <= 1, so the median is sqrt(2 (1 - 2^(-1/k))),
    close to sqrt(2 ln(2) / k). This is the quantity that Malach et al. 2020 choose their pair by.

    Args:
        pairs: k.

    Returns:
        The median error, in the unit of the weights.

    """
    return math.sqrt(-2 * math.expm1(-math.log(2) / checked_count(pairs, "pairs")))


def checked_problems(coefficients: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    """Return coefficients (batch, n) and targets (batch,) as float64.

    Raises:
        SupermaskError: they have other shapes, or hold what is not finite.

    """
    x, t = np.asarray(coefficients, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0 or t.shape != x.shape[:1]:
        raise SupermaskError(
            f"coefficients of shape {x.shape} and targets of {t.shape} must be (batch, n) and (batch,)."
        )
    if not (np.isfinite(x).all() and np.isfinite(t).all()):
        raise SupermaskError("coefficients and targets must hold finite numbers; there is NaN or infinity among them.")
    return x, t


def _neighbours(sums: Floats, target: float) -> list[int]:
    place = int(np.searchsorted(sums, target))
    return [max(place - 1, 0), min(place, len(sums) - 1)]
