"""Means over seeds, and shares of examples, with the interval that holds the true one with a stated confidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Mean:
    """A mean over runs.

    Attributes:
        value: the mean.
        half_width: half the length of its interval; None of a single run.
        n: number of runs.

    """

    value: float
    half_width: float | None
    n: int

    def text(self) -> str:
        """Return the mean and its interval, to four digits after the point."""
        return f"{self.value:.4f}" + ("" if self.half_width is None else f" ± {self.half_width:.4f}")

    def percent(self) -> str:
        """Return the mean and its interval in per cent, for a fraction."""
        if self.half_width is None:
            return f"{100 * self.value:.2f} %"
        return f"{100 * self.value:.2f} ± {100 * self.half_width:.2f} %"


def mean(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Return the mean of one or more values with Student's interval, which takes them for normally distributed."""
    if len(values) < 2:
        return Mean(fmean(values), None, len(values))
    from scipy.special import stdtrit  # the quantile; scipy.stats, which has it too, takes a second to import

    # stdev divides by n - 1, as Student's interval needs
    error = stdev(values) / math.sqrt(len(values))
    # half of what is left out lies on each side
    return Mean(fmean(values), float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * error, len(values))


@dataclass(frozen=True)
class Share:
    """A share of examples with its interval; all three are fractions.

    Attributes:
        value: counted over total; 0 without examples.
        low: lower end of the interval.
        high: upper end of it.
        total: examples.

    """

    value: float
    low: float
    high: float
    total: int

    def percent(self) -> str:
        """Return the share and its interval in per cent."""
        return f"{100 * self.value:.2f} % ({100 * self.low:.2f} to {100 * self.high:.2f})"


def share(count: int, total: int, confidence: float = 0.95) -> Share:
    """Return a share with the interval of Wilson (1927), which holds near 0 and 1 too, for independent examples.

    Args:
        count: examples that have the property.
        total: all examples; without any the interval is from 0 to 1.
        confidence: how often the interval holds the true share.

    """
    if not total:
        return Share(0.0, 0.0, 1.0, 0)
    from scipy.special import ndtri  # as in `mean`

    z, value = float(ndtri(0.5 + confidence / 2)), count / total
    middle = (value + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(value * (1 - value) / total + z * z / (4 * total * total))
    # for all and for none an end is the value itself, which rounded sums miss by their last bits
    return Share(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)), total)
