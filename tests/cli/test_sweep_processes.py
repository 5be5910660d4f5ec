"""`supermask sweep` with real processes: preempted, killed and stopped runs go on to the same result."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from supermask.cli import main
from supermask.runs import Job, SearchOptions, run
from supermask.runs.cluster.executor import ClusterExecutor
from supermask.runs.planned import Planned
from supermask.training import Recipe, Stopped
from supermask.training.checkpoint import load_checkpoint

NAME = "edge_popup-lenet_300_100-synthetic-density0.2-seed0"
JOB = Job(
    data="synthetic",
    width=0.2,
    validation=0,
    recipe=Recipe(epochs=100, batch_size=50, best="auto"),
    search=SearchOptions(density=0.2),
)
COMMAND = [
    *("sweep", "--cluster", "local", "--data", "synthetic", "--width", "0.2", "--validation", "0"),
    *("--epochs", "100", "--batch-size", "50", "--checkpoint-seconds", "0.2"),
    *("--methods", "edge_popup", "--densities", "0.2", "--device", "cpu", "--out", "here"),
]
FILES = ("scores.safetensors", "network.ticket", "metrics.jsonl")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def tasks(folder):
    """Return the processes that carry out runs below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes()
            if b"submitit.core._submit" in command and os.fsencode(folder) in command:
                found.append(int(path.parent.name))
    return found


def signal_in_training(folder, *numbers):
    """Send each signal to the run once it has got further than its checkpoint, in a thread."""

    def send():
        seen = 0
        for number in numbers:
            while (step := _step(folder / NAME)) <= seen:
                time.sleep(0.02)
            seen = step
            for process in tasks(folder):
                os.kill(process, number)
            while number == signal.SIGUSR2 and b"Requeued" not in b"".join(_logs(folder)):
                time.sleep(0.02)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def _step(path):
    with suppress(OSError, ValueError):
        return load_checkpoint(path / "run.checkpoint")["step"]
    return 0


def _logs(folder):
    return [path.read_bytes() for path in folder.glob("logs/*/*.out")]


def test_a_run_in_a_process_of_its_own_is_the_run_in_this_one(tmp_path):
    assert main([*COMMAND, "--epochs", "2", "--seeds", "1"]) == 0
    run(replace(JOB, recipe=replace(JOB.recipe, epochs=2)), tmp_path / "whole", progress=False)
    for file in FILES:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "here" / NAME / file).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_run_that_was_preempted_and_then_killed_ends_as_if_nothing_had_happened(tmp_path, capsys):
    sender = signal_in_training(tmp_path / "here", signal.SIGUSR2, signal.SIGKILL)
    assert main([*COMMAND, "--seeds", "1"]) == 2
    sender.join()
    assert f"{NAME} failed" in capsys.readouterr().err
    assert not (tmp_path / "here" / NAME / "result.json").exists()
    killed_at = _step(tmp_path / "here" / NAME)
    assert killed_at > 0
    assert main([*COMMAND, "--seeds", "1"]) == 0
    run(JOB, tmp_path / "whole", progress=False)
    for file in FILES:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "here" / NAME / file).read_bytes()
    (log,) = {path.name for path in tmp_path.glob("here/logs/*/*.out") if b"Requeued" in path.read_bytes()}
    assert log.endswith("_log.out")


@pytest.mark.slow
@pytest.mark.parametrize("all_processes", [True, False])
def test_ctrl_c_stops_the_runs_after_they_have_saved_themselves(tmp_path, all_processes):
    """A terminal sends Ctrl-C to all processes in it, `kill -INT` to one."""
    command = [sys.executable, "-m", "supermask", *COMMAND, "--epochs", "100000", "--seeds", "2", "--jobs-at-once", "2"]
    command += ["--checkpoint-seconds", "10000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    folders = [tmp_path / "here" / NAME.replace("seed0", f"seed{seed}") for seed in (0, 1)]
    while not all((folder / "metrics.jsonl").exists() for folder in folders):
        time.sleep(0.1)
    (os.killpg if all_processes else os.kill)(process.pid, signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "stopped 2 runs under way (2 saved their state), 2 left in all; finished runs are kept" in error
    assert "Traceback" not in error
    assert tasks(tmp_path / "here") == []
    assert all(_step(folder) > 0 for folder in folders)
    assert json.loads((tmp_path / "here/submitted.json").read_text()) == {}


def test_what_stopped_runs_have_saved_is_looked_up_and_not_believed(tmp_path):
    killed = SimpleNamespace(exception=lambda: RuntimeError("no result"))
    ended = SimpleNamespace(exception=lambda: None)
    jobs = {"kept": ended, "early": ended, "killed": killed, "done": ended}
    running = [(Planned(JOB, tmp_path / name, "", ""), job) for name, job in jobs.items()]
    for plan, _ in running:
        plan.path.mkdir()
    for name in ("kept", "killed"):
        (tmp_path / name / "run.checkpoint").touch()
    (tmp_path / "done/config.json").write_text(json.dumps(JOB.config()))
    (tmp_path / "done/result.json").touch()
    forgotten = []
    queue, submissions = SimpleNamespace(stop=lambda jobs: None), SimpleNamespace(forget=forgotten.extend)
    with pytest.raises(Stopped) as stopped:
        ClusterExecutor(queue, running, None, submissions)._stop(7)
    assert str(stopped.value).startswith(
        "stopped 4 runs under way (1 saved its state, 1 had nothing to save yet, 1 ended without saving (killed),"
        " 1 just finished), 6 left in all"
    )
    assert forgotten == list(jobs)
