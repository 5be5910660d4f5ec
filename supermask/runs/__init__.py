"""Runs: a job is what to do, a run is a folder that holds the job, its surroundings and its result."""

from supermask.results import Result
from supermask.runs.folder import RunFolder, recorded
from supermask.runs.job import Job, SearchOptions
from supermask.runs.methods import METHODS
from supermask.runs.result import JobResult
from supermask.runs.run_job import build_network, load_data, run

__all__ = [
    "METHODS",
    "Job",
    "JobResult",
    "Result",
    "RunFolder",
    "SearchOptions",
    "build_network",
    "load_data",
    "recorded",
    "run",
]
