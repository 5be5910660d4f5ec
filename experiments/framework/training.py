"""Training jobs as tasks of experiments, and the columns of their tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Table
from supermask.baselines.heuristic import Heuristic
from supermask.baselines.searched_then_trained import SearchedThenTrained
from supermask.report import Mean, mean
from supermask.results import Result
from supermask.runs import METHODS, Job, JobResult, run
from supermask.runs.folder import STAGES
from supermask.search.algorithm import Algorithm


@dataclass(frozen=True)
class Training:
    """A job with one seed."""

    kind: ClassVar[type[Result]] = JobResult

    job: Job

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.job.seed}"

    def config(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return self.job.config()

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> JobResult:
        """Carry out the job, from its checkpoint where there is one; jobs of other densities share its stages."""
        options: dict[str, Any] = {"device": device, "data_folder": data_folder, "stages": path.parent / STAGES}
        return run(self.job, path, resume=True, progress=False, **options)


def trainings(job: Job, seeds: Iterable[int]) -> tuple[Training, ...]:
    """Return the job with each of the seeds."""
    return tuple(Training(replace(job, seed=seed)) for seed in seeds)


def accuracy(results: Sequence[JobResult]) -> Mean:
    """Return the mean test accuracy of a group's seeds."""
    return mean([result.test.accuracy for result in results])


def _is_ticket(method: Algorithm) -> bool:
    """Whether the ticket is all that has to be kept; of other methods trained weights would have to be kept too."""
    strong = method.rule is not None or isinstance(method, Heuristic)
    return strong and not isinstance(method, SearchedThenTrained)


def _table(
    kept: Callable[[Sequence[JobResult]], str], size: Callable[[Sequence[int]], int], note: str
) -> Table[JobResult]:
    """Return the columns of accuracy, weights kept, ticket bytes and seconds.

    Args:
        kept: writes the weights that a group's seeds keep.
        size: chooses among the bytes of the seeds.
        note: what these columns mean.

    """

    def row(results: Sequence[JobResult]) -> list[str]:
        is_ticket = _is_ticket(METHODS[results[0].config["method"]])
        ticket = f"{size([result.bytes for result in results]):,}" if is_ticket else "-"
        seconds = mean([result.seconds for result in results])
        return [accuracy(results).percent(), kept(results), ticket, f"{seconds.value:.0f}"]

    return Table(
        header=("test accuracy", "kept", "ticket bytes", "seconds"),
        row=row,
        note=(
            "Test accuracy: mean and 95 % interval (Student's t) over n seeds; the best step was chosen on the"
            f" validation split and the test set read once. {note}"
        ),
    )


ACCURACY = _table(
    lambda results: f"{results[0].kept:,}",
    lambda sizes: sizes[0],
    "Kept: weights. Seconds: mean per run, on a machine that did other work.",
)
"""The columns where all seeds keep the same number of weights; ticket bytes are those of the first."""

ACCURACY_AND_DENSITY = _table(
    lambda results: f"{mean([result.density for result in results]).value:.2%}",
    max,
    "Kept: mean fraction of the prunable weights. Ticket bytes: of the file, the largest of the seeds."
    " Seconds: mean per run, on a machine that did other work.",
)
"""The columns where the density is an outcome, or networks of different sizes are compared."""
