"""A job as submitit carries it to another process: it saves itself when the cluster takes the machine away."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from supermask.runs import Job, run
from supermask.runs.device import checked_device
from supermask.training import Stopped

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class ClusterJob:
    """A job with its folder and what it computes with; calling it carries it out, from its checkpoint if there is one.

    Attributes:
        job: what to do.
        path: the folder of the run, absolute.
        device: where to train; "auto" is resolved where the job runs.
        data_folder: where the data sets lie, absolute; None is what `supermask.data.load` says.
        threads: of PyTorch on the CPU.
        checkpoint_seconds: time between checkpoints.
        ends_on_sigterm: whether SIGTERM ends it. Under Slurm it only announces that the job will be preempted or
            cancelled, and a job that ended by itself then would not be queued again.
        started_by: the process with whose end, killed perhaps, the job saves itself and ends too; None where it lives
            on by itself, as in a queue.

    """

    job: Job
    path: Path
    device: str = "auto"
    data_folder: Path | None = None
    threads: int = 1
    checkpoint_seconds: float = 60.0
    ends_on_sigterm: bool = True
    started_by: int | None = None

    def __call__(self) -> str | None:
        """Carry out the job; return None when it is finished, else after which step it was stopped."""
        torch.set_num_threads(self.threads)
        if self.started_by is not None:
            threading.Thread(target=_end_with, args=(self.started_by,), daemon=True).start()
        while True:
            with Notices(self.ends_on_sigterm) as notices:
                try:
                    self._run()
                    return None
                except Stopped as stop:
                    stopped = str(stop)
            notices.queue_again()
            if self.ends_on_sigterm:
                return stopped
            print(f"{stopped}, and saved; goes on until the cluster ends it", flush=True)

    def checkpoint(self) -> Any:
        """Return what submitit is to submit again: the same, for the state is in the folder of the run."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self) -> None:
        run(
            self.job,
            self.path,
            device=checked_device(self.device),
            data_folder=self.data_folder,
            resume=True,
            checkpoint_seconds=self.checkpoint_seconds,
            progress=False,
        )


def _end_with(process: int) -> None:
    """Ask this process to save itself and end once another one is gone."""
    while _is_there(process):
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is someone's
        return True
    return True


class Notices:
    """Context in which the signals of a cluster make the training loop save itself between two steps and stop.

    submitit's own handler would end the process in the middle of a step; it is called after the loop has stopped.
    """

    def __init__(self, ends_on_sigterm: bool) -> None:
        self._ends_on_sigterm = ends_on_sigterm
        self._before: dict[int, Any] = {}
        self._again: Callable[[], None] | None = None

    def __enter__(self) -> "Notices":
        handlers = {signal.SIGTERM: self._on_sigterm, _requeue_signal(): self._on_requeue, signal.SIGALRM: self._ask}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def queue_again(self) -> None:
        """Hand over to submitit, which queues the job again and ends the process, if its signal was seen."""
        if self._again is not None:
            self._again()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Take what comes while the loop does not listen."""
        if self._ends_on_sigterm:
            self._keep_asking()

    def _on_requeue(self, number: int, frame: FrameType | None) -> None:
        self._again = lambda: self._before[number](number, None)
        self._keep_asking()

    def _keep_asking(self) -> None:
        """Ask at once and every second: before and after its steps the loop does not listen."""
        signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
        self._ask(signal.SIGALRM, None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) != self._on_sigterm:  # the loop is there, and was not asked yet
            signal.raise_signal(signal.SIGTERM)


def _requeue_signal() -> int:
    """Return the signal that says: save yourself, you are about to be queued again."""
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")  # the variable by which submitit chooses it
    return int(getattr(signal, f"SIG{name}"))
