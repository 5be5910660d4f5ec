"""Accuracies of networks over seeds: as rows of a table, as bars, and beside those of the ticket."""

from collections.abc import Mapping, Sequence

from supermask.judge import Paired, Verdict, paired
from supermask.report import mean
from supermask.report.rows import Bar

TICKET = "ticket"


def words(name: str) -> str:
    """Return the name of a control in words."""
    return name.replace("_", " ").replace("erk", "ERK")


def bar(accuracies: Sequence[float]) -> Bar:
    """Return the mean of accuracies over seeds with its interval, which ends at 0 and 100 %."""
    found = mean(accuracies)
    half = found.half_width or 0.0
    return Bar(100 * found.value, 100 * max(0.0, found.value - half), 100 * min(1.0, found.value + half))


def error_bar(accuracies: Sequence[float]) -> Bar:
    """Return the mean test error with its interval: accuracies near 100 % all look alike."""
    found = bar(accuracies)
    return Bar(100 - found.value, 100 - found.high, 100 - found.low)


def difference(own: Sequence[float], other: Sequence[float], images: int) -> Paired:
    """Return the difference of accuracies over the seeds of both, counted in test images."""
    return paired(own[: len(other)], other, unit=1.0 / images)


def shortest(verdict: Verdict) -> str:
    """Return what a verdict rests on: the comparison with the least to spare among those that hold as it does."""
    decisive = [each for each in verdict.comparisons if each.holds == verdict.holds]
    if verdict.refuted or verdict.n == 1 or not decisive:
        return verdict.reason
    least = min(decisive, key=lambda each: (each.paired.low - each.threshold) / (1.0 if each.unit == "steps" else 0.01))
    others = f", the least of {len(decisive)} comparisons" if decisive[1:] else ""
    return f"{words(least.text())}{others}"


def best(networks: Mapping[str, Sequence[float]]) -> str:
    """Return the name of the control with the highest mean accuracy."""
    return max((name for name in networks if name != TICKET), key=lambda name: mean(networks[name]).value)
