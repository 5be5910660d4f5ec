"""Training jobs as tasks of experiments, and the columns of their tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Table
from supermask.report import mean
from supermask.results import Result
from supermask.runs import Job, JobResult, run
from supermask.runs.folder import STAGES


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


_STRONG = ("edge_popup", "random_mask")
"""Methods whose ticket is the whole network; of the others, trained weights would have to be kept too."""


def _row(results: Sequence[JobResult]) -> list[str]:
    first = results[0]
    ticket = f"{first.bytes:,}" if first.config["method"] in _STRONG else "-"
    seconds = mean([result.seconds for result in results])
    accuracy = mean([result.test.accuracy for result in results])
    return [accuracy.percent(), f"{first.kept:,}", ticket, f"{seconds.value:.0f}"]


ACCURACY = Table(
    header=("test accuracy", "kept", "ticket bytes", "seconds"),
    row=_row,
    note=(
        "Test accuracy: mean and 95 % interval (Student's t) over n seeds; the best step was chosen on the validation"
        " split and the test set read once. Kept: weights. Seconds: mean per run."
    ),
)
