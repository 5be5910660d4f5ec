"""The runner of several runs, and its executors: this process, a pool; `supermask.runs.cluster` has that of a cluster.

What is finished is left out before. An executor yields every run when it has ended, and raises `Stopped` after Ctrl-C.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol

import torch
from tqdm.auto import tqdm

from supermask.errors import SupermaskError, reason_of
from supermask.runs.folder import RunFolder
from supermask.runs.planned import Planned
from supermask.training import Stopped
from supermask.training.interrupts import StopRequest, deaf_to_ctrl_c

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

    On the CPU each takes one thread, so that results do not depend on the number of cores. A process that dies takes
    its own run with it and no other, and a new one takes its place.

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
        waiting, ended = deque(plans), 0
        free = [_Worker(self.run, self.device) for _ in range(min(self.workers, len(plans)))]
        workers, busy = list(free), dict[_Worker, Planned[Any]]()
        with StopRequest() as stop:
            try:
                while waiting or busy:
                    while free and waiting:
                        busy[free[-1]] = plan = waiting.popleft()
                        free.pop().begin(plan)
                    _ended_of(busy, _LOOK_SECONDS)
                    if stop.asked:
                        _stop(busy)
                        raise Stopped(stopped_text(list(busy.values()), len(plans) - ended))
                    for worker in _ended_of(busy, 0.0):
                        plan, error = busy.pop(worker), worker.result()
                        free.append(worker)
                        ended += 1
                        show(plan.title)
                        yield Ended(plan, error)
            finally:
                for worker in workers:
                    worker.end()


class _Worker:
    """A place of the pool: one process after another, each until it dies."""

    def __init__(self, run: Run, device: str) -> None:
        self._run, self._device = run, device
        self._process: BaseProcess | None = None
        self.pipe: Connection[Any, Any] | None = None

    def begin(self, plan: Planned[Any]) -> None:
        """Begin a run, in a new process if the one before has died."""
        if self.pipe is None:
            spawn = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half
            self.pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_work, args=(self._run, self._device, theirs))
            with deaf_to_ctrl_c():
                self._process.start()
            theirs.close()  # so that the pipe ends with the process
        with contextlib.suppress(BrokenPipeError):  # it has died, which `result` tells
            self.pipe.send(plan)

    def result(self) -> str | None:
        """Return what went wrong with a run that has ended."""
        assert self.pipe is not None
        assert self._process is not None
        try:
            error: str | None = self.pipe.recv()
            return error
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            self.end()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        why = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return f"its process {how}{why}; what it saved is kept, and the same command takes it up"

    def ask(self) -> None:
        """Ask the process to save its run and to end."""
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """End the process, which has nothing to do, or is not waited for."""
        if self._process is not None and self.pipe is not None:
            self.pipe.close()  # which ends it between two runs
            self._process.join(_ASK_SECONDS)
            self._process.kill()
            self._process.join()
        self._process = self.pipe = None


def _ended_of(busy: Collection[_Worker], seconds: float) -> list[_Worker]:
    """Return the workers whose run has ended; wait for the first for so many seconds."""
    ready = connection.wait([worker.pipe for worker in busy if worker.pipe is not None], seconds)
    return [worker for worker in busy if worker.pipe in ready]


def _stop(busy: Collection[_Worker]) -> None:
    """Let the runs under way save themselves and end, and wait for it."""
    # again and again: one that is between two parts of a run may not hear it
    while left := [worker for worker in busy if worker not in _ended_of(busy, 0.0)]:
        for worker in left:
            worker.ask()
        _ended_of(left, _ASK_SECONDS)


def stopped_text(stopped: Sequence[Planned[Any]], left: int, failed: Sequence[Planned[Any]] = ()) -> str:
    """Return what a command says that was stopped: what has ended, what is kept, and how to go on.

    Args:
        stopped: runs that were under way.
        left: how many are not finished, these among them.
        failed: those of them whose processes ended otherwise than by saving and stopping, killed perhaps.

    """
    ended = [plan for plan in stopped if plan.finished]
    wrong = [plan for plan in stopped if plan in failed and plan not in ended]
    saved = [plan for plan in stopped if plan not in ended and plan not in wrong and RunFolder(plan.path).begun]
    lost = len(stopped) - len(ended) - len(saved) - len(wrong)
    told = [f"{len(saved)} saved {'its' if len(saved) == 1 else 'their'} state"] if saved else []
    told += [f"{lost} had nothing to save yet"] if lost else []
    told += [f"{len(wrong)} ended without saving ({', '.join(plan.name for plan in wrong)})"] if wrong else []
    told += [f"{len(ended)} just finished"] if ended else []
    under_way = f" ({', '.join(told)})" if told else ""
    return (
        f"stopped {_runs(len(stopped))}{under_way}, {left - len(ended)} left in all; finished runs are kept, and the"
        " same command goes on"
    )


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'} under way"


_LOOK_SECONDS = 0.2
"""Between two looks of the pool at its processes, and at whether it was asked to stop."""

_ASK_SECONDS = 1.0
"""Between two requests to a process that has not ended yet."""

_STOPPED = threading.Event()
"""Set in a worker process once it was asked to stop: it begins no other run."""

_RUNNING = threading.Lock()
"""Held in a worker process while it carries out a run."""


def _work(run: Run, device: str, pipe: "Connection[Any, Any]") -> None:
    """Carry out runs in a worker process, which hears SIGTERM alone: a terminal's Ctrl-C is passed on as that."""
    signal.signal(signal.SIGTERM, _on_stop)
    if device == "cpu":
        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):  # the pool has let go
        while True:
            pipe.send(attempt(run, pipe.recv()))


def _on_stop(number: int, frame: FrameType | None) -> None:
    """Stop a run that is not in the training loop, which stops itself; what it has not written is computed again."""
    first = not _STOPPED.is_set()
    if not _RUNNING.locked():
        _STOPPED.set()
    # only once, because a second one could come while the first is being answered
    elif first and not StopRequest.listening:
        _STOPPED.set()
        raise Stopped("stopped")


def _end_with_parent() -> None:
    """End this worker once the process that handed out its runs is gone, killed perhaps; a run saves itself first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        while not _RUNNING.acquire(timeout=_ASK_SECONDS):
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)  # the main thread waits for a run that never comes


def attempt(run: Run, plan: Planned[Any]) -> str | None:
    """Carry out one run in a worker process; return what went wrong."""
    if _STOPPED.is_set():
        return "stopped"
    with _RUNNING:
        try:
            run(plan)
        except Stopped as stop:
            _STOPPED.set()
            return str(stop)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:  # a fault of the code, which keeps its traceback
                raise
            return reason
    return None
