"""What each run of a sweep gets."""

import math
import re
from dataclasses import dataclass
from typing import Any

from supermask.errors import SupermaskError

MOST_CPUS = 1024
"""Cores of one run: more than any machine has."""
MOST_JOBS = 100_000
"""Runs at once, and times that one is queued again: more than any queue takes."""
MOST_HOURS = 8_760
"""Hours of a year; queues give days."""
MOST_MEMORY_GB = 100_000
"""More than any machine has."""
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
        if self.jobs_at_once > MOST_JOBS:
            raise SupermaskError(f"--jobs-at-once {self.jobs_at_once} is too large; give at most {MOST_JOBS:,}.")
        if not 1 <= self.cpus <= MOST_CPUS:
            raise SupermaskError(f"--cpus {self.cpus} is out of range; give from 1 to {MOST_CPUS:,}.")
        if self.gpus not in (0, 1):
            raise SupermaskError(f"--gpus {self.gpus} does not fit: a run computes on one GPU; give 0 or 1.")
        if not 0 < self.hours <= MOST_HOURS:
            raise SupermaskError(f"--hours {self.hours:g} is not a time limit; give up to {MOST_HOURS:,}, a year.")
        if not 0 <= self.requeues <= MOST_JOBS:
            raise SupermaskError(f"--requeues {self.requeues} is out of range; give from 0 to {MOST_JOBS:,}.")
        if self.memory_gb is not None and not 0 < self.memory_gb <= MOST_MEMORY_GB:
            raise SupermaskError(
                f"--memory-gb {self.memory_gb:g} is not an amount of memory; give up to {MOST_MEMORY_GB:,} GB."
            )
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
