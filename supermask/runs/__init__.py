"""Runs: a job is what to do, a run is a folder that holds the job, its surroundings and its result."""

from supermask.runs.carry_out import build_network, load_data, run
from supermask.runs.folder import Result, RunFolder, recorded
from supermask.runs.job import Job, SearchOptions
from supermask.runs.methods import METHODS

__all__ = ["METHODS", "Job", "Result", "RunFolder", "SearchOptions", "build_network", "load_data", "recorded", "run"]
