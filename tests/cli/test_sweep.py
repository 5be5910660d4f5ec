"""`supermask sweep`: what is run, kept, refused and shown; the runs here are in this process."""

import json
import os
import pickle
import signal
import subprocess
import sys
import traceback

import cloudpickle
import numpy as np
import pytest
import submitit
import torch
from submitit.core.utils import JobPaths
from toy_method import Toy

from supermask import SupermaskError
from supermask.cli import main
from supermask.runs import METHODS
from supermask.runs.cluster import cluster_job, queues
from supermask.runs.cluster.executor import first_error
from supermask.runs.report import COLUMNS
from supermask.training.interrupts import deaf_to_ctrl_c

QUICK = ["--data", "synthetic", "--width", "0.2", "--epochs", "1", "--batch-size", "100", "--cluster", "local"]
GRID = ["--methods", "edge_popup,dense", "--densities", "0.2,0.5", "--seeds", "2", "--out", "here"]
HEADER = ["method", "density", *COLUMNS]


class InProcess:
    """Stands for submitit.LocalExecutor: a task is pickled, and carried out at once; a job ends after some looks."""

    submitted: list[str]
    looks = 1

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def update_parameters(self, **parameters):
        InProcess.parameters = parameters

    def submit(self, task):
        InProcess.submitted.append(task.path.name)
        InProcess.parameters_of[task.path.name] = InProcess.parameters
        job = InProcessJob(self.folder, str(10**7 + len(InProcess.submitted)), InProcess.looks)
        InProcess.jobs.append(job)
        try:
            pickle.loads(cloudpickle.dumps(task))()
        except Exception:
            job.paths.stderr.write_text(traceback.format_exc())
        return job


class InProcessJob:
    def __init__(self, folder, job_id, looks):
        self.job_id, self.paths, self._looks = job_id, JobPaths(folder, job_id, 0), looks

    def done(self):
        self._looks -= 1
        return self._looks < 0

    @property
    def state(self):
        return "RUNNING" if self._looks > 0 else "FINISHED"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, blank_plots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)


@pytest.fixture(autouse=True)
def executor(monkeypatch):
    InProcess.submitted, InProcess.jobs, InProcess.parameters_of, InProcess.looks = [], [], {}, 1
    monkeypatch.setattr(submitit, "LocalExecutor", InProcess)
    monkeypatch.setattr(queues.Local, "poll_seconds", 0.0)
    return InProcess


def status(*arguments):
    """Return the exit status of the command line."""
    try:
        return main(["sweep", *arguments])
    except SystemExit as end:
        return end.code


def table_of(shown):
    """Return the cells of the table below its header."""
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_grid_ends_in_one_table_a_plot_and_json(tmp_path, executor, capsys):
    assert status(*QUICK, *GRID) == 0
    shown = capsys.readouterr()
    assert len(executor.submitted) == len(set(executor.submitted)) == 2 * (2 + 1)
    rows = table_of(shown.out)
    assert [row[:2] for row in rows] == [["edge_popup", "0.2"], ["edge_popup", "0.5"], ["dense", "-"]]
    results = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "here").glob("*/result.json")}
    assert set(results) == set(executor.submitted)
    written = json.loads((tmp_path / "here/sweep.json").read_text())["rows"]
    assert len(written) == len(rows) == 3
    for values, row in zip(written, rows, strict=True):
        accuracies = [results[name]["test"]["accuracy"] for name in values["runs"]]
        assert values["test_accuracy"] == pytest.approx(np.mean(accuracies))
        assert values["n"] == len(accuracies) == 2
        assert row[HEADER.index("n")] == "2"
        assert row[HEADER.index("test accuracy")].startswith(f"{100 * np.mean(accuracies):.2f} ±")
        # Student's t for one degree of freedom; the standard error of two values is half their distance
        assert values["half_width"] == pytest.approx(12.7062 * abs(accuracies[0] - accuracies[1]) / 2, rel=1e-4)
        first = results[next(iter(values["runs"]))]
        assert values["seconds"] == pytest.approx(np.mean([results[name]["seconds"] for name in values["runs"]]))
        assert values["bytes"] == max(results[name]["bytes"] for name in values["runs"])
        assert (values["kept"], values["prunable"]) == (first["kept"], first["prunable"])
    assert rows[0][HEADER.index("weights kept")] != rows[1][HEADER.index("weights kept")]
    assert "".join((tmp_path / "here/table.md").read_text().splitlines()[2:]) in "".join(shown.out.splitlines())
    assert (tmp_path / "here/accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "6 of 6 runs finished, 0 submitted, 0 failed" in shown.out
    assert "6/6" in shown.err


def test_finished_runs_are_kept_when_the_grid_grows_or_is_turned(executor):
    assert status(*QUICK, *GRID) == 0
    executor.submitted.clear()
    assert status(*QUICK, *GRID) == 0
    assert executor.submitted == []
    wider = ["--methods", "dense,edge_popup", "--densities", "0.5,0.7,0.2", "--seeds", "3", "--out", "here"]
    assert status(*QUICK, *wider) == 0
    assert sorted(executor.submitted) == [
        "dense-lenet_300_100-synthetic-seed2",
        "edge_popup-lenet_300_100-synthetic-density0.2-seed2",
        "edge_popup-lenet_300_100-synthetic-density0.5-seed2",
        *(f"edge_popup-lenet_300_100-synthetic-density0.7-seed{seed}" for seed in range(3)),
    ]


def test_another_recipe_is_refused_before_anything_is_submitted(tmp_path, executor, capsys):
    assert status(*QUICK, "--densities", "0.5", "--seeds", "1", "--out", "here") == 0
    executor.submitted.clear()
    files = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert status(*QUICK, *GRID, "--batch-size", "50") == 2
    error = capsys.readouterr().err
    assert "density0.5-seed0 holds another run: recipe.batch_size is 100 there and 50 now" in error
    assert executor.submitted == []
    assert {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "newton,dense"], "'newton'; known are edge_popup"),
        (["--methods", ","], "--methods is empty"),
        (["--models", "lenet"], "Unknown model 'lenet'"),
        (
            ["--width", "1", "--models", "lenet_300_100,torchvision:resnet18"],
            "does not take the 1x8x8 images",
        ),
        (["--data", "synthetic,minst"], "no data set 'minst'"),
        (["--data", "mnist", "--data-folder", "nowhere"], "nowhere"),
        (["--densities", "0.1,1.5"], "density=1.5 is out of range"),
        (["--densities", "0.1,much"], "'0.1,much' is not a list of numbers"),
        (["--densities", "0.0001", "--scope", "global"], "leaves none in"),
        (["--density", "0.1"], "--density"),
        (["--seeds", "0"], "--seeds 0 is too small"),
        (["--seed", "-1"], "seed=-1 is out of range"),
        (["--batch-size", "100000"], "batch_size=100000 is larger than"),
        (["--models", "lenet,conv2", "--data", "minst,synthetic"], "for 2 reasons: There is no data set 'minst'"),
        (["--jobs-at-once", "-1"], "--jobs-at-once -1 is negative"),
        (["--cpus", "0"], "--cpus 0 is out of range"),
        (["--gpus", "2"], "--gpus 2 does not fit: a run computes on one GPU"),
        (["--cpus", "100000"], "--cpus 100000 is out of range; give from 1 to 1,024"),
        (["--jobs-at-once", "999999"], "--jobs-at-once 999999 is too large"),
        (["--hours", "1e300"], "--hours 1e+300 is not a time limit; give up to 8,760, a year"),
        (["--memory-gb", "1e300"], "--memory-gb 1e+300 is not an amount of memory"),
        (["--hours", "0"], "--hours 0 is not a time limit"),
        (["--requeues", "-1"], "--requeues -1 is out of range"),
        (["--memory-gb", "nan"], "--memory-gb nan is not an amount"),
        (["--slurm", "qos"], "'qos' is not an option of sbatch; give NAME=VALUE"),
        (["--device", "cuda"], "--device cuda needs --gpus 1"),
        (["--no-wait"], "--no-wait needs Slurm"),
        (["--cluster", "pbs"], "pbs"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_submitted(arguments, says, executor, capsys):
    assert status(*QUICK, *arguments) == 2
    error = capsys.readouterr().err
    # the box of the message, whose lines wrap
    assert says in " ".join(error.replace("│", " ").replace("|", " ").split())
    assert "Traceback" not in error
    assert executor.submitted == []


def test_a_failed_run_is_named_with_its_log_and_the_others_go_on(tmp_path, executor, monkeypatch, capsys):
    def run_unless_dense(job, *arguments, **options):
        if job.method == "dense":
            raise SupermaskError("The loss is not finite at step 7: the training diverged; lower the learning rate.")
        return run(job, *arguments, **options)

    run = cluster_job.run
    monkeypatch.setattr(cluster_job, "run", run_unless_dense)
    assert status(*QUICK, *GRID) == 2
    shown = capsys.readouterr()
    log = executor.jobs[executor.submitted.index("dense-lenet_300_100-synthetic-seed0")].paths.stderr
    line = next(line for line in shown.err.splitlines() if "dense-lenet_300_100-synthetic-seed0 failed" in line)
    assert line.endswith(f"failed: The loss is not finite at step 7: the training diverged; lower the learning rate."
                         f" (log: {log.relative_to(tmp_path)})")  # fmt: skip
    assert shown.err.rstrip().endswith("supermask: 2 runs failed; the same command takes them up again.")
    assert "4 of 6 runs finished, 0 submitted, 2 failed." in shown.out
    assert len(table_of(shown.out)) == 2
    monkeypatch.setattr(cluster_job, "run", run)
    executor.submitted.clear()
    assert status(*QUICK, *GRID) == 0
    assert executor.submitted == [f"dense-lenet_300_100-synthetic-seed{seed}" for seed in (0, 1)]


@pytest.mark.parametrize(("asked", "most"), [("1", 1), ("3", 3), ("0", 2)])
def test_so_many_runs_at_once(asked, most, executor, monkeypatch):
    executor.looks = 3
    running = []

    def submit(self, task):
        job = submit_at_once(self, task)
        running.append(sum(job._looks >= 0 for job in InProcess.jobs))
        return job

    submit_at_once = InProcess.submit
    monkeypatch.setattr(InProcess, "submit", submit)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert status(*QUICK, *GRID, "--epochs", "0", "--jobs-at-once", asked, "--cpus", "2") == 0
    assert len(running) == 6
    assert max(running) == most


def test_each_run_at_the_same_time_has_a_gpu_of_its_own(executor, monkeypatch):
    executor.looks = 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert status(*QUICK, *GRID, "--epochs", "0", "--gpus", "1", "--device", "cpu") == 0
    given = [executor.parameters_of[name] for name in executor.submitted]
    assert {parameters["gpus_per_node"] for parameters in given} == {1}
    assert [parameters["visible_gpus"] for parameters in given[:2]] == [(4,), (6,)]
    assert {parameters["visible_gpus"] for parameters in given} == {(4,), (6,)}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert queues._visible_gpus() == [0, 1, 2]


def test_a_gpu_that_is_not_there_is_told(executor, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert status(*QUICK, "--gpus", "1") == 2
    assert "this machine has no GPU" in capsys.readouterr().err
    assert executor.submitted == []


def test_options_reach_the_runs(tmp_path, executor, monkeypatch):
    asked = []

    def record(job, path, **options):
        asked.append((job, options))
        return run(job, path, **options)

    run = cluster_job.run
    monkeypatch.setattr(cluster_job, "run", record)
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("SUPERMASK_DATA", "sets")
    options = ["--scope", "erk", "--no-scaled", "--weights", "uniform", "--ramp", "3", "--validation", "50"]
    more = ["--seed", "5", "--seeds", "1", "--cpus", "2", "--checkpoint-seconds", "7", "--device", "cpu"]
    assert status(*QUICK, "--methods", "edge_popup", "--densities", "0.2", *options, *more, "--out", "here") == 0
    ((job, given),) = asked
    config = json.loads((tmp_path / f"here/{executor.submitted[0]}/result.json").read_text())
    assert config["machine"]["threads"] == 2
    assert config["config"] == job.config()
    assert (job.seed, job.validation, job.width, job.recipe.epochs, job.recipe.batch_size) == (5, 50, 0.2, 1, 100)
    search = job.search
    assert (search.density, search.scope, search.scaled, search.weights, search.ramp) == (
        0.2,
        "erk",
        False,
        "uniform",
        3,
    )
    assert given["data_folder"] == tmp_path / "sets"
    assert (given["device"], given["checkpoint_seconds"], given["resume"]) == ("cpu", 7.0, True)
    monkeypatch.setenv("SUPERMASK_DATA", "elsewhere")
    assert status(*QUICK, "--methods", "edge_popup", "--densities", "0.3", "--data-folder", "sets", *more) == 0
    assert asked[1][1]["data_folder"] == tmp_path / "sets"


def test_options_of_a_method_reach_its_runs(tmp_path, executor, monkeypatch):
    monkeypatch.setitem(METHODS, Toy.name, Toy())
    more = ["--methods", "toy_rounds,dense", "--densities", "0.2", "--seeds", "1", "--initial", "uniform"]
    assert status(*QUICK, *more, "--toy-rounds.rounds", "0", "--out", "here") == 0
    configs = [json.loads((tmp_path / f"here/{name}/result.json").read_text())["config"] for name in executor.submitted]
    assert [config.get("options", {}).get("rounds") for config in configs] == [0, None]
    assert [config["initial"] for config in configs] == ["uniform", "uniform"]


def test_a_sweep_is_the_same_run_as_a_search(tmp_path, capsys):
    alone = ["--data", "synthetic", "--width", "0.2", "--epochs", "1", "--batch-size", "100", "--out", "alone"]
    assert main(["search", *alone, "--density", "0.2", "--threads", "1"]) == 0
    assert status(*QUICK, "--methods", "edge_popup", "--densities", "0.2", "--seeds", "1", "--out", "here") == 0
    name = "edge_popup-lenet_300_100-synthetic-density0.2-seed0"
    ticket = (tmp_path / "here" / name / "network.ticket").read_bytes()
    assert ticket == (tmp_path / "alone/network.ticket").read_bytes()


def test_a_dry_run_submits_nothing_and_shows_what_there_is(tmp_path, executor, capsys):
    assert status(*QUICK, *GRID, "--dry-run") == 0
    assert "0 of 6 runs finished" in capsys.readouterr().out
    assert status(*QUICK, *GRID, "--dry-run", "--models", "lenet") == 2
    assert executor.submitted == []
    assert status(*QUICK, "--methods", "dense", "--seeds", "1", "--out", "here") == 0
    capsys.readouterr()
    assert status(*QUICK, *GRID, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1 of 6 runs finished" in shown
    assert [row[0] for row in table_of(shown)] == ["dense"]


def test_runs_that_a_killed_command_left_behind_are_refused_while_they_go_on(tmp_path, executor, capsys):
    logs = tmp_path / "here/logs/1"
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(logs)])
    try:
        (tmp_path / "here").mkdir()
        name = "dense-lenet_300_100-synthetic-seed0"
        entry = {"cluster": "local", "job": str(process.pid), "logs": str(logs)}
        (tmp_path / "here/submitted.json").write_text(json.dumps({name: entry}))
        assert status(*QUICK, *GRID) == 2
        assert f"still go on in here; wait for them, or end them: kill {process.pid}." in capsys.readouterr().err
        assert executor.submitted == []
    finally:
        process.kill()
        process.wait()
    assert status(*QUICK, *GRID) == 0
    assert f"{name} failed: it left no log" in capsys.readouterr().err
    assert name in executor.submitted
    assert json.loads((tmp_path / "here/submitted.json").read_text()) == {}


def test_without_submitit_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(queues, "find_spec", lambda name: None)
    assert status(*QUICK) == 2
    assert capsys.readouterr().err == (
        "supermask: supermask sweep needs submitit; install it: python -m pip install 'supermask[cluster]'.\n"
    )


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("Traceback (most recent call last):\n  File\nsupermask.errors.DataError: No file.\n", "No file."),
        ("KeyError: 1\n\nDuring handling\n\nValueError: two\nlines\n", "ValueError: two"),
        (
            "some warning\nslurmstepd: error: Detected 1 oom_kill event\n\n",
            "slurmstepd: error: Detected 1 oom_kill event",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory.\n", "torch.OutOfMemoryError: CUDA out of memory."),
        ("\n", "its log is empty"),
        (None, "it left no log"),
    ],
)
def test_the_line_of_a_log_that_says_what_went_wrong(tmp_path, log, says):
    if log is not None:
        (tmp_path / "log").write_text(log)
    assert first_error(tmp_path / "log") == says


def test_the_child_of_a_submission_does_not_see_ctrl_c():
    script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with deaf_to_ctrl_c():
        child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert child.stdout == "True\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
