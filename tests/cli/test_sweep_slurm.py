"""`supermask sweep` under Slurm, of which only the commands are here, as small scripts that do what Slurm does."""

import json
import os
import pickle
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import submitit
from submitit.slurm.slurm import _make_sbatch_string

from supermask.cli import main
from supermask.runs.cluster import executor, queues
from supermask.runs.cluster.resources import Resources

QUICK = ["--data", "synthetic", "--width", "0.2", "--epochs", "1", "--batch-size", "100", "--cluster", "auto"]
GRID = ["--methods", "edge_popup,dense", "--densities", "0.2,0.5", "--seeds", "1", "--out", "here"]
NAMES = [
    "edge_popup-lenet_300_100-synthetic-density0.2-seed0",
    "edge_popup-lenet_300_100-synthetic-density0.5-seed0",
    "dense-lenet_300_100-synthetic-seed0",
]

SBATCH = """#!/bin/bash
[ -e "$FAKE/full" ] && { echo "sbatch: error: Batch job submission failed: no such partition" >&2; exit 1; }
id=$(date +%s%N)
echo $id >> "$FAKE/ids"
cp "$1" "$FAKE/$id.sh"
{ [ -e "$FAKE/runs" ] && setsid "$FAKE/slurmd" $id; } > "$FAKE/slurmd.log" 2>&1 < /dev/null &
echo "Submitted batch job $id"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for id in $(cat "$FAKE/ids"); do echo "${id}_[0-99]|$(cat "$FAKE/state")|n1"; echo "$id|$(cat "$FAKE/state")|n1"; done
"""
SLURMD = """#!/bin/bash
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$FAKE/$1.sh")
for index in $(seq 0 $last); do
  export SLURM_JOB_ID=$1$index SLURM_ARRAY_JOB_ID=$1 SLURM_ARRAY_TASK_ID=$index SLURM_PROCID=0 SLURM_LOCALID=0
  while bash "$FAKE/$1.sh"; [ -e "$FAKE/requeue_$1_$index" ]; do
    mv "$FAKE/requeue_$1_$index" "$FAKE/was_$1_$index"
  done
done
echo COMPLETED > "$FAKE/state"
"""
SRUN = """#!/bin/bash
name() { echo "$1" | sed "s/%A/$SLURM_ARRAY_JOB_ID/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%t/0/"; }
exec "${@:6}" >> "$(name "$3")" 2>> "$(name "$5")"
"""
SCONTROL = """#!/bin/bash
touch "$FAKE/requeue_$2"
"""


@pytest.fixture(autouse=True)
def slurm(tmp_path, monkeypatch):
    """The folder in which the scripts of a cluster keep what they were told."""
    folder = tmp_path / "slurm"
    (folder / "bin").mkdir(parents=True)
    scripts = {"sbatch": SBATCH, "sacct": SACCT, "srun": SRUN, "scontrol": SCONTROL, "../slurmd": SLURMD}
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / "state").write_text("PENDING")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queues.Slurm, "poll_seconds", 0.0)
    return folder


def status(*arguments):
    return main(["sweep", *arguments])


def batch_files(slurm):
    return [path.read_text() for path in sorted(slurm.glob("*.sh"))]


def submitted(tmp_path):
    """Return what Slurm is to carry out, by the name of the run."""
    tasks = [pickle.loads(path.read_bytes()).function for path in tmp_path.glob("here/logs/*/*_submitted.pkl")]
    return {task.path.name: task for task in tasks}


def test_a_grid_is_one_array_with_its_resources(tmp_path, slurm, capsys):
    resources = ["--cpus", "3", "--gpus", "1", "--hours", "1.5", "--memory-gb", "12.5", "--partition", "gpu"]
    more = ["--jobs-at-once", "2", "--slurm", "account=me", "mail-type=END", "--setup", "module load cuda", "--no-wait"]
    assert status(*QUICK, *GRID, *resources, *more) == 0
    (text,) = batch_files(slurm)
    lines = text.splitlines()
    for line in (
        "--array=0-2%2",
        "--cpus-per-task=3",
        "--gpus-per-node=1",
        "--time=90",
        "--mem=12800MB",
        "--partition=gpu",
        "--signal=USR2@120",
        "--account=me",
        "--mail-type=END",
        "--job-name=here",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}" in lines
    assert lines.index("module load cuda") < next(n for n, line in enumerate(lines) if line.startswith("srun"))
    tasks = submitted(tmp_path)
    assert sorted(tasks) == sorted(NAMES)
    assert all((task.threads, task.ends_on_sigterm, task.device) == (3, False, "auto") for task in tasks.values())
    assert all(task.path == tmp_path / "here" / name for name, task in tasks.items())
    assert "0 of 3 runs finished, 3 submitted, 0 failed." in capsys.readouterr().out


def test_what_is_not_asked_for_is_left_to_the_cluster():
    text = _make_sbatch_string("command", "folder", **Resources().for_slurm("here", 7), map_count=7)
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    for name in ("gpus", "mem", "partition", "account"):
        assert not any(line.startswith(f"#SBATCH --{name}") for line in lines)
    assert "#SBATCH --array=0-6%7" in lines
    assert "#SBATCH --time=240" in lines


def test_large_grids_are_several_arrays(slurm, monkeypatch):
    monkeypatch.setattr(executor, "LARGEST_ARRAY", 2)
    assert status(*QUICK, *GRID, "--seeds", "2", "--no-wait") == 0
    arrays = [line for text in batch_files(slurm) for line in text.splitlines() if "--array" in line]
    assert arrays == ["#SBATCH --array=0-1%2"] * 3


def test_the_number_of_requeues_is_handed_on(tmp_path):
    assert status(*QUICK, *GRID, "--requeues", "7", "--hours", "2", "--no-wait") == 0
    for path in tmp_path.glob("here/logs/*/*_submitted.pkl"):
        delayed = pickle.loads(path.read_bytes())
        assert (delayed._timeout_countdown, delayed._timeout_min) == (7, 120)


def test_runs_under_way_are_not_submitted_again_and_then_shown(tmp_path, slurm, capsys):
    assert status(*QUICK, *GRID, "--no-wait") == 0
    (slurm / "state").write_text("RUNNING")
    assert status(*QUICK, *GRID, "--no-wait") == 0
    assert len(batch_files(slurm)) == 1
    for task in submitted(tmp_path).values():
        task()
    (slurm / "state").write_text("COMPLETED")
    capsys.readouterr()
    assert status(*QUICK, *GRID) == 0
    shown = capsys.readouterr()
    assert "3 of 3 runs finished" in shown.out
    assert "failed" not in shown.err
    assert shown.out.count("| edge_popup |") == 2
    assert len(batch_files(slurm)) == 1


def test_other_options_for_runs_that_wait_in_the_queue_are_refused(tmp_path, slurm, capsys):
    assert status(*QUICK, *GRID, "--no-wait") == 0
    assert status(*QUICK, *GRID, "--no-wait", "--batch-size", "50") == 2
    assert "is being filled by a run with other options; give another --out" in capsys.readouterr().err
    assert len(batch_files(slurm)) == 1


def test_a_run_that_slurm_ended_is_named_and_submitted_again(tmp_path, slurm, capsys):
    assert status(*QUICK, *GRID, "--no-wait") == 0
    tasks = submitted(tmp_path)
    for name in NAMES[1:]:
        tasks[name]()
    (slurm / "state").write_text("OUT_OF_MEMORY")
    entry = json.loads((tmp_path / "here/submitted.json").read_text())[NAMES[0]]
    log = Path(entry["logs"]) / f"{entry['job']}_0_log.err"
    log.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.\n")
    says = f"{NAMES[0]} failed: slurmstepd: error: Detected 1 oom_kill event in StepId=1.0."
    assert status(*QUICK, *GRID, "--dry-run") == 2
    assert says in capsys.readouterr().err
    assert len(batch_files(slurm)) == 1
    assert status(*QUICK, *GRID, "--no-wait") == 0
    shown = capsys.readouterr()
    assert f"{says} (log: {log.relative_to(tmp_path)})" in shown.err
    assert "2 of 3 runs finished, 1 submitted, 0 failed." in shown.out
    assert len(batch_files(slurm)) == 2
    assert "--array" not in batch_files(slurm)[1]


def test_ctrl_c_leaves_the_runs_in_the_queue(tmp_path, slurm, monkeypatch, capsys):
    monkeypatch.setattr(
        executor.ClusterExecutor, "_rest", lambda self, stop: signal.raise_signal(signal.SIGINT)
    )  # the first look of the command at its jobs
    assert status(*QUICK, *GRID) == 130
    error = capsys.readouterr().err
    job = (slurm / "ids").read_text().strip()
    assert f"3 runs go on in Slurm (scancel {job} ends them); the same command shows how far they are." in error
    monkeypatch.undo()
    assert set(json.loads((tmp_path / "here/submitted.json").read_text())) == set(NAMES)


def test_what_slurm_refuses_is_told(slurm, capsys):
    (slurm / "full").write_text("")
    assert status(*QUICK, *GRID, "--partition", "nowhere") == 2
    error = capsys.readouterr().err
    assert "Slurm did not take the runs (sbatch: error: Batch job submission failed: no such partition)" in error


def test_slurm_that_is_not_there_is_told_and_auto_is_then_local(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(queues.shutil, "which", lambda name: None)
    assert status(*QUICK, *GRID, "--cluster", "slurm") == 2
    assert "there is no sbatch and srun here; give --cluster local" in capsys.readouterr().err
    assert isinstance(queues.cluster("auto", Resources(), tmp_path), queues.Local)


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path, slurm, capsys):
    """The scripts really carry out an array here; its first run gets SIGTERM and SIGUSR2, as when it is preempted."""
    (slurm / "runs").write_text("")
    (slurm / "state").write_text("RUNNING")
    long = [*QUICK, *GRID, "--epochs", "150", "--checkpoint-seconds", "1000", "--densities", "0.2"]

    def preempt():
        while not (tmp_path / "here" / NAMES[0] / "metrics.jsonl").exists():
            time.sleep(0.02)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"submitit.core._submit" in path.read_bytes() and os.fsencode(tmp_path) in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGTERM)
                    os.kill(int(path.parent.name), signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    assert status(*long) == 0
    thread.join()
    assert len(list(slurm.glob("was_*_0"))) == 1
    assert "2 of 2 runs finished" in capsys.readouterr().out
    alone = ["search", *QUICK[:-2], "--epochs", "150", "--density", "0.2", "--threads", "1", "--out", "alone"]
    assert main(alone) == 0
    for file in ("network.ticket", "metrics.jsonl", "scores.safetensors"):
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "here" / NAMES[0] / file).read_bytes()


def test_the_state_of_a_job_is_asked_for_once_for_all(tmp_path, slurm, monkeypatch):
    assert status(*QUICK, *GRID, "--no-wait") == 0
    calls = submitit.SlurmJob.watcher.num_calls
    assert status(*QUICK, *GRID, "--no-wait") == 0
    assert submitit.SlurmJob.watcher.num_calls - calls <= 1
