"""The harness: what is finished is not repeated, and a report says what is missing."""

import json
import sys
import threading
from dataclasses import dataclass, replace
from functools import partial

import pytest

from experiments.__main__ import main
from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.report import RESULTS, read_results, render, write_report
from experiments.framework.runner import planned, run_experiment, run_task
from experiments.framework.training import ACCURACY, Training, trainings
from experiments.registry import EXPERIMENTS, named_experiment
from supermask import SupermaskError
from supermask.results import Result
from supermask.runs import Job, SearchOptions, recorded, runner
from supermask.training import Recipe, Stopped

JOB = Job(data="synthetic", recipe=Recipe(epochs=1, batch_size=100))
HALF = replace(JOB, search=SearchOptions(density=0.5))


def drawn(results, path):
    path.write_text(",".join(results))


SMALL = Experiment(
    name="small",
    title="A small experiment",
    source="Nobody et al., table 0.",
    groups=(
        Group("dense", trainings(replace(JOB, method="dense"), (0, 1))),
        Group("density 0.5", trainings(HALF, (0, 1)), Published("99 %", "Table 0", "a guess")),
    ),
    table=ACCURACY,
    plot=drawn,
)


def carry_out(experiment, runs, monkeypatch):
    """Run an experiment in this process."""
    monkeypatch.setattr("experiments.framework.runner.ProcessPool", InThisProcess)
    return run_experiment(experiment, runs, device="cpu", workers=1, data_folder=None)


@dataclass(frozen=True)
class InThisProcess:
    """A pool that runs at once and here, so that tests need not start processes."""

    run: object
    workers: int
    device: str

    def ends(self, plans, show):
        return (runner.Ended(plan, runner.attempt(self.run, plan)) for plan in plans)


def test_a_report_puts_published_beside_measured(tmp_path, monkeypatch):
    assert carry_out(SMALL, tmp_path / "runs", monkeypatch) == []
    shown = write_report(SMALL, tmp_path / "runs", tmp_path / "results")
    assert "| density 0.5 |" in shown
    assert "99 %" in shown
    assert "Published: Table 0 (a guess)." in shown
    assert "±" in shown
    assert (tmp_path / "results/small.png").read_text() == "dense,density 0.5"
    stored = json.loads((tmp_path / "results/small.json").read_text())
    assert [result["config"]["seed"] for result in stored["results"]["dense"]] == [0, 1]
    for key in ("versions", "machine", "commit", "test", "seconds"):
        assert key in stored["results"]["dense"][0]


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    carry_out(SMALL, tmp_path, monkeypatch)
    monkeypatch.setattr("supermask.runs.runner.attempt", lambda *_: pytest.fail("ran again"))
    assert carry_out(SMALL, tmp_path, monkeypatch) == []


def test_a_changed_job_is_run_again_and_its_old_result_is_dropped(tmp_path, monkeypatch):
    carry_out(SMALL, tmp_path / "runs", monkeypatch)
    write_report(SMALL, tmp_path / "runs", tmp_path / "results")
    narrow = trainings(replace(JOB, method="dense", width=0.5), (0, 1))
    changed = replace(SMALL, groups=(replace(SMALL.groups[0], tasks=narrow),))
    assert not any(plan.finished for plan in planned(changed, tmp_path / "runs"))
    with pytest.raises(SupermaskError, match="No run of small is finished yet"):
        write_report(changed, tmp_path / "elsewhere", tmp_path / "results")


def test_a_report_without_the_folders_keeps_what_was_collected(tmp_path, monkeypatch):
    carry_out(SMALL, tmp_path / "runs", monkeypatch)
    first = write_report(SMALL, tmp_path / "runs", tmp_path / "results")
    assert write_report(SMALL, tmp_path / "nothing", tmp_path / "results") == first


def test_a_run_that_is_missing_shows(tmp_path, monkeypatch):
    some = (replace(SMALL.groups[0], tasks=SMALL.groups[0].tasks[:1]), replace(SMALL.groups[1], tasks=()))
    one = replace(SMALL, groups=some)
    carry_out(one, tmp_path / "runs", monkeypatch)
    shown = write_report(SMALL, tmp_path / "runs", tmp_path / "results")
    assert "1 of 2" in shown
    assert "not run" in shown


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    bad = replace(JOB, recipe=replace(JOB.recipe, learning_rate=1e38))
    mixed = replace(SMALL, groups=(Group("bad", trainings(bad, (0,))), Group("good", trainings(JOB, (0,)))))
    failures = carry_out(mixed, tmp_path, monkeypatch)
    assert len(failures) == 1
    assert failures[0].startswith("bad seed0: ")
    assert [plan.finished for plan in planned(mixed, tmp_path)] == [False, True]


@pytest.mark.slow
def test_processes_of_their_own_give_the_same_results(tmp_path, monkeypatch):
    carry_out(SMALL, tmp_path / "here", monkeypatch)
    monkeypatch.undo()
    assert run_experiment(SMALL, tmp_path / "there", device="cpu", workers=2, data_folder=None) == []
    for mine, theirs in zip(planned(SMALL, tmp_path / "here"), planned(SMALL, tmp_path / "there"), strict=True):
        assert (mine.path / "metrics.jsonl").read_bytes() == (theirs.path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_experiment_has_distinct_folders_and_a_source(experiment, tmp_path):
    plans = planned(experiment, tmp_path)
    assert len({plan.path for plan in plans}) == len(plans)
    assert experiment.source
    labels = [group.label for group in experiment.groups]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_reports_are_those_of_the_committed_results(path, tmp_path, blank_plots):
    experiment = named_experiment(path.stem)
    assert (RESULTS / f"{path.stem}.md").read_text() == render(experiment, read_results(experiment))
    # the jobs are those that the experiment has now, so that the command would measure the same again
    (tmp_path / path.name).write_bytes(path.read_bytes())
    assert write_report(experiment, tmp_path / "no runs", tmp_path) == (RESULTS / f"{path.stem}.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list"], 0, "mnist_density"),
        (["run", "nothing"], 2, "known are digits, mnist_density"),
        (["run", "mnist_density", "--workers", "100000"], 2, "--workers 100000 is out of range"),
        (["run", "mnist_density", "--workers", "0"], 2, "--workers 0 is out of range; give from 1 to 256"),
        (["report", "nothing"], 2, "Unknown experiment 'nothing'"),
        (["run", "mnist_density", "--device", "tpu"], 2, "'tpu'"),
    ],
)
def test_the_command(arguments, code, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["experiments"])
    assert main(arguments) == code
    output = capsys.readouterr()
    assert says in output.out + output.err


def test_after_ctrl_c_a_worker_starts_nothing_more(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise Stopped("stopped after step 3")

    monkeypatch.setattr(runner, "_STOPPED", threading.Event())
    monkeypatch.setattr(Training, "run", stopped)
    first, second = planned(SMALL, tmp_path)[:2]
    run = partial(run_task, device="cpu", data_folder=None)
    assert runner.attempt(run, first) == "stopped after step 3"
    monkeypatch.setattr(Training, "run", lambda *_, **__: pytest.fail("started another run"))
    assert runner.attempt(run, second) == "stopped"


@dataclass(frozen=True, kw_only=True)
class SquareResult(Result):
    square: int


@dataclass(frozen=True)
class Measurement:
    """A task that trains nothing."""

    kind = SquareResult

    x: int

    @property
    def name(self):
        return f"x{self.x}"

    def config(self):
        return {"measures": "the square", "x": self.x}

    def run(self, path, *, device, data_folder):
        return recorded(SquareResult, path, self.config(), lambda _: SquareResult(square=self.x**2), resume=True)


def test_a_task_need_not_be_a_training(tmp_path, monkeypatch):
    squares = Experiment(
        name="squares",
        title="Squares",
        source="Euclid.",
        groups=(Group("small", (Measurement(2), Measurement(3))),),
        table=Table(("largest square",), lambda results: [str(max(result.square for result in results))], "Squares."),
        plot=drawn,
    )
    assert carry_out(squares, tmp_path / "runs", monkeypatch) == []
    shown = write_report(squares, tmp_path / "runs", tmp_path / "results")
    assert "9 |  2 |         - |" in shown
    assert write_report(squares, tmp_path / "nothing", tmp_path / "results") == shown
