"""Stopping between two steps: Ctrl-C and a cluster's SIGTERM ask, and the loop answers when its state is whole."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar

from supermask.training.processes import Processes

ECHO = 5.0
"""Seconds in which another signal is taken for the first one, passed on by a launcher that got it too."""
REACTION = 0.5
"""Seconds that may pass between two agreements of several processes."""


class StopRequest:
    """Context in which the first SIGINT or SIGTERM only sets `asked`; a second one is let through at once.

    Args:
        forwarded: whether the signal may come twice, as Ctrl-C under torchrun does: once from the terminal and once
            from torchrun; only one that comes seconds later is then a second one.

    Attributes:
        asked: whether a signal came.
        listening: how many of these contexts the process is in: while there are any, a signal is answered by them.

    """

    listening: ClassVar[int] = 0

    def __init__(self, *, forwarded: bool = False) -> None:
        self.asked = False
        self._forwarded = forwarded
        self._first = -math.inf
        self._before: dict[int, Any] = {}
        self._listens = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
            self._listens = True
            StopRequest.listening += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        StopRequest.listening -= self._listens
        self._listens = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        # monotonic, because the clock of the day can be set back
        first, now = not self.asked, time.monotonic()
        self.asked = True
        if first:
            self._first = now
        # the handlers from before are back, so that the next signal ends the process as usual
        if not self._forwarded:
            self._restore()
        elif now - self._first > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Context whose child processes do not see the terminal's Ctrl-C, which this process answers for all of them.

    A child that is just being started would answer it by a traceback, and submitit's controller by killing its run a
    second later, which may be in the middle of a save.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    # a child process inherits which signals are blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stopped(KeyboardInterrupt):
    """The run was asked to stop; its checkpoint was written."""


class Pace:
    """When several processes ask each other whether to stop or to save: about twice a second, after the same steps.

    A process alone asks itself after each step.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        # the first step measures the pace, and all ask each other after it
        self._steps = self._left = 1
        self._since = time.monotonic()

    def agreed(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Return whether all stop and whether all save now; call it once after each step with what this one wants."""
        if self._processes.alone:
            return stop, save
        self._left -= 1
        if self._left:
            return False, False
        now = time.monotonic()
        pace = (now - self._since) / self._steps
        # the slowest sets the pace of all, because all must ask after the same step
        stopping, saving, slowest = self._processes.greatest(stop, save, pace)
        # 1e-3 s a step at least: no division by 0, and no more than 500 steps without a question
        self._since, self._steps = now, max(1, int(REACTION / max(slowest, 1e-3)))
        self._left = self._steps
        return bool(stopping), bool(saving)
