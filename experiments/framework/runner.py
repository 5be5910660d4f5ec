"""Running an experiment: what is finished is not repeated, what was stopped goes on, what failed is named."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.framework.experiment import Experiment, Task
from supermask.errors import SupermaskError
from supermask.runs import RunFolder
from supermask.training import Stopped


@dataclass(frozen=True)
class Planned:
    """One run of an experiment: its group's label, its place in the group, its task and its folder."""

    label: str
    place: int
    task: Task
    path: Path

    @property
    def title(self) -> str:
        """What a progress bar or a message calls it."""
        return f"{self.label} {self.task.name}"

    @property
    def finished(self) -> bool:
        """Whether its folder holds the result of this very task."""
        try:
            return RunFolder(self.path).finished and RunFolder.open(self.path, self.task.config(), resume=True).finished
        except SupermaskError:
            return False


def planned(experiment: Experiment, runs: Path) -> list[Planned]:
    """Return all runs of an experiment: the first of every group before the second of any."""
    plans = [
        Planned(group.label, place, task, runs / experiment.name / _slug(f"{group.label}-{task.name}"))
        for group in experiment.groups
        for place, task in enumerate(group.tasks)
    ]
    return sorted(plans, key=lambda plan: plan.place)


def run_experiment(
    experiment: Experiment, runs: Path, *, device: str, workers: int, data_folder: Path | None
) -> list[str]:
    """Carry out what is left of an experiment; return a line for each run that failed.

    On the CPU each worker process takes one thread, so that results do not depend on the number of cores.
    """
    left = [plan for plan in planned(experiment, runs) if not plan.finished]
    total = len(planned(experiment, runs))
    failures: list[str] = []
    with tqdm(total=total, initial=total - len(left), desc=experiment.name, unit="run", dynamic_ncols=True) as bar:
        for plan, error in _carry_out(left, device, workers, data_folder):
            bar.update()
            bar.set_postfix_str(plan.title)
            if error:
                failures.append(f"{plan.title}: {error}")
                tqdm.write(failures[-1])
    return failures


def _carry_out(
    plans: list[Planned], device: str, workers: int, data_folder: Path | None
) -> Iterator[tuple[Planned, str | None]]:
    """Yield each run when it has ended, with what went wrong."""
    spawn = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_prepare, initargs=(device,)) as pool:
        futures: dict[Future[str | None], Planned] = {
            pool.submit(_run_one, plan, device, data_folder): plan for plan in plans
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # waits for the runs under way, which save themselves on the same Ctrl-C
            raise Stopped("stopped; the same command goes on") from None


_STOPPED = threading.Event()
"""Set in a worker process once Ctrl-C was seen: the pool hands out a run or two more before it ends."""


def _prepare(device: str) -> None:
    """Set up a worker process."""
    signal.signal(signal.SIGINT, lambda *_: _STOPPED.set())  # a run under way saves itself; between runs this is enough
    if device == "cpu":
        torch.set_num_threads(1)


def _run_one(plan: Planned, device: str, data_folder: Path | None) -> str | None:
    """Carry out one run in a worker process; return what went wrong."""
    if _STOPPED.is_set():
        return "stopped"
    try:
        plan.task.run(plan.path, device=device, data_folder=data_folder)
    except SupermaskError as error:
        return str(error)
    except Stopped as stop:
        _STOPPED.set()
        return str(stop)
    return None


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name.lower())
