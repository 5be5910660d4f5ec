"""Intervals and tests that assume nothing about the distribution of the errors, whose means are heavy-tailed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

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
    from scipy.stats import kstest  # scipy.stats takes a third of a second to import

    sample = checked_sample(values)
    check_between_0_and_1(false_alarm, "false_alarm")
    distance = float(kstest(sample, "uniform").statistic)
    return KolmogorovSmirnov(distance, _critical(sample.size, false_alarm), sample.size, false_alarm)


def median(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Return a sample's median with its order-statistic interval, which holds for every continuous distribution.

    Args:
        values: the sample, independent draws.
        confidence: the least probability that the interval holds the true median.

    Raises:
        SupermaskError: the sample is empty, holds NaN, or is too small for the confidence.

    """
    from scipy.stats import quantile_test

    sample = checked_sample(values)
    check_between_0_and_1(confidence, "confidence")
    interval = quantile_test(sample, p=0.5).confidence_interval(confidence)
    if np.isnan(interval.low):
        raise SupermaskError(f"{sample.size} values are too few for an interval of confidence {confidence}.")
    return Estimate(float(np.median(sample)), float(interval.low), float(interval.high), confidence)


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
    from scipy.stats import beta

    trials = checked_count(trials, "trials")
    failures = checked_count(failures, "failures", least=0)
    check_between_0_and_1(confidence, "confidence")
    if failures > trials:
        raise SupermaskError(f"failures={failures} cannot be more than trials={trials}.")
    tail = (1 - confidence) / 2
    # the interval of scipy's binomtest too, which looks for its ends only to 2e-12: too coarse for one failure of 10^9
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
    from scipy.stats import kstwo

    return float(kstwo.isf(false_alarm, count))
