"""A run that is killed with SIGKILL, again and again, and resumed each time ends as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from supermask.runs import Job, run
from supermask.runs.planned import Planned
from supermask.runs.runner import ProcessPool
from supermask.training import Recipe, Stopped
from supermask.training.checkpoint import load_checkpoint
from supermask.training.loop import CHECKPOINT

# without validation examples the last step is kept, so that scores.safetensors holds the final scores
JOB = Job(data="synthetic", validation=0, recipe=Recipe(batch_size=50))


def _work(folder, epochs):
    import torch

    torch.set_num_threads(1)
    job = replace(JOB, recipe=replace(JOB.recipe, epochs=epochs))
    run(job, folder, resume=True, checkpoint_seconds=0.02, progress=False)


def _kill_at_random(context, folder, epochs, generator):
    """Start the run and kill it at a random moment after it has written a checkpoint of its own; return the step."""
    checkpoint = folder / CHECKPOINT
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = context.Process(target=_work, args=(folder, epochs))
    process.start()
    while process.is_alive() and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
        time.sleep(0.005)
    time.sleep(generator.uniform(0.0, 0.1))
    assert process.is_alive(), "the run ended before it could be killed: make it longer"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return load_checkpoint(checkpoint)["step"]


def _told_run(plan):
    (plan.path.parent / f"{plan.name}.pid").write_text(str(os.getpid()))
    run(plan.task, plan.path, resume=True, progress=False)


def _plans(folder, count):
    long = replace(JOB, recipe=replace(JOB.recipe, epochs=100_000))
    return [Planned(replace(long, seed=seed), folder / f"seed{seed}", "", "") for seed in range(count)]


def _pool(folder):
    list(ProcessPool(_told_run, 2, "cpu").ends(_plans(folder, 2), lambda title: None))


def _alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def _until(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("sent", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_workers_whose_parent_was_killed_save_their_runs_and_end(tmp_path, sent):
    parent = multiprocessing.get_context("spawn").Process(target=_pool, args=(tmp_path,))
    parent.start()
    folders = [tmp_path / f"seed{seed}" for seed in range(2)]
    _until(lambda: all((folder / "metrics.jsonl").exists() for folder in folders))
    os.kill(parent.pid, sent)
    parent.join()
    pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
    _until(lambda: not any(map(_alive, pids)))
    assert all(load_checkpoint(folder / CHECKPOINT)["step"] > 0 for folder in folders)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_pool_that_is_stopped_says_what_is_kept_and_leaves_no_process_behind(tmp_path, sent):
    """`kill` sends a signal to one process, which has to pass it on."""

    def send():
        _until(lambda: all((tmp_path / f"seed{seed}" / "metrics.jsonl").exists() for seed in range(2)))
        os.kill(os.getpid(), sent)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Stopped) as stopped:
        list(ProcessPool(_told_run, 2, "cpu").ends(_plans(tmp_path, 3), lambda title: None))
    sender.join()
    assert str(stopped.value) == (
        "stopped 2 runs under way (2 saved their state), 3 left in all; finished runs are kept, and the same command"
        " goes on"
    )
    pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    assert not any(map(_alive, pids))
    assert all(load_checkpoint(tmp_path / f"seed{seed}" / CHECKPOINT)["step"] > 0 for seed in range(2))


def _first_dies(plan):
    if plan.name == "seed0":
        os.kill(os.getpid(), signal.SIGKILL)
    if plan.name == "seed1":
        raise OSError(28, "No space left on device", "/full")
    plan.path.mkdir()


def test_a_killed_process_takes_its_own_run_with_it_and_no_other(tmp_path):
    plans = _plans(tmp_path, 3)
    ends = list(ProcessPool(_first_dies, 1, "cpu").ends(plans, lambda title: None))
    assert [end.plan for end in ends] == plans
    assert [end.error for end in ends] == [
        "its process was killed by SIGKILL, perhaps for want of memory; what it saved is kept, and the same command"
        " takes it up",
        "Cannot read or write /full: No space left on device.",
        None,
    ]
    assert plans[2].path.exists()


@pytest.mark.parametrize(("kills", "epochs"), [(2, 30), pytest.param(20, 100, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, kills, epochs):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["supermask.runs"])
    _work(tmp_path / "whole", epochs)
    generator = random.Random(0)
    steps = [_kill_at_random(context, tmp_path / "killed", epochs, generator) for _ in range(kills)]
    assert steps == sorted(set(steps)), "every life went further than the one before"
    _work(tmp_path / "killed", epochs)
    for file in ("scores.safetensors", "network.ticket", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {
        path.name for path in (tmp_path / "killed").iterdir()
    }
