"""`supermask sweep`: a grid of runs on a cluster or on this machine, and one table."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes

from supermask.cli.options import DIGITS, relative
from supermask.cli.sweep.cluster import ClusterName, Local, Slurm, cluster, require_submitit
from supermask.cli.sweep.job import ClusterJob
from supermask.cli.sweep.report import rows_of, write_report
from supermask.cli.sweep.resources import Resources
from supermask.cli.sweep.submitted import Submitted
from supermask.cli.sweep.watch import Watch, failure
from supermask.data.folder import VARIABLE
from supermask.errors import SupermaskError
from supermask.files import make_folder
from supermask.runs import Job, SearchOptions
from supermask.runs.grid import Checks, Grid, Planned
from supermask.training import Recipe
from supermask.training.interrupts import StopRequest

if TYPE_CHECKING:
    import submitit


@dataclass(frozen=True)
class SearchBesidesDensity(SearchOptions):
    """How a mask is searched for."""

    density: Annotated[float, tyro.conf.Suppress] = 0.3  # the grid's --densities say it


@dataclass(frozen=True)
class Sweep:
    """Run every method on every model and data set at every density, several seeds each, and show one table.

    Under Slurm the runs are job arrays; elsewhere they are processes of this machine, a few at a time. The same command
    again goes on: finished runs are kept, those under way are waited for, all others are taken up from their
    checkpoints. With longer lists the grid grows.
    """

    methods: str = "edge_popup,dense"
    """Methods, separated by commas: edge_popup, dense, random_mask."""

    models: str = "lenet_300_100"
    """Networks, separated by commas: see supermask search --help."""

    width: float = 1.0
    """Factor on the hidden widths of the networks."""

    data: str = "digits"
    """Data sets, separated by commas: digits, mnist, fashion_mnist, cifar10, cifar100, synthetic."""

    validation: int | None = None
    """Examples held out of the training set to choose the best step; by default what is usual for the data set."""

    densities: str = "0.1,0.3,0.5"
    """Fractions of the prunable weights that are kept, separated by commas. The dense network is run once for all."""

    seeds: int = 3
    """Runs of each combination, with seeds from --seed on."""

    seed: int = 0
    """The first: of the weights, the scores, the validation split and the order of the examples."""

    recipe: OmitArgPrefixes[Recipe] = field(default_factory=lambda: DIGITS)

    search: OmitArgPrefixes[SearchBesidesDensity] = field(default_factory=SearchBesidesDensity)

    cluster: ClusterName = "auto"
    """Where to run: in the queue of Slurm, in processes of this machine (local), or auto: Slurm where there is one."""

    resources: OmitArgPrefixes[Resources] = field(default_factory=Resources)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where each run computes: auto (a GPU if it was given one by --gpus), cpu or cuda."""

    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints; one is written too when a run is stopped, preempted or out of time."""

    data_folder: Path | None = None
    """Folder of the data sets, seen from all machines; by default the one that SUPERMASK_DATA names, else ./data."""

    wait: bool = True
    """Wait for the runs behind a progress bar; --no-wait submits them to Slurm and returns."""

    dry_run: bool = False
    """Submit nothing: check every run, and show how far they are and the table of the finished ones."""

    out: Path = Path("runs/sweep")
    """Folder for the table, the plot, the logs and the runs, seen from all machines."""

    def __call__(self) -> None:
        """Submit what is not finished, wait for it, and show the table."""
        require_submitit()
        where = self._where()
        plans = self._plans()
        submitted = Submitted(make_folder(self.out))
        jobs = submitted.jobs()
        left = [plan for plan in plans if not plan.finished]
        running = [(plan, jobs[plan.name]) for plan in left if plan.name in jobs and not jobs[plan.name].done()]
        waiting = [plan for plan in left if plan not in [plan for plan, _ in running]]
        self._check(plans, waiting, running)
        ended = [failure(plan, jobs[plan.name]) for plan in waiting if plan.name in jobs]  # while nobody watched
        print("\n".join(ended), end="\n" if ended else "", file=sys.stderr)
        watch = Watch(where, waiting, running, self._task, submitted)
        if self.dry_run:
            watch.failed += ended
        elif self.wait:
            watch.wait(len(plans))
        else:
            with StopRequest():  # what was submitted must also be noted
                watch.submit()
        self._show(plans, watch)

    def _where(self) -> Slurm | Local:
        if self.device == "cuda" and not self.resources.gpus:
            raise SupermaskError("--device cuda needs --gpus 1; else the runs are given no GPU.")
        logs = self.out.absolute() / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}"  # process numbers come again
        where = cluster(self.cluster, self.resources, logs)
        if where.name == "local" and not self.wait:
            raise SupermaskError("--no-wait needs Slurm: here the command itself starts one run after another.")
        return where

    def _plans(self) -> list[Planned]:
        if self.seeds < 1:
            raise SupermaskError(f"--seeds {self.seeds} is too small; give at least one.")
        search = SearchOptions(**{part.name: getattr(self.search, part.name) for part in fields(SearchOptions)})
        grid = Grid(
            methods=_parts("--methods", self.methods),
            models=_parts("--models", self.models),
            data=_parts("--data", self.data),
            densities=_numbers("--densities", self.densities),
            seeds=range(self.seed, self.seed + self.seeds),
            base=Job(width=self.width, validation=self.validation, recipe=self.recipe, search=search),
        )
        return [Planned(job, self.out.absolute() / name) for name, job in grid.jobs().items()]

    def _check(
        self,
        plans: Sequence[Planned],
        waiting: Sequence[Planned],
        running: Sequence[tuple[Planned, "submitit.Job[Any]"]],
    ) -> None:
        """Find what would go wrong before anything is submitted."""
        for plan in plans:
            plan.check_folder()
        for plan, _ in running:
            plan.check_under_way()
        torch.set_num_threads(self.resources.cpus)  # the machine that submits is everyone's
        checks = Checks(self._data())
        jobs = {plan.cell: plan.job for plan in waiting}
        bar = tqdm(jobs.values(), desc="checking", unit="job", leave=False, disable=None)
        problems = list(dict.fromkeys(filter(None, map(checks.problem, bar))))
        if len(problems) > 1:
            listed = "; ".join(problem.rstrip(".") for problem in problems)
            raise SupermaskError(f"Nothing was submitted, for {len(problems)} reasons: {listed}.")
        if problems:
            raise SupermaskError(problems[0])

    def _task(self, plan: Planned, ends_on_sigterm: bool) -> ClusterJob:
        return ClusterJob(
            plan.job,
            plan.path,
            device=self.device,
            data_folder=self._data(),
            threads=self.resources.cpus,
            checkpoint_seconds=self.checkpoint_seconds,
            ends_on_sigterm=ends_on_sigterm,
        )

    def _data(self) -> Path | None:
        """Return the folder of the data sets as another machine finds it; None is the one in the current folder."""
        named = self.data_folder or os.environ.get(VARIABLE)
        return Path(named).expanduser().absolute() if named else None

    def _show(self, plans: Sequence[Planned], watch: Watch) -> None:
        rows = rows_of(plans)
        if rows:
            title = f"{self.models} on {self.data}, {self.seeds} seeds"
            print(f"\n{title}\n\n{write_report(rows, self.out, title)}\n")
        finished = sum(plan.finished for plan in plans)
        print(f"{finished} of {len(plans)} runs finished, {len(watch.running)} submitted, {len(watch.failed)} failed.")
        if rows:
            print(
                f"In {relative(self.out)}: table.md, accuracy.png, sweep.json, and a folder per run with its network."
            )
        if watch.failed:
            raise SupermaskError(f"{len(watch.failed)} runs failed; the same command takes them up again.")


def _parts(option: str, text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise SupermaskError(f"{option} is empty; give at least one name, several separated by commas.")
    return parts


def _numbers(option: str, text: str) -> tuple[float, ...]:
    parts = _parts(option, text)
    try:
        return tuple(dict.fromkeys(map(float, parts)))
    except ValueError:
        raise SupermaskError(f"{option} {text!r} is no list of numbers; separate them by commas.") from None
