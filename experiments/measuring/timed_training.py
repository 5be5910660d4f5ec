"""A whole training, timed on one thread: from the data in memory to the last optimizer step."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.measuring.stopwatch import Clock, Elapsed, one_thread
from supermask.baselines.dense import Dense
from supermask.data import DataSet, Examples
from supermask.data.split import nothing_of
from supermask.results import Result, inlined
from supermask.runs import Job, build_network, load_data, recorded
from supermask.training import Outcome, Subject, train
from supermask.training.result import Scored

WARM_UP = 20
"""Optimizer steps of a run that is not timed: every loop is compiled by then, and every library loaded."""
_ANOTHER = 1_000_003
"""Away from the seeds of the runs that count."""


@dataclass(frozen=True, kw_only=True)
class TimedResult(Result):
    """A training and its time.

    Attributes:
        test: score after the last step on the test set, read once.
        steps: optimizer steps.
        elapsed: seconds of the training.

    """

    test: Scored
    steps: int
    elapsed: Elapsed = field(metadata=inlined())


@dataclass(frozen=True)
class TimedTraining:
    """A job of fixed length whose training is timed.

    The clock runs from the data in memory, the network not yet built, until the loop asks for the test set: it takes
    in the drawing of weights and scores, the batches and their normalisation, and every step. A run of `WARM_UP` steps
    with another seed comes first and is not timed.

    Attributes:
        job: without validation examples, so that the network of the last step is the one that is tested.

    """

    kind: ClassVar[type[Result]] = TimedResult

    job: Job

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.job.seed}"

    def config(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return self.job.config()

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> TimedResult:
        """Train on the CPU, whatever the device; it is not stopped half way."""
        return recorded(TimedResult, path, self.config(), lambda _: self._measure(data_folder), resume=True)

    def _measure(self, data_folder: Path | None) -> TimedResult:
        data = load_data(self.job, data_folder)
        with one_thread():
            _warm_up(self.job, data)
            outcome, elapsed = timed(self.job, data)
        return TimedResult(test=Scored.of(outcome.test), steps=outcome.steps, elapsed=elapsed)


def timed(job: Job, data: DataSet) -> tuple[Outcome, Elapsed]:
    """Carry out the training of a job; return what came of it, and how long it took until the test set was read."""
    clock, stopped = Clock(), list[Elapsed]()

    def read_test() -> Examples:
        stopped.append(clock.read())
        return data.read_test()

    outcome = _trained(job, replace(data, read_test=read_test))
    (elapsed,) = stopped
    return outcome, elapsed


def _warm_up(job: Job, data: DataSet) -> None:
    few = replace(job, seed=job.seed + _ANOTHER, recipe=replace(job.recipe, iterations=WARM_UP))
    # the test set is for the run that counts
    _trained(few, replace(data, read_test=lambda: nothing_of(data.train)))


def _trained(job: Job, data: DataSet) -> Outcome:
    return train(_subject(job, data), data, job.settled().recipe, seed=job.seed, progress=False)


def _subject(job: Job, data: DataSet) -> Subject:
    network, rule = build_network(job, data), job.algorithm.rule
    if rule is None:
        return Dense(network, seed=job.seed, weights=job.initial)
    return job.search.start(rule, network, job.seed, job.settled().recipe, job.recipe.steps(len(data.train)))
