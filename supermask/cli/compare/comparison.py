"""A comparison under way: what is finished, what is left, and the report that grows with each run."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from supermask.errors import SupermaskError
from supermask.runs import Job
from supermask.runs.folder import STAGES
from supermask.runs.grid import read_results
from supermask.runs.measures import score_rows
from supermask.runs.planned import Planned
from supermask.runs.report import GridReport
from supermask.runs.runner import Ended


class ComparisonRun:
    """The runs of a comparison; its methods read and write files, so that one process calls them.

    Args:
        plans: all runs, in their order.
        out: the folder that holds theirs.
        title: of the table and the plot.

    Attributes:
        left: the runs that were not finished at the start.

    """

    def __init__(self, plans: Sequence[Planned[Job]], out: Path, title: str) -> None:
        self._plans, self._out, self._title = plans, out, title
        self.left = [plan for plan in plans if not plan.finished]

    @property
    def outlook(self) -> str:
        """What is left, e.g. "3 of 9 runs left: dense 1, imp 2"."""
        counts = Counter(plan.task.method for plan in self.left)
        told = ": " + ", ".join(f"{method} {count}" for method, count in counts.items()) if counts else ""
        return f"{len(self.left)} of {len(self._plans)} runs left{told}."

    def tables(self) -> list[str]:
        """Return the table under its title; none while nothing is finished."""
        report = self._report()
        return [report.text()] if report.begun else []

    def write(self) -> None:
        """Write the report of what is finished."""
        report = self._report()
        if report.begun:
            report.write(self._out, "compare.json")

    def told(self, end: Ended) -> str:
        """Write the report after a run, and return the line that says how the run ended."""
        if end.error is not None:
            return f"{end.plan.title} failed: {end.error}"
        self.write()
        (result,) = read_results([end.plan]).values()
        name, value = score_rows(result.test, end.plan.task.data, "test")[0]
        return f"{end.plan.title}: {name} {value.partition(' (')[0]} ({result.seconds:.1f} s)"

    def tidy(self) -> None:
        """Drop the shared trainings once no run of the folder, of this comparison or of another, has use for them."""
        if all((config.parent / "result.json").exists() for config in self._out.glob("*/config.json")):
            shutil.rmtree(self._out / STAGES, ignore_errors=True)

    def _report(self) -> GridReport:
        results, runs = read_results(self._plans), len(self._plans)
        part = f" ({len(results)} of {runs} runs)" * (len(results) < runs)
        return GridReport.of(self._plans, results, self._title + part)


def refuse_failures(failed: Sequence[Ended]) -> None:
    """Name the runs that failed.

    Raises:
        SupermaskError: there are some.

    """
    alike: dict[str, list[str]] = {}
    for end in failed:
        alike.setdefault(str(end.error).rstrip("."), []).append(end.plan.name)
    if alike:
        named = "; ".join(f"{', '.join(names)} ({sentence})" for sentence, names in alike.items())
        raise SupermaskError(f"Failed, and taken up again by the same command: {named}.")
