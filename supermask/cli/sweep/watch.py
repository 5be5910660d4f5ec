"""Submitting the runs of a sweep, and waiting for them."""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from supermask.cli.options import relative
from supermask.cli.sweep.cluster import Local, Slurm
from supermask.cli.sweep.job import ClusterJob
from supermask.cli.sweep.submitted import Submitted
from supermask.runs.grid import Planned
from supermask.training import Stopped
from supermask.training.interrupts import StopRequest

if TYPE_CHECKING:
    import submitit

LARGEST_ARRAY = 1000
"""Jobs in one array: Slurm's MaxArraySize is 1001 where nobody changed it."""


class Watch:
    """The runs of a sweep that are not finished: those that wait, and those that were submitted.

    Args:
        where: that carries them out.
        waiting: not yet submitted.
        running: submitted, each with its job.
        task: what is submitted for a run, by whether SIGTERM ends it.
        submitted: remembers them for the next command.

    Attributes:
        running: submitted and not seen to end, each with its job.
        failed: a line for each run that ended without a result.

    """

    def __init__(
        self,
        where: Slurm | Local,
        waiting: Sequence[Planned],
        running: Sequence[tuple[Planned, "submitit.Job[Any]"]],
        task: Callable[[Planned, bool], ClusterJob],
        submitted: Submitted,
    ) -> None:
        self._where, self._waiting, self.running = where, list(waiting), list(running)
        self._task, self._submitted = task, submitted
        self.failed: list[str] = []

    def submit(self) -> None:
        """Submit as many runs as there is room for."""
        room = len(self._waiting)
        if self._where.at_once is not None:
            room = max(0, self._where.at_once - len(self.running))
        batch, self._waiting = self._waiting[:room], self._waiting[room:]
        for start in range(0, len(batch), LARGEST_ARRAY):
            self._submit(batch[start : start + LARGEST_ARRAY])

    def _submit(self, batch: Sequence[Planned]) -> None:
        for plan in batch:
            plan.claim()
        jobs = self._where.submit([self._task(plan, self._where.ends_on_sigterm) for plan in batch])
        self.running += zip(batch, jobs, strict=True)
        self._submitted.add(self._where.name, {plan.name: job for plan, job in zip(batch, jobs, strict=True)})

    def wait(self, runs: int) -> None:
        """Submit all and wait for their ends, behind a progress bar over all runs of the sweep.

        Raises:
            Stopped: Ctrl-C or SIGTERM; runs of this machine have saved themselves, others go on.

        """
        left = len(self._waiting) + len(self.running)
        with StopRequest() as stop, _bar(runs, runs - left) as bar:
            while self._waiting or self.running:
                self.submit()
                self._rest(stop)
                if stop.asked:
                    self._stop()
                self._collect(bar)

    def _collect(self, bar: tqdm) -> None:
        ended = [(plan, job) for plan, job in self.running if job.done()]
        self.running = [pair for pair in self.running if pair not in ended]
        for plan, job in ended:
            if seen_finished(plan):
                bar.update()
            else:
                self.failed.append(failure(plan, job))
                bar.write(self.failed[-1], file=sys.stderr)
        if ended:
            self._submitted.forget([plan.name for plan, _ in ended])
        running = sum(job.state == "RUNNING" for _, job in self.running)
        told = f"{running} running, {len(self.failed)} failed"
        bar.set_postfix_str(told, refresh=told != bar.postfix)

    def _rest(self, stop: StopRequest) -> None:
        """Sleep until the next look at the jobs: rarer the more there are, each look being a few reads of files."""
        until = time.monotonic() + self._where.poll_seconds + 0.01 * len(self.running)
        while time.monotonic() < until and not stop.asked:
            time.sleep(0.1)

    def _stop(self) -> None:
        told = self._where.stop([job for _, job in self.running])
        if self._where.ends_on_sigterm:
            self._submitted.forget([plan.name for plan, _ in self.running])
        raise Stopped(told)


def seen_finished(plan: Planned) -> bool:
    """Whether a run whose job has ended is finished, by a fresh look: a network file system may show an old one."""
    if plan.path.is_dir():
        os.listdir(plan.path)
    return plan.finished


def failure(plan: Planned, job: "submitit.Job[Any]") -> str:
    """Return the line that tells of a run that ended without a result."""
    log = job.paths.stderr
    return f"{plan.name} failed: {first_error(log)} (log: {relative(log)})"


def first_error(log: Path) -> str:
    """Return the line of a job's log that says what went wrong: the last exception, else the last line."""
    try:
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it left no log"
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    line = (raised or lines or ["its log is empty"])[-1]
    return re.sub(r"^supermask\.[\w.]+: ", "", line)


def _bar(runs: int, finished: int) -> tqdm:
    return tqdm(total=runs, initial=finished, desc="sweep", unit="run", dynamic_ncols=True)
