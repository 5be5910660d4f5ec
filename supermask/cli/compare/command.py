"""The command: which runs there are, and the steps from their checks to what is shown."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from supermask import models
from supermask.cli.compare.comparison import ComparisonRun, refuse_failures
from supermask.cli.compare.judging import Suspect, judge_all, suspects_in, suspects_of, write_judged
from supermask.cli.compare.preset import asked_protocol, departures, preset
from supermask.cli.grid import GridOptions, check
from supermask.cli.method_options import MethodNames
from supermask.cli.options import Common, DataName, names_in, numbers_in
from supermask.data.own import is_own
from supermask.files import held, make_folder, relative
from supermask.runs import Job, JobResult, run
from supermask.runs.folder import STAGES
from supermask.runs.job import slug_of
from supermask.runs.planned import Planned
from supermask.runs.protocols import PROTOCOLS, REPORTED, named_protocol
from supermask.runs.runner import Ended, Here, run_all
from supermask.training.processes import joined

ProtocolName = Annotated[
    str,
    arg(help=f"Start from a published protocol, which is printed with its sources: {', '.join(PROTOCOLS)}."),
]


@dataclass(frozen=True)
class Compare(Common, GridOptions):
    """Compare methods on one network and one data set: by default a supermask, the dense network and a random mask.

    The runs are carried out one after another, each in a folder of its own. The same command again goes on where it was
    stopped: finished runs are read, an unfinished one is taken up from its checkpoint. With longer lists the comparison
    grows. The plot is of test accuracy by density or, with a single density, of validation accuracy over steps.
    """

    methods: MethodNames = "edge_popup,dense,random_mask"

    threads: int = 1
    """CPU threads; 0 leaves the number to PyTorch. With one, results are the same anywhere."""

    model: str = "lenet_300_100"
    """Network: see supermask search --help."""

    data: DataName = "digits"

    density: str = "0.3"
    """Fractions of the prunable weights that are kept, separated by commas."""

    protocol: ProtocolName = ""

    controls: bool = False
    """Judge the tickets by their controls too."""

    ticket: str | None = None
    """Files of tickets to judge by their controls instead."""

    dry_run: bool = False
    """Run nothing: check every run, and show what is finished."""

    out: Annotated[Path | None, arg(metavar="PATH")] = None
    """Folder for all of it; by default one below runs."""

    def __call__(self) -> None:
        """Run what is not finished, then show the table."""
        device = self.prepare()
        out = self.out or Path("runs", f"compare-{slug_of(self.model)}-{slug_of(self.data)}")
        if self.ticket is not None:
            seeds = range(self.seed, self.seed + self.seeds)
            self._judge(suspects_in(names_in("--ticket", self.ticket), seeds, out), out, device)
            return
        plans = self.plans(out, [self.model], [self.data], numbers_in("--density", self.density))
        title = f"{self.model} on {self.data}, {self.counted}"

        with joined(device) as processes, ExitStack() as hold:
            comparison = processes.once(lambda: self._begun(plans, out, title, hold))
            if self.dry_run:
                return
            here = Here(lambda plan: self._run(plan, device, out / STAGES), len(plans))

            def told(end: Ended) -> str | None:
                # every process calls once, also those that print nothing: all must call it in the same order
                line = processes.once(lambda: comparison.told(end))
                return line if processes.leads else None

            shown = None if processes.leads else False
            failed = run_all(here, comparison.left, total=len(plans), title="compare", told=told, shown=shown)
            processes.once(lambda: _show(comparison, out))
            refuse_failures(failed)
            if self.controls:
                self._judge(suspects_of(plans, out), out, device)

    def _begun(self, plans: Sequence[Planned[Job]], out: Path, title: str, hold: ExitStack) -> ComparisonRun:
        """Check every run, hold the folder and say what there is to do; a dry run ends here."""
        if self.protocol:
            print(f"{self._described(plans)}\n")
        comparison = ComparisonRun(plans, out, title)
        check(plans, comparison.left, self.data_folder)
        if self.dry_run:
            print("\n\n".join([comparison.outlook, *comparison.tables()]))
            return comparison
        hold.enter_context(held(make_folder(out)))
        print(comparison.outlook, file=sys.stderr)
        comparison.write()
        return comparison

    @classmethod
    def preset(cls, arguments: Sequence[str]) -> "Compare | None":
        """Return what the other options start from, where the arguments ask for a protocol."""
        name = asked_protocol(arguments)
        if name is not None and name in REPORTED:
            print(f"{REPORTED[name].describe()}\n")
        return None if name is None else cls(**preset(name))

    def _described(self, plans: Sequence[Planned[Job]]) -> str:
        """Return the protocol with its sources, and how the runs depart from it."""
        protocol = named_protocol(self.protocol)
        followed = [plan.task for plan in plans if plan.task.method == protocol.job.method]
        found = departures(protocol, followed[0]) if followed else ["its method is not among those compared"]
        if self.seeds != protocol.trials:
            found.append(f"seeds are {self.seeds}, not {protocol.trials}")
        departed = "\n".join(f"- {line}" for line in found) or "- nothing"
        return f"{protocol.describe()}\n\nDifferent here:\n\n{departed}"

    def _run(self, plan: Planned[Job], device: str, stages: Path) -> JobResult:
        return run(plan.task, plan.path, device=device, data_folder=self.data_folder, resume=True, stages=stages)

    def _judge(self, suspects: Mapping[str, Sequence[Suspect]], out: Path, device: str) -> None:
        """Run the controls that are left, and show the verdicts."""
        where: dict[str, Any] = {"device": device, "data_folder": self.data_folder, "validation": self.validation}
        # what tickets say of files and code is not believed, so that the user's own words stand for both
        where |= {"model": self.model} if models.is_code(self.model) else {}
        where |= {"data": self.data} if is_own(self.data) else {}
        where |= {"loss": self.loss} if self.loss else {}
        with joined(device) as processes, ExitStack() as hold:
            processes.once(lambda: hold.enter_context(held(make_folder(out))))
            judged = judge_all(suspects, self.recipe, **where)
            processes.once(lambda: print(f"\n{write_judged(judged, out)}\n\nIn {relative(out)}: {_FILES}"))


_FILES = "controls.md, controls.json, a plot of each group, and below controls a folder per run."


def _show(comparison: ComparisonRun, out: Path) -> None:
    comparison.tidy()
    for shown in comparison.tables():
        print(f"\n{shown}\n")
        print(f"In {relative(out)}: table.md, accuracy.png, compare.json, and a folder per run with its network.")
