"""What each run of a sweep gets."""

import math
import re
from dataclasses import dataclass
from typing import Any

from supermask.errors import SupermaskError

SIGNAL_SECONDS = 120
"""Seconds from the signal to the end of a Slurm job: a step, an evaluation and a checkpoint must fit in."""


@dataclass(frozen=True)
class Resources:
    """What each run gets.

    Attributes:
        jobs_at_once: runs at the same time (under Slurm: of every thousand); 0 is all under Slurm, and on this machine
            as many as fit with --cpus each.
        cpus: CPU cores of each run, which are also PyTorch's threads. Another number may change the last bits of a
            result.
        gpus: GPUs of each run: 0 or 1.
        hours: time limit of each run under Slurm; one that needs longer saves itself and is queued again.
        requeues: how often a run may reach that limit (Slurm).
        memory_gb: memory of each run in GB (Slurm); by default what the cluster gives.
        partition: of the cluster (Slurm); by default the cluster's own.
        slurm: further options of sbatch as NAME=VALUE, e.g. account=me qos=high constraint=a100.
        setup: shell commands before each run under Slurm, e.g. "module load cuda".

    """

    jobs_at_once: int = 0
    cpus: int = 1
    gpus: int = 0
    hours: float = 4.0
    requeues: int = 10
    memory_gb: float | None = None
    partition: str | None = None
    slurm: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs_at_once < 0:
            raise SupermaskError(f"--jobs-at-once {self.jobs_at_once} is negative; give a number of runs, or 0.")
        if self.cpus < 1:
            raise SupermaskError(f"--cpus {self.cpus} is too small; give at least one.")
        if self.gpus not in (0, 1):
            raise SupermaskError(f"--gpus {self.gpus} does not fit: a run computes on one GPU; give 0 or 1.")
        if not 0 < self.hours < math.inf:
            raise SupermaskError(f"--hours {self.hours:g} is not a time limit; give a positive number.")
        if self.requeues < 0:
            raise SupermaskError(f"--requeues {self.requeues} is negative; give 0 or more.")
        if self.memory_gb is not None and not 0 < self.memory_gb < math.inf:
            raise SupermaskError(f"--memory-gb {self.memory_gb:g} is not an amount of memory; give a positive number.")
        for option in self.slurm:
            if not re.fullmatch(r"[a-z][a-z-]*=.+", option):
                raise SupermaskError(f"--slurm {option!r} is not an option of sbatch; give NAME=VALUE, e.g. qos=high.")

    def for_slurm(self, name: str, runs: int) -> dict[str, Any]:
        """Return the parameters of submitit's Slurm executor for an array of so many runs."""
        return {
            "job_name": name,
            # in minutes, rounded up, so that no run gets less than was asked for
            "time": math.ceil(60 * self.hours),
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,  # none: some clusters refuse a request for 0
            "mem": None if self.memory_gb is None else f"{math.ceil(1024 * self.memory_gb)}MB",
            "partition": self.partition,
            "signal_delay_s": SIGNAL_SECONDS,
            # as many as the array has jobs is no limit
            "array_parallelism": self.jobs_at_once or runs,
            "setup": list(self.setup) or None,
            "additional_parameters": dict(option.split("=", 1) for option in self.slurm),
        }
