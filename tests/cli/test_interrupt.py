"""Ctrl-C in a terminal: the run saves itself, says how to go on, and goes on."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = [sys.executable, "-c", "import sys; from supermask.cli import main; sys.exit(main(sys.argv[1:]))"]
OPTIONS = ["--data", "synthetic", "--device", "cpu", "--threads", "1", "--out", "here", "--epochs", "100000"]


def stopped(command, metrics, folder):
    """Run a command until some time after a file is there, press Ctrl-C, and return what it says."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    while not (folder / metrics).exists() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped after step" in error
    assert "Traceback" not in error
    return error


@pytest.mark.slow
def test_ctrl_c_then_resume(tmp_path):
    command = [*PROGRAM, "search", *OPTIONS]
    error = stopped(command, "here/metrics.jsonl", tmp_path)
    assert "the same command with --resume goes on" in error
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2
    assert "add --resume" in again.stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_comparison_with_a_table_of_what_is_finished(tmp_path):
    command = [*PROGRAM, "compare", *OPTIONS, "--methods", "random_mask,dense", "--density", "0.1,0.5", "--seeds", "1"]
    error = stopped(command, "here/dense-lenet_300_100-synthetic-seed0/metrics.jsonl", tmp_path)
    assert error.rstrip().endswith("1 of 3 runs left; the same command goes on.")
    assert (tmp_path / "here/table.md").read_text().count("| random_mask |") == 2
    again = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.startswith("1 of 3 runs left: dense 1.")
