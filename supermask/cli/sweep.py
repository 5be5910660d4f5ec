"""`supermask sweep`: a grid of runs on a cluster or on this machine, and one table."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import OmitArgPrefixes, arg

from supermask.cli.grid import GridOptions, check
from supermask.cli.options import DATA_SETS, names_in, numbers_in
from supermask.data.folder import VARIABLE
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, relative
from supermask.runs import Job
from supermask.runs.cluster.cluster_job import ClusterJob
from supermask.runs.cluster.executor import ClusterExecutor, Submission, failure
from supermask.runs.cluster.queues import ClusterName, Local, Slurm, cluster, require_submitit
from supermask.runs.cluster.resources import Resources
from supermask.runs.cluster.submissions import Submissions
from supermask.runs.grid import read_results
from supermask.runs.planned import Planned
from supermask.runs.report import GridReport
from supermask.runs.runner import Ended, run_all
from supermask.training.checkpoint import check_seconds
from supermask.training.interrupts import StopRequest


@dataclass(frozen=True)
class Sweep(GridOptions):
    """Run every method on every model and data set at every density, several seeds each, and show one table.

    Under Slurm the runs are job arrays; elsewhere they are processes of this machine, a few at a time. The same command
    again goes on: finished runs are kept, those under way are waited for, all others are taken up from their
    checkpoints. With longer lists the grid grows.
    """

    models: str = "lenet_300_100"
    """Networks, separated by commas: see supermask search --help."""

    data: Annotated[str, arg(help=f"Data sets, separated by commas: {DATA_SETS}.")] = "digits"

    densities: str = "0.1,0.3,0.5"
    """Fractions of the prunable weights that are kept, separated by commas."""

    cluster: ClusterName = "auto"
    """Where to run: in the queue of Slurm, in processes of this machine (local), or auto: Slurm where there is one."""

    resources: OmitArgPrefixes[Resources] = field(default_factory=Resources)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where each run computes: auto (a GPU if it was given one by --gpus), cpu or cuda."""

    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints; a run that is stopped writes one too."""

    data_folder: Path | None = None
    """Folder of the data sets, seen from all machines; by default $SUPERMASK_DATA, else ./data."""

    wait: bool = True
    """Wait for the runs behind a progress bar; --no-wait submits them to Slurm and returns."""

    dry_run: bool = False
    """Submit nothing: check every run, and show what is finished."""

    out: Path = Path("runs/sweep")
    """Folder for everything, seen from all machines."""

    def __call__(self) -> None:
        """Submit what is not finished, wait for it, and show the table."""
        require_submitit()
        # a dry run may look on
        with nullcontext() if self.dry_run else held(make_folder(self.out)):
            self._run()

    def _run(self) -> None:
        check_seconds(self.checkpoint_seconds)
        where = self._where()
        models, data = names_in("--models", self.models), names_in("--data", self.data)
        plans = self.plans(self.out.absolute(), models, data, numbers_in("--densities", self.densities))
        submissions = Submissions(make_folder(self.out))
        jobs = submissions.jobs()
        left = [plan for plan in plans if not plan.finished]
        running = [(plan, jobs[plan.name]) for plan in left if plan.name in jobs and not jobs[plan.name].done()]
        waiting = [plan for plan in left if plan not in [plan for plan, _ in running]]
        self._check(plans, waiting, running)
        ended = [Ended(plan, failure(jobs[plan.name])) for plan in waiting if plan.name in jobs]  # while nobody watched
        for end in ended:
            print(_told(end), file=sys.stderr)
        executor, failed = ClusterExecutor(where, running, self._task, submissions), []
        if self.dry_run:
            failed = ended
        elif self.wait:
            failed = run_all(executor, left, total=len(plans), title="sweep", told=_told)
        else:
            with StopRequest():  # what was submitted must also be noted
                executor.submit(waiting)
        self._show(plans, len(executor.running), len(failed))

    def _where(self) -> Slurm | Local:
        if self.device == "cuda" and not self.resources.gpus:
            raise SupermaskError("--device cuda needs --gpus 1; else the runs are given no GPU.")
        logs = self.out.absolute() / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}"  # process numbers come again
        where = cluster(self.cluster, self.resources, logs)
        if where.name == "local" and not self.wait:
            raise SupermaskError("--no-wait needs Slurm: here the command itself starts one run after another.")
        return where

    def _check(
        self,
        plans: Sequence[Planned[Job]],
        waiting: Sequence[Planned[Job]],
        running: Sequence[Submission],
    ) -> None:
        """Find what would go wrong before anything is submitted."""
        torch.set_num_threads(self.resources.cpus)  # the machine that submits is everyone's
        check(plans, waiting, self._data())
        for plan, _ in running:
            plan.check_under_way()

    def _task(self, plan: Planned[Job], ends_on_sigterm: bool) -> ClusterJob:
        return ClusterJob(
            plan.task,
            plan.path,
            device=self.device,
            data_folder=self._data(),
            threads=self.resources.cpus,
            checkpoint_seconds=self.checkpoint_seconds,
            ends_on_sigterm=ends_on_sigterm,
            started_by=os.getpid() if ends_on_sigterm else None,
        )

    def _data(self) -> Path | None:
        """Return the folder of the data sets as another machine finds it; None is the one in the current folder."""
        named = self.data_folder or os.environ.get(VARIABLE)
        return Path(named).expanduser().absolute() if named else None

    def _show(self, plans: Sequence[Planned[Job]], submitted: int, failed: int) -> None:
        report = GridReport.of(plans, read_results(plans), f"{self.models} on {self.data}, {self.counted}")
        if report.begun:
            report.write(self.out, "sweep.json")
            print(f"\n{report.text()}\n")
        finished = sum(len(row.results) for row in report.begun)
        print(f"{finished} of {len(plans)} runs finished, {submitted} submitted, {failed} failed.")
        if report.begun:
            print(
                f"In {relative(self.out)}: table.md, accuracy.png, sweep.json, and a folder per run with its network."
            )
        if failed:
            raise SupermaskError(f"{failed} runs failed; the same command takes them up again.")


def _told(end: Ended) -> str | None:
    return None if end.error is None else f"{end.plan.name} failed: {end.error}"
