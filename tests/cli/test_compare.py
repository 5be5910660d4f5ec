"""`supermask compare`: what is run, kept, refused and shown, with a method that only this test knows."""

import json
import math
import os

import numpy as np
import pytest
from toy_method import Toy

from supermask import Ticket, data, models
from supermask.cli import main
from supermask.runs import METHODS, RunFolder
from supermask.runs.protocols import PROTOCOLS
from supermask.runs.report import COLUMNS
from supermask.training.loop import CHECKPOINT

QUICK = ["--data", "synthetic", "--width", "0.2", "--epochs", "1", "--batch-size", "100", "--device", "cpu"]
QUICK += ["--out", "here"]
EPOCH = 9  # steps
ROUNDS = ["--toy-rounds.rounds", "2", "--toy-rounds.smallest", "--toy-rounds.scale", "2", "3"]
HEADER = ["method", "density", *COLUMNS]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, blank_plots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)


def status(*arguments):
    """Return the exit status of the command line."""
    try:
        return main(["compare", *QUICK, *arguments])
    except SystemExit as end:
        return end.code


def table_of(shown):
    """Return the cells of the table below its header."""
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def files(folder):
    """Return what the files below a folder hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folders(out):
    """Return the names of the folders of finished runs."""
    return {path.parent.name for path in out.glob("*/result.json")}


def test_by_default_three_methods_and_one_density_and_nothing_is_repeated(tmp_path, steps, capsys):
    assert status("--seeds", "2", "--width", "1") == 0
    first = capsys.readouterr()
    assert first.err.splitlines()[0] == "6 of 6 runs left: edge_popup 2, dense 2, random_mask 2."
    rows = table_of(first.out)
    assert [row[:2] for row in rows] == [["edge_popup", "0.3"], ["dense", "-"], ["random_mask", "0.3"]]
    assert "±" in rows[0][2]
    mean = {
        row["method"]: row["test_accuracy"] for row in json.loads((tmp_path / "here/compare.json").read_text())["rows"]
    }
    assert mean["edge_popup"] > mean["random_mask"] + 0.2
    assert "lenet_300_100 on synthetic, 2 seeds\n" in first.out
    assert "In here: table.md, accuracy.png, compare.json, and a folder per run with its network." in first.out
    taken, before = len(steps), files(tmp_path / "here")
    assert status("--seeds", "2", "--width", "1") == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err == "0 of 6 runs left.\n"
    assert len(steps) == taken == 4 * EPOCH
    assert files(tmp_path / "here") == before


def test_a_new_method_gets_the_whole_table_the_plot_and_its_options(tmp_path, toy, steps, capsys):
    methods = ["--methods", "toy_rounds,dense,edge_popup", "--density", "0.5,0.2", "--seeds", "2", "--seed", "3"]
    assert status(*methods, *ROUNDS) == 0
    rows = table_of(capsys.readouterr().out)
    names = [("toy_rounds", "0.5"), ("toy_rounds", "0.2"), ("dense", "-"), ("edge_popup", "0.5"), ("edge_popup", "0.2")]
    assert [tuple(row[:2]) for row in rows] == names
    written = json.loads((tmp_path / "here/compare.json").read_text())
    assert written["title"] == "lenet_300_100 on synthetic, 2 seeds"
    for row, values in zip(rows, written["rows"], strict=True):
        results = {name: RunFolder(tmp_path / "here" / name).read_result() for name in values["runs"]}
        assert [result["config"]["seed"] for result in results.values()] == [3, 4]
        accuracies = [result["test"]["accuracy"] for result in results.values()]
        assert list(values["runs"].values()) == accuracies
        assert values["test_accuracy"] == pytest.approx(np.mean(accuracies))
        assert row[HEADER.index("test accuracy")].startswith(f"{100 * np.mean(accuracies):.2f} ±")
        assert row[HEADER.index("n")] == "2"
        assert values["best_step"] == np.mean([result["best_step"] for result in results.values()])
        kept = {result["kept"] for result in results.values()}
        assert {values["kept"]} == kept == {int(row[HEADER.index("weights kept")].replace(",", ""))}
    assert (tmp_path / "here/accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "\n".join((tmp_path / "here/table.md").read_text().splitlines()[2:]).count("| toy_rounds") == 2
    config = json.loads((tmp_path / "here/toy_rounds-lenet_300_100-synthetic-density0.2-seed4/config.json").read_text())
    assert config["options"] == {"rounds": 2, "smallest": True, "scale": [2.0, 3.0]}
    plain = json.loads((tmp_path / "here/dense-lenet_300_100-synthetic-seed3/config.json").read_text())
    assert "options" not in plain
    # for each seed: two rounds that both densities share, a training for each density, and three other runs
    assert len(steps) == 2 * EPOCH * (2 + 2 + 3)
    assert not (tmp_path / "here/stages").exists()


def test_a_longer_list_keeps_what_is_finished(tmp_path, toy, steps, capsys):
    assert status("--methods", "dense,toy_rounds", "--seeds", "1") == 0
    steps.clear()
    capsys.readouterr()
    assert status("--methods", "toy_rounds,dense", "--seeds", "2", "--density", "0.3,0.5") == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == "4 of 6 runs left: toy_rounds 3, dense 1."
    assert sorted(line.split(":")[0] for line in shown.err.splitlines()[1:]) == [
        "dense seed 1",
        "toy_rounds density 0.3 seed 1",
        "toy_rounds density 0.5 seed 0",
        "toy_rounds density 0.5 seed 1",
    ]
    assert [row[:2] for row in table_of(shown.out)] == [["toy_rounds", "0.3"], ["toy_rounds", "0.5"], ["dense", "-"]]
    # a part of it, with nothing left to run
    assert status("--methods", "toy_rounds", "--seeds", "2", "--density", "0.5") == 0
    (row,) = json.loads((tmp_path / "here/compare.json").read_text())["rows"]
    assert (row["method"], row["density"], row["n"]) == ("toy_rounds", 0.5, 2)


# in the first round of the toy, in its last training at the second density, in the training of the dense network
@pytest.mark.parametrize(("at", "stopped"), [(5, 0), (4 * EPOCH - 1, 1), (5 * EPOCH - 1, 2)])
def test_after_ctrl_c_the_same_command_goes_on_to_the_same_end(tmp_path, toy, steps, capsys, at, stopped):
    command = ["--methods", "toy_rounds,dense", "--density", "0.3,0.5", "--seeds", "1", *ROUNDS]
    steps.at = at
    assert status(*command) == 130
    label = ["toy_rounds density 0.3 seed 0", "toy_rounds density 0.5 seed 0", "dense seed 0"][stopped]
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == (
        f"supermask: {label} stopped after step {(at - 1) % EPOCH + 1} of 9, {3 - stopped} of 3 runs left; "
        "the same command goes on."
    )
    assert len(folders(tmp_path / "here")) == stopped
    if stopped:
        title, *_ = (tmp_path / "here/table.md").read_text().splitlines()
        assert title == f"lenet_300_100 on synthetic, 1 seed ({stopped} of 3 runs)"
        assert len(json.loads((tmp_path / "here/compare.json").read_text())["rows"]) == stopped
        assert (tmp_path / "here/accuracy.png").exists()
    assert status(*command) == 0
    assert len(steps) == 5 * EPOCH
    steps.at = None
    assert main(["compare", *QUICK, *command, "--out", "whole"]) == 0
    for name in folders(tmp_path / "whole"):
        for file in ("network.safetensors", "metrics.jsonl"):
            assert (tmp_path / "whole" / name / file).read_bytes() == (tmp_path / "here" / name / file).read_bytes()
    assert not list(tmp_path.rglob(CHECKPOINT))


def test_an_interrupt_outside_of_the_loop_says_how_to_go_on(tmp_path, toy, monkeypatch, capsys):
    def run(self, context):
        raise KeyboardInterrupt

    monkeypatch.setattr(Toy, "run", run)
    assert status("--methods", "dense,toy_rounds", "--seeds", "1") == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == ("supermask: toy_rounds density 0.3 seed 0 interrupted, 1 of 2 runs left; the same command goes on.")
    assert folders(tmp_path / "here") == {"dense-lenet_300_100-synthetic-seed0"}


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, toy, capsys):
    command = ["--methods", "toy_rounds,edge_popup", "--density", "0.3,0.5", "--seeds", "2"]
    toy.refused.add(0.5)
    assert status(*command) == 2
    shown = capsys.readouterr()
    assert "toy_rounds density 0.5 seed 1 failed: The toy refuses density 0.5; give another one." in shown.err
    name = "toy_rounds-lenet_300_100-synthetic-density0.5-seed"
    assert shown.err.splitlines()[-1] == (
        f"supermask: Failed, and taken up again by the same command: {name}0, {name}1 "
        "(The toy refuses density 0.5; give another one)."
    )
    assert [row[:2] for row in table_of(shown.out)] == [
        ["toy_rounds", "0.3"],
        ["edge_popup", "0.3"],
        ["edge_popup", "0.5"],
    ]
    assert "(6 of 8 runs)" in shown.out
    assert (tmp_path / "here/stages").exists()
    toy.refused.clear()
    assert status(*command) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == "2 of 8 runs left: toy_rounds 2."
    assert "runs)" not in shown.out
    assert not (tmp_path / "here/stages").exists()


def test_shared_trainings_stay_while_another_run_of_the_folder_is_unfinished(tmp_path, toy, steps):
    steps.at = EPOCH + 1
    assert status("--methods", "toy_rounds", "--seeds", "1") == 130
    assert status("--methods", "dense", "--seeds", "1") == 0
    assert (tmp_path / "here/stages").exists()
    assert status("--methods", "toy_rounds", "--seeds", "1") == 0
    assert not (tmp_path / "here/stages").exists()
    assert len(steps) == 3 * EPOCH


def test_a_dry_run_shows_what_is_left_and_the_table_and_does_nothing(tmp_path, toy, steps, capsys):
    command = ["--methods", "toy_rounds,dense", "--density", "0.2,0.3", "--seeds", "2"]
    assert status(*command, "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out == "6 of 6 runs left: toy_rounds 4, dense 2.\n"
    assert list(tmp_path.iterdir()) == []
    assert status("--methods", "dense", "--seeds", "1") == 0
    steps.clear()
    capsys.readouterr()
    before = files(tmp_path)
    assert status(*command, "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("5 of 6 runs left: toy_rounds 4, dense 1.\n\nlenet_300_100 on synthetic")
    ((*_, method, density, _, n),) = [row[:4] for row in table_of(shown.out)]
    assert (method, density, n) == ("dense", "-", "1 of 2")
    assert files(tmp_path) == before
    assert status(*command, "--dry-run", "--model", "lenet") == 2
    assert steps == []


def test_initial_weights_and_a_folder_of_its_own(tmp_path, toy):
    more = ["--methods", "toy_rounds,edge_popup", "--seeds", "1", "--initial", "xavier_uniform", "--epochs", "0"]
    (there := tmp_path / "there").mkdir()
    os.chdir(there)
    assert main(["compare", *QUICK[:-2], *more]) == 0
    out = there / "runs/compare-lenet_300_100-synthetic"
    weights = Ticket.load(out / "toy_rounds-lenet_300_100-synthetic-density0.3-seed0/network.ticket").weights
    assert {weight.distribution.name for weight in weights.values()} == {"xavier_uniform"}
    searched = Ticket.load(out / "edge_popup-lenet_300_100-synthetic-density0.3-seed0/network.ticket").weights
    assert {weight.distribution.name for weight in searched.values()} == {"signed_constant"}


def shown_by(capsys, *arguments):
    """Return what help prints, without its boxes."""
    with pytest.raises(SystemExit):
        main(list(arguments))
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_help_names_every_method_and_shows_the_options_of_each(command, toy, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, Toy.name, Toy(rounds=3))
    shown = shown_by(capsys, command, "--help", "all")
    assert "Train, prune by magnitude, train what is left." in shown
    assert "It is not a method of the literature." not in shown
    assert "--toy-rounds.rounds INT trainings before it prunes. (default: 3)" in shown
    listed = shown.split("Methods, separated by commas: ")[1].split(". ")[0].split(", ")
    assert {*listed, Toy.name} == {*METHODS}
    for name, method in METHODS.items():
        for option in method.own_fields():
            assert f"--{name}.{option.name}".replace("_", "-") in shown


def test_help_of_a_method_shows_its_options_alone(toy, capsys):
    shown = shown_by(capsys, "compare", "--help", "toy-rounds")
    assert "--toy-rounds.rounds INT trainings before it prunes." in shown
    assert "--imp." not in shown
    assert "--epochs" not in shown
    assert "--seeds" not in shown
    preset = shown_by(capsys, "compare", "--protocol", "conv2", "--help", "imp")
    assert "--imp.conv-rate {None}|FLOAT" in preset
    assert "(default: 0.1)" in preset  # the protocol's, not the method's


@pytest.mark.parametrize(("topic", "option"), [("recipe", "--learning-rate"), ("search", "--scope")])
def test_help_of_a_group_shows_its_options_alone(topic, option, capsys):
    shown = shown_by(capsys, "compare", "--help", topic)
    assert f"{option} " in shown
    assert "--seeds" not in shown


@pytest.mark.parametrize("command", ["search", "train", "compare", "sweep"])
def test_help_fits_two_screens_and_names_what_it_leaves_out(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert sum(max(1, math.ceil(len(line) / 80)) for line in shown.splitlines()) <= 80
    flat = " ".join(shown.split())
    assert "--help recipe explains --epochs" in flat
    assert "--learning-rate" in flat
    if command == "compare":
        for name, method in METHODS.items():
            assert name in flat or not method.own_fields()


def test_help_of_nothing_is_told(capsys):
    assert main(["compare", "--help", "newton"]) == 2
    error = capsys.readouterr().err
    assert "--help newton: there is no such group of options; known are recipe, search, learned" in error


@pytest.mark.parametrize("command", ["search", "train", "compare", "sweep"])
def test_help_lists_what_the_registries_have(command, capsys):
    shown = shown_by(capsys, command, "--help")
    assert all(name in shown for name in data.known())
    if command in ("search", "train"):
        assert all(name in shown for name in models.known())
    if command == "compare":
        assert all(name in shown for name in PROTOCOLS)
