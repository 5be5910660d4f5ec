"""Jackpot tickets (Ma et al. 2021, "Sanity checks for lottery tickets").

The paper asks for five things of a ticket at one sparsity, and most of them may hold at a learning rate of their own.
The best of many noisy means is too high, so each rate is chosen on the validation part, and what is then compared are
the means over the runs on the test part. The authors' code has no validation part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Literal, get_args

from supermask.errors import SupermaskError
from supermask.judge.verdicts import Holds

Role = Literal["ticket", "reinitialised", "dense", "small_dense"]
Verdict = Literal["jackpot", "at boundary", "secondary prize", "none", "undecided"]

GAP = 0.005
"""A clear gap: more than half a point (the paper)."""

SIMILAR: Mapping[str, float] = {"cifar10": 0.005, "cifar100": 0.01, "tiny_imagenet": 0.01, "imagenet": 0.015}
"""How far below dense an accuracy may be and still be similar, by data set (the paper)."""

NONTRIVIAL = 0.59
"""The least sparsity that is not trivial: about 60 %, and four rounds of 20 %, the paper's first, prune 59.04 %."""

_ROUNDING = 1e-9  # far below one image of any test set: 0.9 - 0.905 is not quite -0.005
_ACCURACIES = "accuracies must be fractions from 0 to 1, at least one for each learning rate"


@dataclass(frozen=True)
class Sweep:
    """The accuracies of one network trained at several learning rates.

    Attributes:
        validation: learning rate to the validation accuracies of its runs, as fractions.
        test: the same for the test part.

    Raises:
        SupermaskError: the two have other rates or numbers of runs, a rate has no run, or an accuracy is not a
            fraction.

    """

    validation: Mapping[float, Sequence[float]]
    test: Mapping[float, Sequence[float]]

    def __post_init__(self) -> None:
        counts, others = ({rate: len(runs) for rate, runs in part.items()} for part in (self.validation, self.test))
        if counts != others:
            raise SupermaskError("Validation and test parts of a sweep have other learning rates or numbers of runs.")
        runs = [run for part in (self.validation, self.test) for each in part.values() for run in each]
        if not counts or not all(counts.values()) or not all(0.0 <= run <= 1.0 for run in runs):
            raise SupermaskError(f"A sweep cannot be judged: {_ACCURACIES}.")

    def best(self) -> float:
        """Return the rate of the highest mean validation accuracy; of equal ones the smallest rate."""
        return max(sorted(self.validation), key=lambda rate: fmean(self.validation[rate]))


@dataclass(frozen=True)
class Measured:
    """A network at the learning rate that was chosen for it.

    Attributes:
        name: of the network.
        rate: chosen on the validation part.
        accuracies: of its runs on the test part, as fractions.

    """

    name: str
    rate: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return fmean(self.accuracies)

    def text(self) -> str:
        """Return it in words."""
        return f"{self.name} {100 * self.mean:.2f} % at rate {self.rate:g}"


@dataclass(frozen=True)
class Comparison:
    """The difference of two mean test accuracies, and the limit that it must reach.

    Attributes:
        ours: whose accuracy should be large enough.
        theirs: what it is compared with.
        limit: that ours - theirs has to reach, or to exceed where `strict`.
        strict: whether the limit itself is too little.

    """

    ours: Measured
    theirs: Measured
    limit: float
    strict: bool

    @property
    def difference(self) -> float:
        """The mean of ours - that of theirs, as a fraction."""
        return self.ours.mean - self.theirs.mean

    @property
    def half_width(self) -> float | None:
        """Half the 95 % interval of the difference by Welch's t, which pairs nothing; None with a single run."""
        return _welch(self.ours.accuracies, self.theirs.accuracies)

    @property
    def holds(self) -> bool:
        """Whether the difference of the means meets the limit, whatever its interval."""
        above = self.difference - self.limit
        return above > _ROUNDING if self.strict else above >= -_ROUNDING

    @property
    def straddles(self) -> bool:
        """Whether the interval of the difference holds the limit, so that the runs do not tell the two sides apart."""
        half = self.half_width
        return half is not None and abs(self.difference - self.limit) <= half + _ROUNDING

    def text(self) -> str:
        """Return it in words, in points."""
        half = "" if self.half_width is None else f" ± {100 * self.half_width:.2f}"
        wanted = f"wanted {'>' if self.strict else '>='} {100 * self.limit:g}"
        return f"{self.ours.text()} - {self.theirs.text()} = {100 * self.difference:+.2f}{half} points, {wanted}"


@dataclass(frozen=True)
class Condition:
    """One of the five conditions.

    Attributes:
        number: 1 to 5, as in the paper.
        text: what it asks for.
        holds: "undecided" if it was not measured.
        comparison: that decided; None if it was not measured, or if the sparsity alone decided.

    """

    number: int
    text: str
    holds: Holds
    comparison: Comparison | None = None

    @property
    def witness(self) -> float | None:
        """The learning rate at which the condition was judged."""
        return self.comparison.ours.rate if self.comparison else None

    def line(self) -> str:
        """Return the condition and what decided it."""
        measured = f" ({self.comparison.text()})" if self.comparison else ""
        return f"{self.number}. {self.text}: {self.holds}{measured}"


@dataclass(frozen=True)
class Jackpot:
    """What the five conditions say about tickets of one sparsity.

    Attributes:
        sparsity: fraction of the prunable weights that was removed.
        conditions: all five, in order.

    """

    sparsity: float
    conditions: tuple[Condition, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict.

        "none" if one of the conditions 1 to 4 fails, "undecided" if none fails and one was not measured. Else it is
        "at boundary" if the 95 % interval of condition 5's difference holds its limit (which a single run cannot
        tell), "jackpot" if condition 5 holds, and "secondary prize" if not. The paper has a third state of this name
        and does not define it.
        """
        first = {condition.holds for condition in self.conditions[:4]}
        if "no" in first:
            return "none"
        return "undecided" if "undecided" in first else self.otherwise

    @property
    def otherwise(self) -> Verdict:
        """The verdict if what was not measured of conditions 1 to 4 held."""
        if any(condition.holds == "no" for condition in self.conditions[:4]):
            return "none"
        fifth = self.conditions[4]
        if fifth.comparison is None:
            return "undecided"
        if fifth.comparison.straddles:
            return "at boundary"
        return "jackpot" if fifth.holds == "yes" else "secondary prize"

    def text(self) -> str:
        """Return the verdict and the state of each condition, on one line."""
        states = ", ".join(f"{condition.number} {condition.holds}" for condition in self.conditions)
        unmeasured = ", ".join(str(each.number) for each in self.conditions if each.holds == "undecided")
        hint = f" ({self.otherwise} if {unmeasured} held)" if self.verdict == "undecided" != self.otherwise else ""
        return f"sparsity {100 * self.sparsity:.1f} %: {self.verdict}{hint}; conditions: {states}"

    def values(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "sparsity": self.sparsity,
            "verdict": self.verdict,
            "otherwise": self.otherwise,
            "conditions": [_values(condition) for condition in self.conditions],
        }


def jackpot(
    sweeps: Mapping[Role, Sweep],
    *,
    sparsity: float,
    similar: float = SIMILAR["cifar10"],
    gap: float = GAP,
    doubled: Mapping[Role, Sweep] | None = None,
) -> Jackpot:
    """Return whether tickets of one sparsity win the jackpot (Ma et al. 2021).

    The conditions: (1) the sparsity is not trivial, and twice the training does not help; (2) a small dense network
    with as many weights is clearly below the ticket; (3) at some rate the ticket is clearly above the reinitialised
    one at any rate; (4) at some rate it is similar to the dense network at that rate, or above; (5) at some rate it is
    similar to the dense network at any rate, or above. All rates are chosen on the validation part: the best one of
    each network, in condition 4 the one at which the ticket has the largest lead over the dense network. Condition 4
    can hold at a rate at which neither network learns, so a report should show its accuracies.

    Args:
        sweeps: of the ticket, and of what else was trained: a condition that needs another is undecided.
        sparsity: fraction of the prunable weights that was removed, in [0, 1].
        similar: how far below the dense network is still similar, as a fraction of the examples; see `SIMILAR`.
        gap: what a clear gap exceeds, as a fraction.
        doubled: the same networks, one at least, after twice the training; it helps if it gains more than a clear gap
            in any of them. Without it condition 1 is undecided, unless the sparsity is trivial.

    Raises:
        SupermaskError: there is no ticket, a name is unknown, doubled has a network that sweeps lacks, or a number is
            out of range.

    """
    _check(sweeps, doubled or {}, sparsity, similar, gap)
    ticket, dense = sweeps["ticket"], sweeps.get("dense")
    at_best = {name: _measured(name, sweep, sweep.best()) for name, sweep in sweeps.items()}

    def against(name: Role, limit: float, *, strict: bool) -> Comparison | None:
        return Comparison(at_best["ticket"], at_best[name], limit, strict) if name in at_best else None

    rate = _largest_lead(ticket, dense) if dense else None
    same = None
    if dense and rate is not None:
        same = Comparison(_measured("ticket", ticket, rate), _measured("dense", dense, rate), -similar, strict=False)
    return Jackpot(
        sparsity,
        (
            _long_enough(at_best, doubled or {}, sparsity, gap),
            _condition(2, "a small dense network is clearly below", against("small_dense", gap, strict=True)),
            _condition(3, "clearly above reinitialised at any rate", against("reinitialised", gap, strict=True)),
            _condition(4, "similar to dense at the same rate", same),
            _condition(5, "similar to dense at any rate", against("dense", -similar, strict=False)),
        ),
    )


def _check(
    sweeps: Mapping[Role, Sweep], doubled: Mapping[Role, Sweep], sparsity: float, similar: float, gap: float
) -> None:
    unknown = sorted({*sweeps, *doubled} - {*get_args(Role)})
    if unknown or "ticket" not in sweeps:
        problem = f"{', '.join(unknown)} is not known" if unknown else "there is no ticket"
        raise SupermaskError(f"The sweeps cannot be judged: {problem}; the networks are {', '.join(get_args(Role))}.")
    if not set(doubled) <= set(sweeps):
        raise SupermaskError("A network that was trained twice as long has no sweep to compare with; give that too.")
    if not 0.0 <= sparsity <= 1.0:
        raise SupermaskError(f"sparsity={sparsity} is out of range; it is the fraction removed, from 0 to 1.")
    if not (0.0 <= similar < 1.0 and 0.0 <= gap < 1.0):
        raise SupermaskError(f"similar={similar} and gap={gap} must be fractions of the examples, from 0 to below 1.")


def _measured(name: str, sweep: Sweep, rate: float) -> Measured:
    return Measured(name, rate, tuple(sweep.test[rate]))


def _condition(number: int, text: str, comparison: Comparison | None) -> Condition:
    if comparison is None:
        return Condition(number, text, "undecided")
    return Condition(number, text, "yes" if comparison.holds else "no", comparison)


def _long_enough(
    at_best: Mapping[Role, Measured], doubled: Mapping[Role, Sweep], sparsity: float, gap: float
) -> Condition:
    """Return condition 1, decided by the network that gains most from twice the training."""
    text = "a sparsity that is not trivial, and more training does not help"
    if sparsity < NONTRIVIAL:
        return Condition(1, text, "no")
    longer = [
        Comparison(at_best[name], _measured(f"{name} trained twice as long", sweep, sweep.best()), -gap, strict=False)
        for name, sweep in doubled.items()
    ]
    return _condition(1, text, min(longer, key=lambda comparison: comparison.difference, default=None))


def _largest_lead(ticket: Sweep, dense: Sweep) -> float | None:
    """Return the common rate at which the ticket's validation accuracy is highest above that of the dense network."""
    common = sorted(set(ticket.validation) & set(dense.validation))
    leads = {rate: fmean(ticket.validation[rate]) - fmean(dense.validation[rate]) for rate in common}
    return max(leads, key=lambda rate: leads[rate], default=None)


def _welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    if min(len(first), len(second)) < 2:
        return None
    from scipy.special import stdtrit  # the quantile; scipy.stats, which has it too, takes a second to import

    parts = [variance(runs) / len(runs) for runs in (first, second)]
    if not sum(parts):
        return 0.0
    # the degrees of freedom of Welch and Satterthwaite
    counts = (len(first) - 1, len(second) - 1)
    freedom = sum(parts) ** 2 / sum(part**2 / count for part, count in zip(parts, counts, strict=True))
    return float(stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))


def _values(condition: Condition) -> dict[str, Any]:
    found: dict[str, Any] = {"number": condition.number, "text": condition.text, "holds": condition.holds}
    if condition.comparison is None:
        return found
    each = condition.comparison
    sides = {
        side: {"name": one.name, "rate": one.rate, "mean": one.mean, "runs": len(one.accuracies)}
        for side, one in (("ours", each.ours), ("theirs", each.theirs))
    }
    measured = {"difference": each.difference, "half_width": each.half_width, "limit": each.limit}
    return {**found, **sides, **measured, "strict": each.strict}
