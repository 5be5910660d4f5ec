"""The executor of a cluster: it submits runs, and waits for them."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.files import relative
from supermask.runs.cluster.cluster_job import ClusterJob
from supermask.runs.cluster.queues import Local, Slurm
from supermask.runs.cluster.submissions import Submissions
from supermask.runs.planned import Planned
from supermask.runs.runner import Ended, stopped_text
from supermask.training import Stopped
from supermask.training.interrupts import StopRequest

if TYPE_CHECKING:
    import submitit

Submission = tuple[Planned[Any], "submitit.Job[Any]"]

LARGEST_ARRAY = 1000
"""Jobs in one array: Slurm's MaxArraySize is 1001 where nobody changed it."""


class ClusterExecutor:
    """Submits runs, and looks at their jobs until they have ended.

    Args:
        queue: that carries them out.
        running: those that were submitted before, each with its job.
        task: what is submitted for a run, by whether SIGTERM ends it.
        submissions: remembers them for the next command.

    Attributes:
        running: submitted and not seen to end, each with its job.

    """

    def __init__(
        self,
        queue: Slurm | Local,
        running: Sequence[Submission],
        task: Callable[[Planned[Any], bool], ClusterJob],
        submissions: Submissions,
    ) -> None:
        self._queue, self.running, self._task, self._submissions = queue, list(running), task, submissions

    def submit(self, waiting: Sequence[Planned[Any]]) -> list[Planned[Any]]:
        """Submit as many runs as there is room for, and return the others."""
        room = len(waiting)
        if self._queue.at_once is not None:
            room = max(0, self._queue.at_once - len(self.running))
        batch = waiting[:room]
        for start in range(0, len(batch), LARGEST_ARRAY):
            self._submit(batch[start : start + LARGEST_ARRAY])
        return list(waiting[room:])

    def ends(self, plans: Sequence[Planned[Any]], show: Callable[[str], object]) -> Iterator[Ended]:
        """Submit the runs that are not submitted yet, and wait for the ends of all.

        Raises:
            Stopped: Ctrl-C or SIGTERM; it says which runs of this machine have saved themselves; others go on.

        """
        submitted = {plan.name for plan, _ in self.running}
        waiting = [plan for plan in plans if plan.name not in submitted]
        failed, shown = 0, ""
        with StopRequest() as stop:
            while waiting or self.running:
                waiting = self.submit(waiting)
                self._rest(stop)
                if stop.asked:
                    self._stop(len(waiting) + len(self.running))
                for end in self._collect():
                    failed += end.error is not None
                    yield end
                running = sum(job.state == "RUNNING" for _, job in self.running)
                text = f"{running} running, {failed} failed"
                if text != shown:
                    show(text)
                shown = text

    def _submit(self, batch: Sequence[Planned[Any]]) -> None:
        for plan in batch:
            # before the job is submitted, so that its folder is taken when another command looks
            plan.claim()
        jobs = self._queue.submit([self._task(plan, self._queue.ends_on_sigterm) for plan in batch])
        self.running += zip(batch, jobs, strict=True)
        self._submissions.add(self._queue.name, {plan.name: job for plan, job in zip(batch, jobs, strict=True)})

    def _collect(self) -> list[Ended]:
        ended = [(plan, job) for plan, job in self.running if job.done()]
        self.running = [pair for pair in self.running if pair not in ended]
        if ended:
            self._submissions.forget([plan.name for plan, _ in ended])
        return [Ended(plan, None if seen_finished(plan) else failure(job)) for plan, job in ended]

    def _rest(self, stop: StopRequest) -> None:
        """Sleep until the next look at the jobs: rarer the more there are, each look being a few reads of files."""
        until = time.monotonic() + self._queue.poll_seconds + 0.01 * len(self.running)
        while time.monotonic() < until and not stop.asked:  # in short naps, so that Ctrl-C is answered at once
            time.sleep(0.1)

    def _stop(self, left: int) -> None:
        told = self._queue.stop([job for _, job in self.running])
        if told is None:  # the jobs have ended; what they say of themselves counts, and what lies in their folders
            plans = [plan for plan, _ in self.running]
            failed = [plan for plan, job in self.running if not seen_finished(plan) and job.exception() is not None]
            told = stopped_text(plans, left, failed)
            self._submissions.forget([plan.name for plan in plans])
        raise Stopped(told)


def seen_finished(plan: Planned[Any]) -> bool:
    """Whether a run whose job has ended is finished, by a fresh look: a network file system may show an old one."""
    if plan.path.is_dir():
        os.listdir(plan.path)
    return plan.finished


def failure(job: "submitit.Job[Any]") -> str:
    """Return why a job ended without a result, and where its log is."""
    log = job.paths.stderr
    return f"{first_error(log)} (log: {relative(log)})"


def first_error(log: Path) -> str:
    """Return the line of a job's log that says what went wrong: the last exception, else the last line."""
    try:
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it left no log"
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    line = (raised or lines or ["its log is empty"])[-1]
    return re.sub(r"^supermask\.[\w.]+: ", "", line)
