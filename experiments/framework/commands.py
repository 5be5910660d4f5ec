"""The commands `list`, `run` and `report` of `python -m experiments`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from experiments.framework.report import collect, write_report
from experiments.framework.runner import run_experiment
from experiments.registry import EXPERIMENTS, named_experiment
from supermask.cli.main import guarded, parse_command
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, refuse_no_folder
from supermask.report import table
from supermask.runs.device import checked_device

RUNS = Path("runs")
MOST_WORKERS = 256
"""Processes at once: each takes a gigabyte and a core."""


@dataclass(frozen=True)
class List:
    """List the experiments, and how many of their runs are finished or collected in results."""

    runs: Path = RUNS
    """Folder of the runs."""

    def __call__(self) -> None:
        """Print the list."""
        refuse_no_folder("--runs", self.runs)
        rows = []
        for name, experiment in EXPERIMENTS.items():
            planned = sum(len(group.tasks) for group in experiment.groups)
            done = sum(map(len, collect(experiment, self.runs).values()))
            rows.append([name, f"{done} of {planned}", "GPU" if experiment.needs_gpu else "CPU", experiment.title])
        print(table(["name", "runs", "needs", "what"], rows))


@dataclass(frozen=True)
class Run:
    """Carry out what is left of an experiment; Ctrl-C stops it, and the same command goes on."""

    name: Positional[str]
    """Which experiment; see list."""

    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""

    workers: int = 1
    """Runs at a time, each in a process of its own; on the CPU a process takes one thread."""

    data_folder: Path | None = None
    """Folder of the data sets; by default the one that SUPERMASK_DATA names, else ./data."""

    runs: Path = RUNS
    """Folder of the runs."""

    def __call__(self) -> None:
        """Run the experiment and report it."""
        experiment = named_experiment(self.name)
        refuse_no_folder("--runs", self.runs)
        device = checked_device(self.device)
        if experiment.needs_gpu and device == "cpu":
            print(f"{experiment.name} is made for a GPU; on the CPU it takes days.", file=sys.stderr)
        if not 1 <= self.workers <= MOST_WORKERS:
            raise SupermaskError(f"--workers {self.workers} is out of range; give from 1 to {MOST_WORKERS}.")
        with held(make_folder(self.runs / experiment.name)):
            failures = run_experiment(
                experiment, self.runs, device=device, workers=self.workers, data_folder=self.data_folder
            )
        if failures:
            raise SupermaskError(f"{len(failures)} runs of {experiment.name} failed, the first: {failures[0]}")
        print(write_report(experiment, self.runs))


@dataclass(frozen=True)
class Report:
    """Collect the finished runs of an experiment into its results file, its table and its plot."""

    name: Positional[str] = ""
    """Which experiment; all that have results if none is named."""

    runs: Path = RUNS
    """Folder of the runs."""

    def __call__(self) -> None:
        """Write and print the reports."""
        refuse_no_folder("--runs", self.runs)
        if self.name:
            print(write_report(named_experiment(self.name), self.runs))
            return
        for experiment in EXPERIMENTS.values():
            try:
                print(write_report(experiment, self.runs))
            except SupermaskError as error:
                print(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    commands = {"list": List, "run": Run, "report": Report}
    given = sys.argv[1:] if arguments is None else arguments
    description = "Published tables and figures, measured again."
    return guarded("experiments", lambda: parse_command("python -m experiments", description, commands, given))
