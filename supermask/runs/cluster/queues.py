"""Where the runs of a sweep are carried out: in the queue of Slurm, or in processes of this machine."""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from supermask.errors import SupermaskError, first_line
from supermask.runs.cluster.cluster_job import ClusterJob
from supermask.runs.cluster.resources import Resources
from supermask.training.interrupts import deaf_to_ctrl_c

if TYPE_CHECKING:
    import submitit

ClusterName = Literal["auto", "local", "slurm"]
_A_YEAR = 365 * 24 * 60  # minutes; submitit's local jobs must have a limit


class Slurm:
    """The queue of a cluster, in job arrays."""

    name = "slurm"
    ends_on_sigterm = False
    poll_seconds = 2.0

    def __init__(self, resources: Resources, logs: Path) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise SupermaskError("--cluster slurm: there is no sbatch and srun here; give --cluster local.")
        self._resources, self._logs = resources, logs

    @property
    def at_once(self) -> int | None:
        """How many runs may be submitted at the same time: any number; Slurm starts them when there is room."""
        return None

    def submit(self, tasks: Sequence[ClusterJob]) -> list["submitit.Job[Any]"]:
        """Submit the tasks as an array."""
        import submitit
        from submitit.core.utils import FailedJobError

        executor = submitit.SlurmExecutor(self._logs, max_num_timeout=self._resources.requeues)
        executor.update_parameters(**self._resources.for_slurm(self._logs.parent.parent.name, len(tasks)))
        try:
            with deaf_to_ctrl_c():
                return executor.submit_array(tasks)
        except FailedJobError as error:
            raise SupermaskError(f"Slurm did not take the runs ({first_line(error)}); give other resources.") from None

    def stop(self, jobs: Sequence["submitit.Job[Any]"]) -> str:
        """Leave the jobs alone, and return what to say about them."""
        # a job of an array is called ARRAY_PLACE, and the array's number ends all of them
        ids = " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))
        return f"{len(jobs)} runs go on in Slurm (scancel {ids} ends them); the same command shows how far they are"


class Local:
    """Processes of this machine, a few at a time."""

    name = "local"
    ends_on_sigterm = True
    poll_seconds = 0.2

    def __init__(self, resources: Resources, logs: Path) -> None:
        self._resources, self._logs = resources, logs
        self._gpus = _visible_gpus() if resources.gpus else []
        if resources.gpus and not self._gpus:
            raise SupermaskError("--gpus 1: this machine has no GPU that PyTorch can use; leave it out.")
        self._slots: dict[int, submitit.Job[Any]] = {}

    @property
    def at_once(self) -> int | None:
        """How many runs may be started at the same time."""
        fit = max(1, (os.cpu_count() or 1) // self._resources.cpus)
        return self._resources.jobs_at_once or (min(fit, len(self._gpus)) if self._gpus else fit)

    def submit(self, tasks: Sequence[ClusterJob]) -> list["submitit.Job[Any]"]:
        """Start the tasks."""
        return [self._start(task) for task in tasks]

    def stop(self, jobs: Sequence["submitit.Job[Any]"]) -> None:
        """Ask the jobs to save themselves and to end, and wait for it; their folders then tell what they did."""
        while left := [job for job in jobs if not job.done()]:
            for job in left:  # again and again: one that is just starting does not hear it
                os.kill(int(job.job_id), signal.SIGTERM)  # the controller, which passes it on
            time.sleep(0.5)

    def _start(self, task: ClusterJob) -> "submitit.Job[Any]":
        import submitit

        self._slots = {slot: job for slot, job in self._slots.items() if not job.done()}
        # the lowest free place, so that runs under way share the GPUs evenly
        slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
        executor = submitit.LocalExecutor(self._logs)
        gpus = (self._gpus[slot % len(self._gpus)],) if self._gpus else ()
        executor.update_parameters(timeout_min=_A_YEAR, gpus_per_node=len(gpus), visible_gpus=gpus)
        with deaf_to_ctrl_c():
            self._slots[slot] = executor.submit(task)
        return self._slots[slot]


def cluster(name: ClusterName, resources: Resources, logs: Path) -> Slurm | Local:
    """Return where to run: what was asked for, or Slurm where there is one.

    Raises:
        SupermaskError: it is not there.

    """
    if name == "auto":
        name = "slurm" if shutil.which("sbatch") and shutil.which("srun") else "local"
    return Slurm(resources, logs) if name == "slurm" else Local(resources, logs)


def require_submitit() -> None:
    """Refuse to go on without submitit.

    Raises:
        SupermaskError: it is not installed.

    """
    if find_spec("submitit") is None:
        raise SupermaskError("supermask sweep needs submitit; install it: python -m pip install 'supermask[cluster]'.")


def _visible_gpus() -> list[int]:
    """Return the numbers of the GPUs that this process may use, as the driver counts them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(part.strip().isdigit() for part in named):
        return [int(part) for part in named]
    return list(range(torch.cuda.device_count()))
