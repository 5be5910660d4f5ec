"""`supermask judge`: what it measures, what it leaves out and says so, what it does not do twice."""

import json
import os
import shlex
import signal
from dataclasses import replace
from importlib import import_module

import pytest

from supermask import EdgePopup, Ticket, TicketError, models
from supermask.cli import main
from supermask.data import load
from supermask.judge.controls import CONTROLS
from supermask.runs import Job, SearchOptions, run
from supermask.runs.diagnostics import (
    DIAGNOSTICS,
    accuracy,
    examine,
    instability,
    layers,
    trained_controls,
    untrained_controls,
    weight_correlation,
)
from supermask.runs.diagnostics.examine import duration
from supermask.training import Recipe, loop

COMMAND = import_module("supermask.cli.main")
SIZES = {
    "untrained_controls": "-seeds2",
    "trained_controls": "-seeds2-steps20",
    "instability": "-points3-copies2-steps20",
}
FOLDERS = [each.name + SIZES.get(each.name, "") for each in DIAGNOSTICS]


@pytest.fixture(scope="module", autouse=True)
def _short():
    """Let sizes be few and small, so that they do not depend on how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(untrained_controls, "SEEDS", (2,))
        patch.setattr(trained_controls, "SEEDS", (2,))
        patch.setattr(trained_controls, "LONGEST", 1)
        patch.setattr(instability, "COPIES", (2,))
        patch.setattr(instability, "POINTS", (3,))
        for module in (instability, weight_correlation):
            patch.setattr(module, "lines_figure", lambda *_, **__: b"\x89PNG")
        for module in (accuracy, layers, trained_controls, untrained_controls):
            patch.setattr(module, "rows_figure", lambda *_, **__: b"\x89PNG")
        yield


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    """A strong ticket of a narrow network, with its scores beside it."""
    job = Job(data="digits", width=0.1, recipe=Recipe(epochs=3, batch_size=64), search=SearchOptions(density=0.3))
    folder = tmp_path_factory.mktemp("strong")
    run(job, folder)
    return folder / "network.ticket"


@pytest.fixture(scope="module")
def weak(ticket, tmp_path_factory):
    """The same ticket, as one that is to be trained."""
    path = tmp_path_factory.mktemp("weak") / "weak.ticket"
    found = Ticket.load(ticket)
    replace(found, provenance={**found.provenance, "trained": True}).save(path)
    return path


def judge(path, out, *more):
    return main(
        ["judge", str(path), "--data", "digits", "--minutes", "60", "--device", "cpu", "--out", str(out), *more]
    )


def values(out):
    return json.loads((out / "judge.json").read_text())


@pytest.fixture(scope="module")
def judged(ticket, tmp_path_factory):
    out = tmp_path_factory.mktemp("judged") / "report"
    assert judge(ticket, out) == 0
    return out


def test_every_diagnostic_is_in_the_report_with_its_numbers(judged, ticket):
    found, html, text = values(judged), (judged / "judge.html").read_text(), (judged / "judge.md").read_text()
    assert list(found["diagnostics"]) == [each.name for each in DIAGNOSTICS]
    assert found["left out"] == {}
    for each in DIAGNOSTICS:
        assert f"<h2>{each.title}</h2>" in html
        assert f"## {each.title}\n" in text
    assert "http" not in html
    assert {path.name for path in judged.iterdir() if path.is_dir()} == {"pace", *FOLDERS}
    said = Ticket.load(ticket).provenance["metrics"]["test_accuracy"]
    measured = found["diagnostics"]["accuracy"]
    assert measured["test"]["accuracy"] == pytest.approx(said)
    assert sum(each["correct"] for each in measured["classes"]) == measured["test"]["correct"]
    assert [each["total"] for each in measured["classes"]] == load("digits").test().labels.bincount().tolist()
    assert f"{100 * said:.2f} %" in html


def test_the_layers_and_the_bytes_are_those_of_the_ticket(judged, ticket):
    found, kept = values(judged)["diagnostics"], Ticket.load(ticket)
    layers = found["layers"]["layers"]
    assert {name: each["kept"] for name, each in layers.items()} == {
        name: int(mask.sum()) for name, mask in kept.masks.items()
    }
    assert {name: each["units"] for name, each in layers.items()} == {
        name: len(mask) for name, mask in kept.masks.items()
    }
    assert all(0 < each["live"] <= each["units"] for each in layers.values())
    assert found["bytes"]["total"] == ticket.stat().st_size


def test_controls_have_their_seeds_and_their_verdicts(judged):
    found = values(judged)["diagnostics"]
    untrained, trained = found["untrained_controls"], found["trained_controls"]
    assert list(untrained["accuracies"]) == ["ticket", *CONTROLS]
    assert {len(each) for name, each in untrained["accuracies"].items() if name != "ticket"} == {2}
    assert untrained["accuracies"]["ticket"] == [found["accuracy"]["test"]["accuracy"]]
    assert list(trained["accuracies"]) == ["ticket", *trained_controls.CONTROLS, "dense", "small_dense"]
    assert (trained["seeds"], trained["steps"]) == ([0, 1], 20)
    summary = {fact["name"]: fact["mark"] for fact in values(judged)["summary"]}
    assert summary["Beats random masks, untrained"] in ("yes", "undecided", "no")
    assert summary["Matching, trained for 20 steps"] in ("yes", "undecided", "no")


def test_the_controls_are_those_of_a_comparison(judged):
    """What is measured untrained here is what `run_controls` finds before it trains."""
    runs = judged / "trained_controls-seeds2-steps20" / "runs"
    untrained = values(judged)["diagnostics"]["untrained_controls"]["accuracies"]
    for name in trained_controls.CONTROLS:
        for seed in (0, 1):
            result = json.loads((runs / f"{name}-seed{seed}" / "result.json").read_text())
            assert result["untrained"]["test"]["accuracy"] == untrained[name][seed], name


def test_the_commands_of_the_sections_are_commands(judged, monkeypatch):
    parsed = []
    monkeypatch.setattr(COMMAND, "guarded", lambda _, parse: parsed.append(parse()) or 0)
    lines = [line for command in values(judged)["commands"].values() for line in command.splitlines()]
    assert len(lines) > len(DIAGNOSTICS)
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "supermask"
        assert COMMAND.main(words) == 0
    compare = next(each for each in parsed if hasattr(each, "ticket") and hasattr(each, "methods"))
    assert (compare.recipe.iterations, compare.seeds, compare.recipe.warm_up) == (20, 2, 0.1)


def test_what_is_finished_is_not_repeated_and_what_is_missing_is(judged, ticket, monkeypatch):
    before = values(judged)["diagnostics"]
    (judged / "accuracy" / "result.json").unlink()
    for each in (untrained_controls.UntrainedControls, trained_controls.TrainedControls, instability.Instability):
        monkeypatch.setattr(each, "measure", lambda *_: pytest.fail("measured again"))
    assert judge(ticket, judged) == 0
    after = values(judged)["diagnostics"]
    assert (judged / "accuracy" / "result.json").exists()
    assert after["accuracy"]["test"] == before["accuracy"]["test"]
    assert after["trained_controls"] == before["trained_controls"]


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(judged, ticket, tmp_path, monkeypatch, capsys):
    train_step, steps = loop._Run._train_step, []

    def taken(run):
        steps.append(run.step)
        if len(steps) == 50:  # in the third network of the first seed
            os.kill(os.getpid(), signal.SIGINT)
        train_step(run)

    monkeypatch.setattr(loop._Run, "_train_step", taken)
    assert judge(ticket, tmp_path) == 130
    assert "5 diagnostics are finished and stand in the report; the same command goes on." in capsys.readouterr().err
    assert "Left out" in (tmp_path / "judge.html").read_text()
    assert list(values(tmp_path)["left out"]) == ["trained_controls", "instability"]
    monkeypatch.setattr(untrained_controls.UntrainedControls, "measure", lambda *_: pytest.fail("measured again"))
    assert judge(ticket, tmp_path) == 0
    assert len(steps) == 20 * (7 * 2 + 2 * 2)  # no step was taken twice
    whole, resumed = (values(out)["diagnostics"]["trained_controls"] for out in (judged, tmp_path))
    assert resumed["accuracies"] == whole["accuracies"]


def test_what_does_not_fit_the_time_is_named_with_its_estimate_and_more_minutes_add_it(ticket, tmp_path, monkeypatch):
    monkeypatch.setattr(instability.Instability, "unfit", lambda *_: "it is not asked for")
    with monkeypatch.context() as patch:
        patch.setattr(trained_controls.TrainedControls, "sizes", lambda *_: [replace(_size(), seconds=7_200.0)])
        assert judge(ticket, tmp_path) == 0
    left = values(tmp_path)["left out"]["trained_controls"]
    assert (left["seconds"], left["minutes"]) == (7_200.0, 121)
    for file in ("judge.html", "judge.md"):
        text = (tmp_path / file).read_text()
        assert "Trained controls: its estimate is 2 h" in text
        assert "With --minutes 121 it is run in its smallest form (2 seeds of 20 steps)." in text
    assert judge(ticket, tmp_path) == 0  # the same command chooses the same
    assert "trained_controls" in values(tmp_path)["left out"]
    monkeypatch.setattr(trained_controls, "run_controls", _unlucky)
    assert judge(ticket, tmp_path, "--minutes", "61") == 0  # more time, and then it fails, which ends nothing
    assert values(tmp_path)["left out"]["trained_controls"]["reason"] == "it failed: Bad luck"


def _unlucky(*_, **__):
    raise TicketError("Bad luck.")


def _size():
    return untrained_controls.Size(0.0, {"seeds": 2, "steps": 20})


def test_a_weak_ticket_is_judged_by_its_trained_network(weak, tmp_path, monkeypatch):
    monkeypatch.setattr(trained_controls, "CONTROLS", ("shuffled_in_layers",))
    monkeypatch.setattr(trained_controls, "SEEDS", (1,))
    assert judge(weak, tmp_path) == 0
    found, html = values(tmp_path), (tmp_path / "judge.html").read_text()
    assert list(found["left out"]) == ["untrained_controls"]
    assert "a weak ticket claims nothing about its network before it is trained" in html
    assert "these are its weights before their training" in html
    assert {claim["state"] for claim in found["diagnostics"]["trained_controls"]["claims"]} == {"trained"}


def test_a_ticket_without_a_model_is_told_as_far_as_it_goes(ticket, tmp_path):
    found = Ticket.load(ticket)
    path = tmp_path / "unknown.ticket"
    replace(found, provenance={"data": "digits"}).save(path)
    assert judge(path, tmp_path / "out") == 0
    said = values(tmp_path / "out")
    assert list(said["diagnostics"]) == ["identity", "bytes", "layers"]
    assert "does not say which model it was made from" in said["left out"]["accuracy"]["reason"]
    assert "not known" in (tmp_path / "out" / "judge.md").read_text()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--minutes", "0"], "--minutes 0 leaves no time to measure; give a number above 0."),
        (["--minutes", "nan"], "--minutes nan leaves no time to measure; give a number above 0."),
        (["--data", "letters"], "There is no data set 'letters'"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(ticket, tmp_path, capsys, more, sentence):
    assert judge(ticket, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_ticket_of_other_images_is_refused(tmp_path, capsys):
    found = EdgePopup(models.build("lenet_300_100", width=0.1), density=0.5, seed=0).ticket()
    made = {"name": "lenet_300_100", "input_shape": [1, 28, 28], "classes": 10, "width": 0.1}
    replace(found, provenance={"model": made}).save(tmp_path / "mnist.ticket")
    assert judge(tmp_path / "mnist.ticket", tmp_path / "out") == 2
    assert "takes images of [1, 28, 28] in 10 classes; digits has images of [1, 8, 8]" in capsys.readouterr().err


def test_a_damaged_file_is_refused(ticket, tmp_path, capsys):
    data = bytearray(ticket.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.ticket").write_bytes(data)
    assert judge(tmp_path / "damaged.ticket", tmp_path / "out") == 2
    assert "is not a sound ticket" in capsys.readouterr().err


def test_the_report_of_another_ticket_is_not_overwritten(judged, weak, capsys):
    assert judge(weak, judged) == 2
    assert "holds another run" in capsys.readouterr().err


def test_the_test_set_is_read_once_by_what_is_not_trained(ticket, tmp_path, monkeypatch):
    reads = []
    test = type(load("digits")).test
    monkeypatch.setattr(type(load("digits")), "test", lambda self: reads.append(self) or test(self))
    context = import_module("supermask.runs.diagnostics").Context.of(
        ticket, "digits", out=tmp_path, minutes=60.0, progress=False
    )
    examine(context, DIAGNOSTICS[:5])
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (0.2, "less than 1 s"), (45.2, "45 s"), (185.0, "3 min 5 s"), (7_200.0, "2 h")]
)
def test_a_time_in_words(seconds, text):
    assert duration(seconds) == text
