"""A ticket's trial in words, in numbers and in a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from supermask.errors import RunError
from supermask.judge.plot import plot_accuracies
from supermask.judge.result import ControlResult
from supermask.judge.verdicts import STATES, Results, State, Verdict, accuracies, against, verdicts
from supermask.report import mean, table


@dataclass(frozen=True)
class Judged:
    """Tickets of some seeds beside their controls.

    Attributes:
        results: name of a network to its results, one per seed; the ticket comes first.
        verdicts: on all claims that the results let one judge.

    """

    results: Results
    verdicts: tuple[Verdict, ...]

    @property
    def states(self) -> tuple[State, ...]:
        """In which states the networks are compared: untrained ones only where the ticket is a strong one."""
        return STATES if all(run.strong for run in self.results["ticket"]) else ("trained",)

    def table(self) -> str:
        """Return a Markdown table with a row per network.

        Test accuracies have 95 % intervals; differences are paired by seed and in points, and those from the dense
        networks are from the trained ones.
        """
        differences = [text for state in self.states for text in (f"ticket - it, {state}", "p")]
        header = ["network", "untrained", "trained", *differences, "moved", "kept", "parameters"]
        return table(header, [self._row(name) for name in self.results])

    def lines(self) -> list[str]:
        """Return a line per verdict."""
        return [verdict.line() for verdict in self.verdicts]

    def values(self) -> dict[str, Any]:
        """Return plain values: the numbers behind each row, and the verdicts."""
        rows = {name: self._values(name) for name in self.results}
        return {"networks": rows, "verdicts": [verdict.values() for verdict in self.verdicts]}

    def plot(self, path: Path, title: str) -> None:
        """Draw the accuracies as bars, into a PNG file."""
        bars = {
            name: {str(state): mean(accuracies(runs, state)) for state in STATES} for name, runs in self.results.items()
        }
        plot_accuracies(bars, path, title)

    def _row(self, name: str) -> list[str]:
        runs, own = self.results[name], name == "ticket"
        shown = [mean(accuracies(runs, "untrained")).percent(), mean(accuracies(runs, "trained")).percent()]
        for state in self.states:
            found = against(self.results, name, state)
            shown += ["", ""] if own else [found.text(), f"{found.p:.3g}"]
        counts = [
            _shown([None if run.moved is None else sum(run.moved.values()) for run in runs]),
            _shown([run.kept for run in runs]),
            _shown([run.parameters for run in runs]),
        ]
        return [name, *shown, *counts]

    def _values(self, name: str) -> dict[str, Any]:
        runs = self.results[name]
        differences = {state: against(self.results, name, state).values() for state in self.states if name != "ticket"}
        return {
            **{f"{state}_accuracy": accuracies(runs, state) for state in STATES},
            "ticket_minus_it": differences,
            "moved": [run.moved for run in runs],
            "reweighted": [run.reweighted for run in runs],
            "kept": [run.kept for run in runs],
            "parameters": [run.parameters for run in runs],
        }


def judge(seeds: Sequence[Mapping[str, ControlResult]]) -> Judged:
    """Judge tickets by the runs of several seeds.

    Args:
        seeds: for each seed what `supermask.runs.run_controls.run_controls` returned.

    Raises:
        RunError: there are none, or they cannot be compared: other networks, data or recipes, or one run twice.

    """
    if not seeds:
        raise RunError("There are no runs to judge; give those of one seed or more.")
    for number, each in enumerate(seeds):
        _refuse_incomparable(seeds[0], each, number)
    keys = [(each["ticket"].config["ticket"], each["ticket"].config["seed"]) for each in seeds]
    if len(set(keys)) < len(keys):
        raise RunError("Runs of one ticket and one seed are there twice; they are one measurement, so give them once.")
    results: Results = {name: [each[name] for each in seeds] for name in seeds[0]}
    return Judged(results, tuple(verdicts(results)))


def _refuse_incomparable(first: Mapping[str, ControlResult], other: Mapping[str, ControlResult], number: int) -> None:
    if list(first) != list(other):
        differ = sorted(set(first) ^ set(other))
        raise RunError(f"Runs {number} have other controls than runs 0 ({', '.join(differ)}); give the same to all.")
    for option in ("data", "recipe", "validation"):
        there, here = first["ticket"].config[option], other["ticket"].config[option]
        if there != here:
            raise RunError(f"Runs {number} have {option} {here}, runs 0 {there}; give runs that differ in their seed.")


def _shown(counts: Sequence[int | None]) -> str:
    """Return the mean over the runs; nothing where they have no such count."""
    known = [count for count in counts if count is not None]
    return f"{fmean(known):,.0f}" if known else ""
