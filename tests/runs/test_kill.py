"""A run that is killed with SIGKILL, again and again, and resumed each time ends as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from supermask.runs import Job, run
from supermask.training import Recipe

# without validation examples the last step is kept, so that scores.safetensors holds the final scores
JOB = Job(data="synthetic", validation=0, recipe=Recipe(epochs=60, batch_size=50))


def _work(folder):
    import torch

    torch.set_num_threads(1)
    run(JOB, folder, resume=True, checkpoint_seconds=0.05, progress=False)


def _kill_at_random(context, folder, generator, seconds):
    """Start the run and kill it after a random time; return whether it had ended before."""
    process = context.Process(target=_work, args=(folder,))
    process.start()
    time.sleep(generator.uniform(0.0, seconds))
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return not alive


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, kills):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["supermask.runs"])
    began = time.monotonic()
    _work(tmp_path / "whole")
    whole_seconds = time.monotonic() - began
    generator = random.Random(0)
    # each life is short against the whole run, so that most kills fall into the training
    for _ in range(kills):
        _kill_at_random(context, tmp_path / "killed", generator, max(0.6, whole_seconds / 4))
    _work(tmp_path / "killed")
    for file in ("scores.safetensors", "network.ticket", "metrics.jsonl"):
        assert (Path(tmp_path) / "whole" / file).read_bytes() == (Path(tmp_path) / "killed" / file).read_bytes()
