"""Slopes of straight lines through medians, and the open constants of bounds, with their intervals."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from supermask.errors import SupermaskError
from theory.bounds.arguments import check_between_0_and_1, check_positive, checked_count
from theory.laws.intervals import Estimate, Floats, Proportion, checked_sample, clopper_pearson

Point = TypeVar("Point")


def slope(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Return the least-squares slope of y over x with Student's interval.

    The interval takes the residuals for independent normals of one variance; they include whatever bends the curve away
    from a line. Where each point is the median of a sample, `median_slope` uses the sample instead.

    Args:
        x: at least three places, not all equal; take logarithms before.
        y: one value per place.
        confidence: of the interval.

    """
    from scipy.stats import linregress  # scipy.stats takes a third of a second to import
    from scipy.stats import t as student

    places, values = checked_sample(x), checked_sample(y)
    _check_line(places, values.size, least=3)
    check_between_0_and_1(confidence, "confidence")
    fit = linregress(places, values)
    half = float(student.ppf(0.5 + confidence / 2, places.size - 2) * fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, confidence)


def median_slope(
    x: ArrayLike, samples: Sequence[ArrayLike], *, confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Estimate:
    """Return the least-squares slope of the samples' medians over x, with a bootstrap interval.

    The bootstrap (percentile, fixed seed) is used because medians have no simple variance where the density is unknown,
    and order statistics alone do not give a slope. The median of a resample is the sorted sample at place floor(N B)
    with B from Beta((N+1)/2, (N+1)/2): exactly so for odd N, up to half a place for even N. Nothing is resampled.

    Args:
        x: at least two places, not all equal.
        samples: one sample per place, of independent draws; take logarithms before (or after: a median follows).
        confidence: of the interval, reached up to the bootstrap's own error of order N^(-1/2).
        resamples: number of bootstrap draws.
        seed: of the bootstrap draws.

    """
    places = checked_sample(x)
    _check_line(places, len(samples), least=2)
    check_between_0_and_1(confidence, "confidence")
    generator = np.random.default_rng(seed)
    drawn = np.stack(
        [_resampled_medians(sample, checked_count(resamples, "resamples"), generator) for sample in samples]
    )
    weights = (places - places.mean()) / ((places - places.mean()) ** 2).sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(weights @ drawn, [tail, 1 - tail])
    return Estimate(
        float(weights @ [np.median(checked_sample(s)) for s in samples]), float(low), float(high), confidence
    )


def fit_constant(
    bound: Callable[[Point, float], float],
    points: Sequence[Point],
    failures: Sequence[Proportion],
    *,
    largest: float = 100.0,
    confidence: float = 0.95,
) -> Estimate:
    """Return the smallest constant with which a bound on failure holds at every measured point.

    It is the largest over points of the constant at which the bound equals the failure probability. The interval comes
    from Clopper-Pearson intervals of all points at once (Bonferroni: each misses with its share of 1 - confidence), so
    it holds that smallest constant for the true probabilities with at least the confidence. It says nothing about
    points that were not measured, so a theorem's universal constant can be larger.

    Args:
        bound: failure probability not exceeded at (point, constant); must not fall as the constant grows. For example
            `lambda point, constant: bounds.lueker_failure(*point, constant=constant)`.
        points: what was measured, such as (items, epsilon).
        failures: the measured failures of each, as `failure_curve` returns.
        largest: no constant above it is looked for.
        confidence: of the interval.

    """
    if not points or len(points) != len(failures):
        raise SupermaskError(f"{len(points)} points do not fit {len(failures)} measurements; give one or more of each.")
    check_between_0_and_1(confidence, "confidence")
    check_positive(largest, "largest")
    each = 1 - (1 - confidence) / len(points)
    wide = [clopper_pearson(found.failures, found.trials, confidence=each) for found in failures]
    ends = ([p.value for p in wide], [p.low for p in wide], [p.high for p in wide])
    value, low, high = (max(_smallest(bound, *pair, largest) for pair in zip(points, end, strict=True)) for end in ends)
    return Estimate(value, low, high, confidence)


def _smallest(bound: Callable[[Point, float], float], point: Point, probability: float, largest: float) -> float:
    """Return where a bound that grows with its constant reaches a probability, by bisection."""
    if bound(point, largest) < probability:
        raise SupermaskError(f"The bound at {point} stays below the measured {probability:.3g} up to {largest=}.")
    low, high = 0.0, largest
    for _ in range(60):  # 100 / 2^60 is less than the last bit of a constant of 1
        middle = (low + high) / 2
        low, high = (low, middle) if bound(point, middle) >= probability else (middle, high)
    return high


def _resampled_medians(sample: ArrayLike, resamples: int, generator: np.random.Generator) -> Floats:
    ordered = np.sort(checked_sample(sample))
    middle = generator.beta((ordered.size + 1) / 2, (ordered.size + 1) / 2, size=resamples)
    return np.asarray(ordered[np.minimum((middle * ordered.size).astype(np.int64), ordered.size - 1)])


def _check_line(places: Floats, values: int, least: int) -> None:
    if places.size != values or values < least or not np.ptp(places) > 0:
        raise SupermaskError(
            f"A slope needs at least {least} places, not all equal; got {places.size} for {values} values."
        )
