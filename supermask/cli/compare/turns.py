"""Runs that take turns in one process, or in one group of processes that train together."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from supermask.cli.grid import report_of
from supermask.errors import SupermaskError
from supermask.runs import JobResult
from supermask.runs.folder import STAGES
from supermask.runs.grid import Planned, read_results
from supermask.runs.report import GridReport
from supermask.training import Stopped
from supermask.training.processes import Processes


class Turns:
    """The runs of a comparison: those that are finished, those that are left, those that failed.

    Args:
        plans: all runs, in their order.
        out: the folder that holds theirs.
        title: of the table and the plot.
        processes: that carry them out together.

    Attributes:
        results: of the finished runs, by name.
        failed: what was wrong with those that failed, by name.
        stages: folder of the trainings that runs of different densities share.

    """

    def __init__(self, plans: Sequence[Planned], out: Path, title: str, processes: Processes) -> None:
        self._plans, self._out, self._title, self._processes = plans, out, title, processes
        self.results: dict[str, JobResult] = processes.once(lambda: read_results(plans))
        self.failed: dict[str, str] = {}
        self.stages = out / STAGES

    @property
    def left(self) -> list[Planned]:
        """The runs that are not finished."""
        return [plan for plan in self._plans if plan.name not in self.results]

    @property
    def outlook(self) -> str:
        """What is left, e.g. "3 of 9 runs left: dense 1, imp 2"."""
        counts = Counter(plan.job.method for plan in self.left)
        told = ": " + ", ".join(f"{method} {count}" for method, count in counts.items()) if counts else ""
        return f"{len(self.left)} of {len(self._plans)} runs left{told}."

    def take(self, carry_out: Callable[[Planned], JobResult]) -> None:
        """Carry out what is left, behind a progress bar; the report in the folder grows with each run.

        Raises:
            Stopped: Ctrl-C or SIGTERM; what is finished is in the report.

        """
        if self._processes.leads:
            print(self.outlook, file=sys.stderr)
        self._processes.once(self._write)
        with self._bar() as bar:
            for plan in self.left:
                self._take(plan, carry_out, bar)
        self._processes.once(self._tidy)

    def tables(self) -> list[str]:
        """Return the table under its title; none while nothing is finished."""
        report = self._report()
        return [f"{report.title}\n\n{report.table()}"] if report.begun else []

    def refuse_failures(self) -> None:
        """Name the runs that failed.

        Raises:
            SupermaskError: there are some.

        """
        if self.failed:
            alike: dict[str, list[str]] = {}
            for name, sentence in self.failed.items():
                alike.setdefault(sentence.rstrip("."), []).append(name)
            named = "; ".join(f"{', '.join(names)} ({sentence})" for sentence, names in alike.items())
            raise SupermaskError(f"Failed, and taken up again by the same command: {named}.")

    def _take(self, plan: Planned, carry_out: Callable[[Planned], JobResult], bar: tqdm) -> None:
        bar.set_postfix_str(_label(plan))
        try:
            result = self.results[plan.name] = carry_out(plan)
        except SupermaskError as error:  # the others can go on
            self.failed[plan.name] = str(error)
            told = f"{_label(plan)} failed: {error}"
        except KeyboardInterrupt as stop:
            left = f"{len(self.left)} of {len(self._plans)} runs left"
            raise Stopped(f"{_label(plan)} {str(stop) or 'interrupted'}, {left}; the same command goes on") from None
        else:
            self._processes.once(self._write)
            told = f"{_label(plan)}: test accuracy {result.test.accuracy:.2%} ({result.seconds:.1f} s)"
        bar.update()
        if self._processes.leads:
            bar.write(told, file=sys.stderr)

    def _report(self) -> GridReport:
        done, runs = len(self.results), len(self._plans)
        return report_of(self._plans, self.results, self._title + f" ({done} of {runs} runs)" * (done < runs))

    def _write(self) -> None:
        report = self._report()
        if report.begun:
            report.write(self._out, "compare.json")

    def _tidy(self) -> None:
        """Drop the shared trainings once no run of the folder, of this comparison or of another, has use for them."""
        if all((config.parent / "result.json").exists() for config in self._out.glob("*/config.json")):
            shutil.rmtree(self.stages, ignore_errors=True)

    def _bar(self) -> tqdm:
        return tqdm(
            total=len(self._plans),
            initial=len(self.results),
            desc="compare",
            unit="run",
            disable=None if self._processes.leads else True,  # None: where standard error is no terminal
            dynamic_ncols=True,
        )


def _label(plan: Planned) -> str:
    density = plan.cell.density
    return f"{plan.job.method}{'' if density is None else f' density {density:g}'} seed {plan.job.seed}"
