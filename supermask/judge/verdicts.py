"""Verdicts: what a ticket's runs say about the claims of the literature, as data with the thresholds that were used.

A claim is made of comparisons over the same seeds. Each of them is decided by the 95 % interval of its mean difference:
"yes" where all of the interval meets the threshold, "no" where none of it does, else "undecided". A claim holds if all
of its comparisons do, and fails if one fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from supermask.judge.paired import Paired, paired
from supermask.judge.result import ControlResult

Runs = Sequence[ControlResult]
Results = Mapping[str, Runs]
"""Name of a network ("ticket", a control, "dense") to its results, one per seed."""

Holds = Literal["yes", "no", "undecided"]
State = Literal["untrained", "trained"]
STATES: tuple[State, ...] = ("untrained", "trained")

MATCHING = -0.002
"""Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis": within 0.2 points of dense."""


@dataclass(frozen=True)
class Comparison:
    """A difference that has to be large enough.

    Attributes:
        what: in words, e.g. "ticket - dense".
        paired: the difference over the seeds, in `unit`.
        threshold: that it has to reach, or to exceed where `strict`.
        strict: whether the threshold itself is too little.
        unit: "points" for differences of accuracies, which are fractions; "steps" for optimizer steps.

    """

    what: str
    paired: Paired
    threshold: float
    strict: bool = False
    unit: Literal["points", "steps"] = "points"

    @property
    def holds(self) -> Holds:
        """Whether the difference is large enough."""
        if self.paired.low > self.threshold or (not self.strict and self.paired.low == self.threshold):
            return "yes"
        below = self.paired.high < self.threshold or (self.strict and self.paired.high == self.threshold)
        return "no" if below else "undecided"

    def text(self) -> str:
        """Return the comparison in words."""
        factor, sign = 100.0 if self.unit == "points" else 1.0, ">" if self.strict else ">="
        return f"{self.what} = {self.paired.text(factor)} {self.unit}, wanted {sign} {factor * self.threshold:g}"


@dataclass(frozen=True)
class Verdict:
    """What the runs say about one claim.

    Attributes:
        claim: e.g. "matching".
        state: whether the networks that were compared had been trained.
        comparisons: that the claim is made of.
        source: the paper whose claim it is.
        refuted: a plain fact that speaks against the claim, whatever the comparisons say.
        unknown: what the claim says and the runs do not measure.

    """

    claim: str
    state: State
    comparisons: tuple[Comparison, ...]
    source: str
    refuted: str = ""
    unknown: str = ""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return min(comparison.paired.n for comparison in self.comparisons)

    @property
    def holds(self) -> Holds:
        """Whether the claim holds."""
        each = {comparison.holds for comparison in self.comparisons}
        if self.refuted or "no" in each:
            return "no"
        return "yes" if each == {"yes"} and not self.unknown else "undecided"

    @property
    def reason(self) -> str:
        """Why it is so, in words."""
        if self.refuted:
            return self.refuted
        if self.n == 1:
            return "one seed has no interval: run more"
        texts = [comparison.text() for comparison in self.comparisons if comparison.holds == self.holds]
        return "; ".join([*texts, self.unknown] if self.unknown and self.holds != "no" else texts)

    def line(self) -> str:
        """Return the verdict in one line."""
        seeds = "1 seed" if self.n == 1 else f"{self.n} seeds"
        return f"{self.claim}, {self.state}: {self.holds} ({self.reason}; {seeds}; {self.source})"

    def values(self) -> dict[str, Any]:
        """Return plain values."""
        measured = {each.what: {**each.paired.values(), "unit": each.unit} for each in self.comparisons}
        thresholds = {each.what: {"least": each.threshold, "strict": each.strict} for each in self.comparisons}
        claim = {"claim": self.claim, "state": self.state, "holds": self.holds, "reason": self.reason}
        return {**claim, "measured": measured, "threshold": thresholds, "n": self.n, "source": self.source}


def verdicts(results: Results) -> list[Verdict]:
    """Return the verdicts on all claims that the results let one judge.

    Claims are judged of the trained networks, as their papers do, and of the untrained ones too where the ticket is a
    strong one.

    Args:
        results: of the ticket and of what it is compared with, over the same seeds in the same order.

    """
    strong = all(run.strong for run in results["ticket"])
    made = [claim(results, state) for state in (STATES if strong else STATES[1:]) for claim in _CLAIMS]
    return [verdict for verdict in made if verdict is not None]


def accuracies(runs: Runs, state: State) -> list[float]:
    """Return the test accuracies of some runs, before or after training, as fractions."""
    return [(run if state == "trained" else run.untrained).test.accuracy for run in runs]


def against(results: Results, name: str, state: State) -> Paired:
    """Return the accuracy of the ticket minus that of a network; dense networks are always compared as trained."""
    theirs: State = "trained" if "dense" in name else state
    image = 1.0 / results["ticket"][0].test.total
    return paired(accuracies(results["ticket"], state), accuracies(results[name], theirs), unit=image)


def stops(runs: Runs) -> list[float]:
    """Return the early-stop steps: those of the smallest validation loss of all evaluations (Frankle & Carbin 2019)."""
    # min takes the first of equal losses, which is the earliest step
    return [min(run.history, key=lambda evaluation: evaluation.validation_loss).step for run in runs]


def matching(results: Results, state: State) -> Verdict | None:
    """Judge whether the ticket is as accurate as the trained dense network, to 0.2 points."""
    if "dense" not in results:
        return None
    return Verdict("matching", state, (_no_worse(results, state, MATCHING),), "Frankle et al. 2020")


def winning(results: Results, state: State) -> Verdict | None:
    """Judge whether the ticket is no less accurate than dense, stops no later, and has fewer weights.

    Frankle & Carbin 2019 compare accuracies at the early-stop step; here they are those of the step that the recipe
    chooses.
    """
    if "dense" not in results or state == "untrained":
        return None
    ticket, dense = results["ticket"], results["dense"]
    comparisons, unknown = [_no_worse(results, state, 0.0)], ""
    if all(run.validation.total for run in [*ticket, *dense]):
        earlier = paired(stops(dense), stops(ticket))
        comparisons.append(Comparison("early stop of dense - of ticket", earlier, 0.0, unit="steps"))
    else:
        unknown = "without validation examples there is no early stop"
    fewer = all(own.parameters < other.parameters for own, other in zip(ticket, dense, strict=True))
    refuted = "" if fewer else "it has no fewer weights than the dense network"
    return Verdict("winning", state, tuple(comparisons), "Frankle & Carbin 2019", refuted, unknown)


def passes_sanity_checks(results: Results, state: State) -> Verdict | None:
    """Judge whether the accuracy falls under new weights, shuffled masks and inverted scores, each by itself."""
    names = [name for name in ("reinitialised", "shuffled_in_layers", "inverted") if name in results]
    return _above("passes the sanity checks", results, state, names, "Frankle et al. 2021; Su et al. 2020")


def beats_random(results: Results, state: State) -> Verdict | None:
    """Judge whether the ticket is more accurate than each random mask of its density."""
    names = [name for name in results if name.startswith("random_")]
    return _above("beats random masks", results, state, names, "Su et al. 2020")


_CLAIMS: tuple[Callable[[Results, State], Verdict | None], ...] = (
    matching,
    winning,
    passes_sanity_checks,
    beats_random,
)


def _above(claim: str, results: Results, state: State, names: Sequence[str], source: str) -> Verdict | None:
    comparisons = tuple(
        Comparison(f"ticket - {name}", against(results, name, state), 0.0, strict=True) for name in names
    )
    return Verdict(claim, state, comparisons, source) if comparisons else None


def _no_worse(results: Results, state: State, threshold: float) -> Comparison:
    return Comparison("ticket - dense", against(results, "dense", state), threshold)
