"""Means over seeds, with the interval that holds the true mean with a stated confidence."""

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
