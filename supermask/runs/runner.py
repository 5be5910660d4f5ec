"""The runner of several runs, and its executors: this process, a pool; `supermask.runs.cluster` has that of a cluster.

What is finished is left out before. An executor yields every run when it has ended, and raises `Stopped` after Ctrl-C.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.runs.planned import Planned
from supermask.training import Stopped

Run = Callable[[Planned[Any]], object]
"""Carries out one run in its folder, from where it was stopped."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and what went wrong; None where nothing did."""

    plan: Planned[Any]
    error: str | None = None


class Executor(Protocol):
    """Carries out runs."""

    def ends(self, plans: Sequence[Planned[Any]], show: Callable[[str], object]) -> Iterator[Ended]:
        """Carry out runs, and yield each when it has ended.

        Args:
            plans: not finished, in the order in which they are to start.
            show: shows in a few words what is going on.

        Raises:
            Stopped: Ctrl-C or SIGTERM; runs under way have saved themselves, or go on by themselves.

        """


def run_all(
    executor: Executor,
    left: Sequence[Planned[Any]],
    *,
    total: int,
    title: str,
    told: Callable[[Ended], str | None],
    shown: bool | None = True,
) -> list[Ended]:
    """Carry out runs; what is finished is not repeated, what was stopped goes on. Return those that failed.

    Args:
        executor: carries them out.
        left: those that are not finished.
        total: runs in all.
        title: of the progress bar.
        told: is called after each run, and returns a line to print on standard error, or None.
        shown: show the bar; None is where standard error is a terminal.

    Raises:
        Stopped: Ctrl-C or SIGTERM.

    """
    failed = []
    disable = None if shown is None else not shown
    done = total - len(left)
    with tqdm(total=total, initial=done, desc=title, unit="run", disable=disable, dynamic_ncols=True) as bar:
        for end in executor.ends(left, bar.set_postfix_str):
            if end.error is not None:
                failed.append(end)
            line = told(end)
            bar.update()
            if line is not None:
                bar.write(line, file=sys.stderr)
    return failed


@dataclass(frozen=True)
class Here:
    """One run after another in this process, or in the group of processes that train together.

    Attributes:
        run: carries out a run.
        total: runs in all, with those that are finished.

    """

    run: Run
    total: int

    def ends(self, plans: Sequence[Planned[Any]], show: Callable[[str], object]) -> Iterator[Ended]:
        """Carry out the runs one after another."""
        for place, plan in enumerate(plans):
            show(plan.title)
            try:
                self.run(plan)
            except SupermaskError as error:  # the others can go on
                yield Ended(plan, str(error))
            # Stopped is one too
            except KeyboardInterrupt as stop:
                left = f"{len(plans) - place} of {self.total} runs left"
                raise Stopped(f"{plan.title} {str(stop) or 'interrupted'}, {left}; the same command goes on") from None
            else:
                yield Ended(plan)


@dataclass(frozen=True)
class ProcessPool:
    """Processes of this machine, a run in each at a time.

    On the CPU each takes one thread, so that results do not depend on the number of cores.

    Attributes:
        run: carries out a run; it is pickled.
        workers: processes.
        device: that they compute on.

    """

    run: Run
    workers: int
    device: str

    def ends(self, plans: Sequence[Planned[Any]], show: Callable[[str], object]) -> Iterator[Ended]:
        """Carry out the runs, as many at a time as there are processes."""
        spawn = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half
        with ProcessPoolExecutor(
            self.workers, mp_context=spawn, initializer=_prepare, initargs=(self.device,)
        ) as processes:
            futures: dict[Future[str | None], Planned[Any]] = {
                processes.submit(attempt, self.run, plan): plan for plan in plans
            }
            try:
                for future in as_completed(futures):
                    show(futures[future].title)
                    yield Ended(futures[future], future.result())
            except KeyboardInterrupt:
                # waits for the runs under way, which save themselves on the same Ctrl-C
                processes.shutdown(cancel_futures=True)
                raise Stopped("stopped; the same command goes on") from None


_STOPPED = threading.Event()
"""Set in a worker process once Ctrl-C was seen: the pool hands out a run or two more before it ends."""

_RUNNING = threading.Lock()
"""Held in a worker process while it carries out a run."""


def _prepare(device: str) -> None:
    """Set up a worker process."""
    signal.signal(signal.SIGINT, lambda *_: _STOPPED.set())  # a run under way saves itself; between runs this is enough
    if device == "cpu":
        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker once the process that handed out its runs is gone, killed perhaps; a run saves itself first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)
        with _RUNNING:
            os._exit(1)  # the main thread waits for a run that never comes


def attempt(run: Run, plan: Planned[Any]) -> str | None:
    """Carry out one run in a worker process; return what went wrong."""
    if _STOPPED.is_set():
        return "stopped"
    with _RUNNING:
        try:
            run(plan)
        except SupermaskError as error:
            return str(error)
        except Stopped as stop:
            _STOPPED.set()
            return str(stop)
    return None
