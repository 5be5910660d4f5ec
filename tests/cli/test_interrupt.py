"""Ctrl-C in a terminal: the run saves itself, says how to go on, and goes on."""

import signal
import subprocess
import sys
import time

import pytest

COMMAND = [
    *(sys.executable, "-c", "import sys; from supermask.cli import main; sys.exit(main(sys.argv[1:]))"),
    *("search", "--data", "synthetic", "--device", "cpu", "--threads", "1", "--out", "here"),
]  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_then_resume(tmp_path):
    process = subprocess.Popen([*COMMAND, "--epochs", "100000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "here/metrics.jsonl").exists():
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped after step" in error
    assert "the same command with --resume goes on" in error
    assert "Traceback" not in error
    again = subprocess.run([*COMMAND, "--epochs", "100000"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2
    assert "add --resume" in again.stderr
