"""Who is told of evaluations: functions of one's own, TensorBoard, Weights & Biases."""

import json
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from together import together
from torch import nn

from supermask import EdgePopup, SupermaskError, data
from supermask.cli.main import main
from supermask.errors import RunError
from supermask.training import Recipe, Stopped, TensorBoard, WeightsAndBiases, train
from supermask.training.checkpoint import load_checkpoint
from supermask.training.listeners import numbers
from supermask.training.loop import CHECKPOINT

RECIPE = Recipe(epochs=3, batch_size=64, evaluate_every=10)
RECORD = {
    "step": 4,
    "train_loss": 1,
    "validation_accuracy": None,
    "telemetry": {"gradient": 0.5, "weights": (1.0, 2.0)},
}


class Ended(Exception):
    """Stands for optuna.TrialPruned and the like."""


def search():
    torch.manual_seed(0)
    return EdgePopup(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 10)), density=0.3
    )


def trained(*listeners, subject=None, **more):
    subject = subject or search()
    return train(subject, data.load("synthetic", seed=0), RECIPE, seed=0, on_evaluation=listeners, **more), subject


def at(step, what):
    def listener(record, subject):
        if record["step"] == step:
            what()

    return listener


def end():
    raise Ended("no good")


def test_each_evaluation_is_told_once_it_was_written_and_in_the_state_that_was_evaluated(tmp_path):
    told = []

    def listener(record, subject):
        assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-1] == record
        assert subject.steps == record["step"]
        told.append(record)

    outcome, _ = trained(listener, folder=tmp_path)
    assert told == outcome.history
    assert [record["step"] for record in told] == [*range(0, outcome.steps, 10), outcome.steps]


def test_one_function_needs_no_list_and_several_are_called_in_their_order():
    told = []
    one, two = (lambda record, _, name=name: told.append((record["step"], name)) for name in "ab")
    trained(one, two)
    assert told == sorted(told)
    assert {name for _, name in told} == {"a", "b"}
    alone = []
    train(search(), data.load("synthetic"), Recipe(epochs=0), seed=0, on_evaluation=lambda *a: alone.append(a))
    assert len(alone) == 1


def test_listeners_change_neither_the_history_nor_what_the_training_draws():
    def meddling(record, subject):
        torch.rand(3)
        record.clear()
        subject.model.eval()

    (quiet, first), (heard, second) = trained(), trained(meddling)
    assert heard.history == quiet.history
    assert second.ticket() == first.ticket()


def test_what_a_listener_raises_ends_the_training_and_the_checkpoint_of_before_goes_on_to_the_same_end(tmp_path):
    whole, unbroken = trained()
    seen = []
    with pytest.raises(Ended, match="no good"):
        trained(lambda record, _: seen.append(record["step"]), at(20, end), folder=tmp_path, checkpoint_seconds=0.0)
    assert seen == [0, 10, 20]
    assert load_checkpoint(tmp_path / CHECKPOINT)["step"] == 19
    again = []
    outcome, resumed = trained(lambda record, _: again.append(record["step"]), folder=tmp_path, resume=True)
    assert again == [record["step"] for record in whole.history if record["step"] >= 20]
    assert outcome.history == whole.history
    assert resumed.ticket() == unbroken.ticket()


def test_a_run_that_was_stopped_tells_nothing_twice(tmp_path):
    told = []

    def listener(record, subject):
        told.append(record["step"])

    with pytest.raises(Stopped):
        trained(listener, at(20, lambda: os.kill(os.getpid(), signal.SIGINT)), folder=tmp_path)
    outcome, _ = trained(listener, folder=tmp_path, resume=True)
    assert told == [record["step"] for record in outcome.history]
    trained(listener, folder=tmp_path, resume=True)  # at its end already
    assert len(told) == len(outcome.history)


def _heard(ends):
    told = []
    try:
        trained(lambda record, _: told.append(record["step"]), *([at(10, end)] if ends else []))
    except (Ended, RunError) as error:
        return f"{type(error).__name__}: {error}"
    return told


def test_the_first_of_several_processes_alone_is_told():
    first, second = together(2, _heard, False)
    assert len(first) > 2
    assert second == []


def test_no_process_waits_for_one_whose_listener_raised():
    first, second = together(2, _heard, True)
    assert first == "Ended: no good"
    assert second == "RunError: A function that process 0 tells of evaluations ended the training: no good."


def test_the_numbers_of_a_record():
    assert dict(numbers(RECORD)) == {"train_loss": 1.0, "telemetry/gradient": 0.5}


def scalars(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    events = accumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_reads_back_each_number_once_after_a_run_that_was_killed(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(Ended):  # before its first checkpoint, so that all is told again
        trained(TensorBoard(tmp_path / "events"), at(20, end), folder=tmp_path, telemetry=True)
    outcome, _ = trained(TensorBoard(tmp_path / "events"), folder=tmp_path, resume=True, telemetry=True)
    trained(TensorBoard(tmp_path / "whole"))
    read = scalars(tmp_path / "events")
    assert "telemetry/distance" in read
    for name in ("train_loss", "validation_accuracy", "validation_loss", "learning_rate"):
        expected = [(record["step"], pytest.approx(record[name])) for record in outcome.history]
        assert read[name] == expected
        assert scalars(tmp_path / "whole")[name] == expected


def test_a_listener_of_tensorboard_that_is_told_nothing_writes_nothing(tmp_path):
    pytest.importorskip("tensorboard")
    TensorBoard(tmp_path / "events")
    assert not (tmp_path / "events").exists()


@pytest.fixture
def wandb(monkeypatch):
    """Stands for the package: it keeps the settings of each run, and what was logged by the id of the run."""
    found = SimpleNamespace(started=[], logged={})

    def init(**settings):
        found.started.append(settings)
        log = found.logged.setdefault(settings["id"], {})
        return SimpleNamespace(log=lambda values, step: log.__setitem__(step, values))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    return found


def test_a_run_that_was_stopped_goes_on_in_the_same_run_of_wandb(tmp_path, wandb):
    assert not wandb.started
    stop = at(10, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        trained(WeightsAndBiases(tmp_path, project="tickets"), stop, folder=tmp_path)
    outcome, _ = trained(WeightsAndBiases(tmp_path, project="tickets"), folder=tmp_path, resume=True)
    first, second = wandb.started
    assert first == second == {"project": "tickets", "dir": str(tmp_path), "id": first["id"], "resume": "allow"}
    assert wandb.logged[first["id"]] == {record["step"]: dict(numbers(record)) for record in outcome.history}
    trained(WeightsAndBiases(tmp_path, project="tickets"))  # a new training is another run
    assert len(wandb.logged) == 2


def test_the_commands_log_where_they_are_asked_to(tmp_path, wandb, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    out = tmp_path / "run"
    line = ["search", "--data", "synthetic", "--model", "lenet_300_100", "--epochs", "1", "--out", str(out)]
    assert main([*line, "--log", "tensorboard", "--log", "wandb"]) == 0
    records = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    (settings,) = wandb.started
    assert settings["project"] == "supermask"
    assert settings["name"] == "lenet_300_100-synthetic-density0.3-seed0"
    assert settings["config"] == json.loads((out / "config.json").read_text())
    assert wandb.logged[settings["id"]] == {record["step"]: dict(numbers(record)) for record in records}
    assert [step for step, _ in scalars(out / "tensorboard")["train_loss"]] == [record["step"] for record in records]
    assert main([*line, "--log", "wandb"]) == 0  # finished, and only read
    assert len(wandb.started) == 1


@pytest.mark.parametrize(("log", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_package_that_is_missing_is_named_before_anything_is_trained(log, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    out = tmp_path / "run"
    assert main(["train", "--data", "synthetic", "--epochs", "1", "--out", str(out), "--log", log]) == 2
    assert f"needs the package {log} (import of {package} halted" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SupermaskError, match=f"install it: python -m pip install {log}"):
        TensorBoard(out) if log == "tensorboard" else WeightsAndBiases(out)
