"""Intervals and tests that assume nothing about the distribution of the errors, whose means are heavy-tailed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, binom, kstwo

from supermask.errors import SupermaskError
from theory.bounds.arguments import check_between_0_and_1, checked_count
from theory.laws.optimum import Floats


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that holds the true one.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.
        confidence: the least probability that an interval made so holds the true value.

    """

    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Proportion(Estimate):
    """A fraction of failures with its interval.

    Attributes:
        failures: how many failed.
        trials: of how many.

    """

    failures: int
    trials: int


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """How far a sample is from uniform on (0, 1).

    Attributes:
        distance: largest difference of the two distribution functions.
        critical: what a uniform sample of this size exceeds with probability `false_alarm`.
        count: size of the sample.
        false_alarm: the false-alarm rate that `critical` is for.

    """

    distance: float
    critical: float
    count: int
    false_alarm: float

    @property
    def rejected(self) -> bool:
        """Whether the sample is further from uniform than chance allows at this false-alarm rate."""
        return self.distance > self.critical


def kolmogorov_smirnov(values: ArrayLike, *, false_alarm: float = 1e-3) -> KolmogorovSmirnov:
    """Compare a sample with the uniform distribution on (0, 1), with the exact critical value of its size.

    Args:
        values: the sample, such as `uniformized` returns.
        false_alarm: probability with which a sample that is uniform is rejected.

    """
    sample = checked_sample(values)
    check_between_0_and_1(false_alarm, "false_alarm")
    below = np.clip(np.sort(sample), 0, 1)  # the uniform distribution function
    steps = np.arange(sample.size + 1) / sample.size
    distance = float(max((steps[1:] - below).max(), (below - steps[:-1]).max()))
    return KolmogorovSmirnov(distance, _critical(sample.size, false_alarm), sample.size, false_alarm)


def median(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Return a sample's median with its order-statistic interval, which holds for every continuous distribution.

    The j-th smallest value lies above the true median when fewer than j values lie below it, a binomial event; j is the
    largest for which that has at most half of the allowed probability.

    Args:
        values: the sample, independent draws.
        confidence: the least probability that the interval holds the true median.

    """
    ordered = np.sort(checked_sample(values))
    check_between_0_and_1(confidence, "confidence")
    tail = (1 - confidence) / 2
    j = int(binom.ppf(tail, ordered.size, 0.5))
    if binom.cdf(j, ordered.size, 0.5) > tail:  # ppf is the first whose cdf reaches the tail: one too many
        j -= 1
    if j < 0:
        raise SupermaskError(f"{ordered.size} values are too few for an interval of confidence {confidence}.")
    return Estimate(float(np.median(ordered)), float(ordered[j]), float(ordered[-1 - j]), confidence)


def median_ratio(errors: ArrayLike, items: int, *, confidence: float = 0.95) -> Estimate:
    """Return median error 2^n / sqrt(n), which `asymptotic_median_ratio` predicts, with the median's interval.

    Args:
        errors: of the best subset of independent problems with n items each.
        items: n.
        confidence: as in `median`.

    """
    found = median(errors, confidence=confidence)
    scale = 2.0 ** checked_count(items, "items") / items**0.5
    return Estimate(scale * found.value, scale * found.low, scale * found.high, confidence)


def clopper_pearson(failures: int, trials: int, *, confidence: float = 0.95) -> Proportion:
    """Return the fraction of failures with the interval of Clopper & Pearson 1934, never narrower than it says.

    Args:
        failures: how many failed.
        trials: of how many.
        confidence: the least probability that the interval holds the true probability.

    """
    trials = checked_count(trials, "trials")
    failures = checked_count(failures, "failures", least=0)
    check_between_0_and_1(confidence, "confidence")
    if failures > trials:
        raise SupermaskError(f"failures={failures} cannot be more than trials={trials}.")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, failures, trials - failures + 1) if failures else 0.0
    high = beta.isf(tail, failures + 1, trials - failures) if failures < trials else 1.0
    return Proportion(failures / trials, float(low), float(high), confidence, failures, trials)


def failure_curve(
    failures: Sequence[int], trials: Sequence[int], *, confidence: float = 0.95
) -> tuple[Proportion, ...]:
    """Return `clopper_pearson` for each point of a curve; each interval alone has the confidence.

    Args:
        failures: how many failed, per point.
        trials: of how many, per point.
        confidence: of each interval.

    """
    if len(failures) != len(trials):
        raise SupermaskError(f"{len(failures)} counts of failures do not fit {len(trials)} counts of trials.")
    pairs = zip(failures, trials, strict=True)
    return tuple(clopper_pearson(failed, tried, confidence=confidence) for failed, tried in pairs)


def checked_sample(values: ArrayLike) -> Floats:
    """Return the values as a flat array of floats; refuse an empty one and NaN."""
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0 or np.isnan(sample).any():
        raise SupermaskError(f"A sample of {sample.size} values must hold at least one, and no NaN.")
    return sample


@cache  # exact, and slow beside the test itself
def _critical(count: int, false_alarm: float) -> float:
    return float(kstwo.isf(false_alarm, count))
