"""Whether an entry beats the last record: a one-sided test over seeds."""

import math
from collections.abc import Sequence
from statistics import fmean, variance

LEVEL = 0.01
"""An entry is a record if chance alone would make it look so much better less often than this."""


def p_better(new: Sequence[float], old: Sequence[float], image: float) -> float:
    """Return the p-value of Welch's one-sided t-test that the mean error of `new` is below that of `old`.

    Each seed is one draw of all that a method does (initialisation, validation split, order), so that seeds are what
    varies, and the two entries' seeds are drawn apart: pairs would pair nothing. Both are measured on the same test
    images, whose own draw is common to them and not a part of the claim. Welch's test and not Student's, because a
    better method varies less as a rule.

    Args:
        new: errors of each seed, two at least, as fractions.
        old: of the record before.
        image: one test image as a fraction. Errors are counts, so that few seeds may be equal by chance: a standard
            deviation is taken to be one image at least.

    """
    from scipy.special import stdtr  # scipy.stats, which has the test, takes a second to import

    parts = [max(variance(errors), image * image) / len(errors) for errors in (new, old)]
    freedom = sum(parts) ** 2 / sum(
        part * part / (len(errors) - 1) for part, errors in zip(parts, (new, old), strict=True)
    )
    return float(stdtr(freedom, (fmean(new) - fmean(old)) / math.sqrt(sum(parts))))
