"""Running an experiment: what is finished is not repeated, what was stopped goes on, what failed is named."""

from functools import partial
from pathlib import Path
from typing import Any

from experiments.framework.experiment import Experiment, Task
from supermask.runs.planned import Planned
from supermask.runs.runner import Ended, ProcessPool, run_all


def planned(experiment: Experiment[Any], runs: Path) -> list[Planned[Task]]:
    """Return all runs of an experiment: the first of every group before the second of any."""
    plans = [
        (place, Planned(task, runs / experiment.name / _slug(f"{row}-{task.name}"), f"{row} {task.name}", row))
        for row, tasks in ((group.label, group.tasks) for group in experiment.groups)
        for place, task in enumerate(tasks)
    ]
    return [plan for _, plan in sorted(plans, key=lambda pair: pair[0])]


def run_experiment(
    experiment: Experiment[Any], runs: Path, *, device: str, workers: int, data_folder: Path | None
) -> list[str]:
    """Carry out what is left of an experiment; return a line for each run that failed."""
    plans = planned(experiment, runs)
    left = [plan for plan in plans if not plan.finished]
    pool = ProcessPool(partial(run_task, device=device, data_folder=data_folder), workers, device)
    return [told(end) or "" for end in run_all(pool, left, total=len(plans), title=experiment.name, told=told)]


def told(end: Ended) -> str | None:
    """Return the line of a run that failed."""
    return None if end.error is None else f"{end.plan.title}: {end.error}"


def run_task(plan: Planned[Task], device: str, data_folder: Path | None) -> None:
    """Carry out one run."""
    plan.task.run(plan.path, device=device, data_folder=data_folder)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name.lower())
