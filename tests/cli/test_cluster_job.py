"""A job in another process: every signal of a cluster ends in a saved run that goes on to the same result."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from supermask import SupermaskError
from supermask.runs import Job, run, run_job
from supermask.runs.cluster import cluster_job
from supermask.runs.cluster.cluster_job import ClusterJob
from supermask.training import Recipe, loop
from supermask.training.checkpoint import load_checkpoint
from supermask.training.loop import CHECKPOINT

JOB = Job(data="synthetic", width=0.2, recipe=Recipe(epochs=4, batch_size=100))
FILES = ("scores.safetensors", "network.ticket", "metrics.jsonl")


class Requeued(BaseException):
    """Stands for the exit of submitit's own handler."""


@pytest.fixture
def requeues(monkeypatch):
    """Put submitit's handlers in place: SIGTERM is ignored, SIGUSR2 ends the process; list what came to them."""
    seen = []

    def requeue(number, frame):
        seen.append(signal.Signals(number).name)
        raise Requeued

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: seen.append("SIGTERM")),
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, requeue),
    }
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def whole(tmp_path):
    """The folder of the run that nothing disturbed."""
    run(JOB, tmp_path / "whole", progress=False)
    return tmp_path / "whole"


def at_step(monkeypatch, step, *numbers):
    """Send this process signals in the middle of an optimizer step, once; return the list of all steps taken."""
    steps, train_step = [], loop._Run._train_step

    def interrupted(self):
        steps.append(self.step)
        if self.step == step and numbers and steps.count(step) == 1:
            for number in numbers:
                os.kill(os.getpid(), number)
        train_step(self)

    monkeypatch.setattr(loop._Run, "_train_step", interrupted)
    return steps


def assert_equal(whole, path):
    for file in FILES:
        assert (whole / file).read_bytes() == (path / file).read_bytes()
    assert not (path / CHECKPOINT).exists()


def test_sigterm_saves_and_ends_a_local_job_and_the_next_call_goes_on(tmp_path, monkeypatch, whole, requeues):
    steps = at_step(monkeypatch, 5, signal.SIGTERM)
    task = ClusterJob(JOB, tmp_path / "run")
    assert task() == "stopped after step 6 of 36"
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["step"] == 6
    assert task() is None
    assert steps == list(range(36))
    assert_equal(whole, tmp_path / "run")
    assert requeues == []


def test_a_local_job_saves_itself_and_ends_when_the_command_that_started_it_was_killed(
    tmp_path, monkeypatch, whole, requeues
):
    monkeypatch.setattr(cluster_job, "_LOOK_SECONDS", 0.01)
    command = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    train_step, steps = loop._Run._train_step, []

    def watched(self):
        steps.append(self.step)
        if len(steps) == 6:
            command.kill()
            command.wait()
        if len(steps) >= 6:
            time.sleep(0.05)  # long enough for a look
        train_step(self)

    monkeypatch.setattr(loop._Run, "_train_step", watched)
    task = ClusterJob(JOB, tmp_path / "run", started_by=command.pid)
    assert task().startswith("stopped after step ")
    assert 5 <= load_checkpoint(tmp_path / "run" / CHECKPOINT)["step"] < 36
    assert ClusterJob(JOB, tmp_path / "run", started_by=os.getpid())() is None
    assert_equal(whole, tmp_path / "run")


def test_sigterm_saves_a_slurm_job_which_goes_on(tmp_path, monkeypatch, whole, requeues, capsys):
    steps = at_step(monkeypatch, 5, signal.SIGTERM)
    assert ClusterJob(JOB, tmp_path / "run", ends_on_sigterm=False)() is None
    assert steps == list(range(36))
    assert "stopped after step 6 of 36, and saved; goes on" in capsys.readouterr().out
    assert_equal(whole, tmp_path / "run")


@pytest.mark.parametrize("numbers", [(signal.SIGUSR2,), (signal.SIGTERM, signal.SIGUSR2)])
@pytest.mark.parametrize("ends_on_sigterm", [True, False])
def test_preemption_is_handed_to_submitit_after_the_step(
    tmp_path, monkeypatch, whole, requeues, numbers, ends_on_sigterm
):
    steps = at_step(monkeypatch, 5, *numbers)
    task = ClusterJob(JOB, tmp_path / "run", ends_on_sigterm=ends_on_sigterm)
    with pytest.raises(Requeued):
        task()
    assert requeues == ["SIGUSR2"]
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["step"] == 6, "no step was lost"
    assert task.checkpoint().function == task
    assert task() is None
    assert steps == list(range(36))
    assert_equal(whole, tmp_path / "run")


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGUSR2, False), (signal.SIGTERM, True)])
def test_a_signal_before_the_first_step_is_not_lost(tmp_path, monkeypatch, whole, requeues, number, ends):
    load = run_job.load_data

    def load_data(*asked):
        os.kill(os.getpid(), number)
        return load(*asked)

    monkeypatch.setattr(run_job, "load_data", load_data)
    monkeypatch.setattr(loop._Run, "_train_step", _slowly(loop._Run._train_step))
    task = ClusterJob(JOB, tmp_path / "run", ends_on_sigterm=ends)
    if number == signal.SIGTERM:
        assert "stopped after step" in task()
    else:
        with pytest.raises(Requeued):
            task()
    monkeypatch.undo()
    assert task() is None
    assert_equal(whole, tmp_path / "run")


def _slowly(train_step):
    """Return a step that takes long enough for the loop to be asked again, which happens every second."""
    import time

    def step(self):
        time.sleep(0.1)
        train_step(self)

    return step


def test_sigterm_before_the_first_step_does_not_stop_a_slurm_job(tmp_path, monkeypatch, requeues, capsys):
    load = run_job.load_data
    monkeypatch.setattr(run_job, "load_data", lambda *asked: os.kill(os.getpid(), signal.SIGTERM) or load(*asked))
    monkeypatch.setattr(loop._Run, "_train_step", _slowly(loop._Run._train_step))
    assert ClusterJob(JOB, tmp_path / "run", ends_on_sigterm=False)() is None
    assert "stopped" not in capsys.readouterr().out


def test_handlers_and_timer_are_as_before_afterwards(tmp_path, requeues):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)]
    ClusterJob(JOB, tmp_path / "run")()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_another_signal_can_be_the_clusters(tmp_path, monkeypatch, requeues):
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    before = signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR2))
    at_step(monkeypatch, 5, signal.SIGUSR1)
    try:
        with pytest.raises(Requeued):
            ClusterJob(JOB, tmp_path / "run")()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert requeues == ["SIGUSR1"]


def test_threads_device_and_checkpoints_are_the_jobs(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state: saved.append(state["step"]))
    ClusterJob(JOB, tmp_path / "run", threads=2, checkpoint_seconds=0.0)()
    assert torch.get_num_threads() == 2
    assert saved[:36] == list(range(1, 37))
    with pytest.raises(SupermaskError, match="'tpu'"):
        ClusterJob(JOB, tmp_path / "run", device="tpu")()
