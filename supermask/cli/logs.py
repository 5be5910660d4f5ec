"""`--log`: where the numbers of the evaluations are written besides metrics.jsonl."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from supermask.runs import Job
from supermask.training import Listener, TensorBoard, WeightsAndBiases

LogName = Literal["tensorboard", "wandb"]
Logs = Annotated[
    tuple[LogName, ...],
    UseAppendAction,
    arg(help="Write the evaluations for TensorBoard or to Weights & Biases too."),
]
"""The type of a command's field that names them."""


def listeners(logs: Iterable[LogName], job: Job, out: Path) -> list[Listener]:
    """Return what writes the evaluations of a job.

    Args:
        logs: names; each counts once.
        job: what is done.
        out: the folder of the run, in which the files are.

    Raises:
        SupermaskError: a package is not installed.

    """
    made: dict[LogName, Listener] = {}
    for name in logs:
        made[name] = TensorBoard(out / "tensorboard") if name == "tensorboard" else _wandb(job, out)
    return [*made.values()]


def _wandb(job: Job, out: Path) -> Listener:
    # wandb's own variable, which an argument would overrule
    project = os.environ.get("WANDB_PROJECT", "supermask")
    return WeightsAndBiases(out, project=project, name=f"{job.slug}-{job.slug_of_seeds}", config=job.settled().config())
