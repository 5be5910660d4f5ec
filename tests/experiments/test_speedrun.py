"""What the clock of the experiment takes in, and what its table says."""

import math
from dataclasses import replace

import pytest
import torch

from experiments.measuring import timed_training
from experiments.measuring.stopwatch import Clock, Elapsed
from experiments.measuring.timed_training import WARM_UP, TimedTraining, timed
from experiments.speedrun import DENSE, EXPERIMENT, LINE, SEARCH, chance_above
from supermask.data import load
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe

JOB = Job(
    data="synthetic", validation=0, seed=3, recipe=Recipe(epochs=2, batch_size=100), search=SearchOptions(density=0.5)
)
JOBS = [JOB, replace(JOB, method="dense")]


def watched(monkeypatch):
    """Return a list that takes in, in order, what happens in a run."""
    events = []

    def note(name, function):
        def noted(*arguments, **options):
            events.append(name)
            return function(*arguments, **options)

        return noted

    class Watch(Clock):
        def __init__(self):
            super().__init__()
            events.append("clock starts")

        def read(self):
            events.append("clock is read")
            return super().read()

    def load_data(job, folder):
        data = load(job.data, validation=job.validation, seed=job.seed)
        return replace(data, read_test=note("test set", data.read_test))

    monkeypatch.setattr(timed_training, "Clock", Watch)
    monkeypatch.setattr(timed_training, "load_data", note("data", load_data))
    monkeypatch.setattr(timed_training, "build_network", note("network", timed_training.build_network))
    monkeypatch.setattr(torch.optim.SGD, "step", note("step", torch.optim.SGD.step))
    return events


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.method)
def test_the_clock_runs_from_the_data_in_memory_to_the_last_step(job, tmp_path, monkeypatch):
    events = watched(monkeypatch)
    result = TimedTraining(job).run(tmp_path, device="cpu", data_folder=None)
    warm_up = ["data", "network", *["step"] * WARM_UP]
    counted = ["clock starts", "network", *["step"] * result.steps, "clock is read", "test set"]
    assert events == warm_up + counted
    assert result.steps == 2 * (len(load("synthetic", validation=0).train) // 100)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.method)
def test_the_network_is_that_of_the_ordinary_run_of_the_job(job, tmp_path):
    ordinary = run(job, tmp_path / "run", progress=False)
    found = TimedTraining(job).run(tmp_path / "timed", device="cpu", data_folder=None)
    assert found.test == ordinary.test
    assert 0 < found.elapsed.wall_seconds < 60
    assert 0 < found.elapsed.cpu_seconds < 60


def test_a_run_has_one_thread_and_leaves_the_others_theirs(tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr(timed_training, "train", counting(timed_training.train, threads))
    torch.set_num_threads(2)
    TimedTraining(JOB).run(tmp_path, device="cpu", data_folder=None)
    assert threads == [1, 1]
    assert torch.get_num_threads() == 2


def counting(train, threads):
    def counted(*arguments, **options):
        threads.append(torch.get_num_threads())
        return train(*arguments, **options)

    return counted


def test_the_clock_reads_what_has_passed_since_it_was_made(monkeypatch):
    wall, cpu = iter([10.0, 12.3456]), iter([5.0, 6.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(wall))
    monkeypatch.setattr("time.process_time", lambda: next(cpu))
    assert Clock().read() == Elapsed(2.346, 1.5)


def test_the_time_of_a_run_is_kept(monkeypatch):
    monkeypatch.setattr(timed_training.Clock, "read", lambda _: Elapsed(3.0, 2.0))
    _, elapsed = timed(JOB, load("synthetic", validation=0))
    assert elapsed == Elapsed(3.0, 2.0)


@pytest.mark.parametrize(("t", "p"), [(2.539, 0.01), (1.729, 0.05), (0.0, 0.5), (-1.729, 0.95)])
def test_the_chance_is_that_of_the_tables_for_20_runs(t, p):
    # deviation 0.001, so that the standard error of 20 runs is 0.001 / sqrt(20)
    spread = 0.001 * math.sqrt(19 / 20)
    centre = LINE + t * 0.001 / math.sqrt(20)
    assert chance_above([centre + spread, centre - spread] * 10) == pytest.approx(p, rel=1e-2)


def test_a_tiny_version_has_its_rows_and_its_plot(report, monkeypatch):
    monkeypatch.setattr(timed_training.Clock, "read", lambda _: Elapsed(3.0, 2.0))
    shown = report(EXPERIMENT, [TimedTraining(job) for job in JOBS])
    for label in (group.label for group in EXPERIMENT.groups):
        row = next(line for line in shown.splitlines() if line.startswith(f"| {label}"))
        assert [cell.strip() for cell in row.split("|")[4:8]] == ["20", "3.00", "2.00", "3.00"]
        assert f"{label}: 3.00 seconds" in shown
    assert "is not shown" in shown


def test_no_run_has_validation_examples_or_a_seed_of_the_tuning():
    jobs = [task.job for group in EXPERIMENT.groups for task in group.tasks]
    assert {job.validation for job in jobs} == {0}
    assert {job.seed for job in jobs} == set(range(20))
    assert SEARCH.model == DENSE.model
