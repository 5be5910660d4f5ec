"""The command line: every command does its job, and bad input gets one sentence and a nonzero status."""

import json

import pytest
import torch

from supermask import EdgePopup, Ticket, models
from supermask.cli import main
from supermask.cli.main import COMMANDS

QUICK = ["--data", "synthetic", "--epochs", "1", "--batch-size", "100", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)


def status(*arguments):
    """Return the exit status of the command line."""
    try:
        return main(list(arguments))
    except SystemExit as end:
        return end.code


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_search_leaves_a_ticket_a_plot_and_its_result(tmp_path, capsys):
    assert status("search", *QUICK, "--density", "0.4", "--out", "here") == 0
    assert {"network.ticket", "result.json", "metrics.jsonl", "accuracy.png"} <= {
        path.name for path in (tmp_path / "here").iterdir()
    }
    assert Ticket.load("here/network.ticket").density == pytest.approx(0.4, abs=1e-4)
    assert is_png(tmp_path / "here/accuracy.png")
    shown = capsys.readouterr().out
    assert "test accuracy" in shown
    assert "20,080 of 50,200 (40.00%)" in shown


def test_train_leaves_the_dense_network(tmp_path):
    assert status("train", *QUICK) == 0
    folder = tmp_path / "runs/train-lenet_300_100-synthetic-seed0"
    assert json.loads((folder / "result.json").read_text())["config"]["method"] == "dense"
    assert (folder / "network.safetensors").exists()


def test_train_with_telemetry_records_and_draws_it_and_trains_the_same(tmp_path, capsys):
    options = ["--split-seed", "1", "--order-seed", "2"]
    assert status("train", *QUICK, *options, "--telemetry", "--out", "with") == 0
    assert "seed 0, split 1, order 2" in capsys.readouterr().out
    assert status("train", *QUICK, *options) == 0
    plain = tmp_path / "runs/train-lenet_300_100-synthetic-seed0-split1-order2"
    recorded, without = (json.loads((folder / "result.json").read_text()) for folder in (tmp_path / "with", plain))
    assert recorded["test"] == without["test"]
    assert recorded["history"][-1]["telemetry"]["final_distance"] == 0.0
    assert recorded["history"][0]["telemetry"]["final_distance"] == recorded["history"][-1]["telemetry"]["distance"] > 0
    assert "telemetry" not in without["history"][0]
    assert is_png(tmp_path / "with/telemetry.png")


def test_evaluate_finds_what_search_measured(tmp_path, capsys):
    assert status("search", *QUICK, "--out", "here") == 0
    measured = json.loads((tmp_path / "here/result.json").read_text())["test"]
    assert status("evaluate", "here/network.ticket", "--device", "cpu") == 0
    again = json.loads((tmp_path / "here/evaluation.json").read_text())
    assert (again["correct"], again["total"]) == (measured["correct"], measured["total"])
    assert sum(again["per_class"]) > 0
    assert is_png(tmp_path / "here/classes.png")
    assert status("evaluate", "here/network.ticket", "--part", "validation", "--out", "there") == 0
    assert json.loads((tmp_path / "there/evaluation.json").read_text())["part"] == "validation"


def test_inspect_shows_layers_and_where_the_bytes_are(tmp_path, capsys):
    assert status("search", *QUICK, "--out", "here") == 0
    capsys.readouterr()
    assert status("inspect", "here/network.ticket", "--out", "there") == 0
    shown = capsys.readouterr().out
    for part in ("fc1.weight", "300x64", "5,760", "30.00%", "signed_constant", "edge_popup"):
        assert part in shown
    inspection = json.loads((tmp_path / "there/inspection.json").read_text())
    assert inspection["layers"]["fc1.weight"] == {"kept": 5760, "prunable": 19200}
    found = inspection["where the bytes are"]
    assert found["total"] == (tmp_path / "here/network.ticket").stat().st_size
    masks = [layer["mask"] + layer["treatment"] for layer in found["layers"].values()]
    assert found["prefix"] + found["header"] + sum(masks) + found["stored"] == found["total"]
    assert found["layers"]["fc1.weight"]["bound"] == pytest.approx(19200 * 0.8813 / 8, rel=1e-3)
    for part in (found["layers"]["fc1.weight"]["mask"], found["header"], found["total"]):
        assert f" {part:,} " in shown
    assert is_png(tmp_path / "there/layers.png")


def test_every_search_option_reaches_the_ticket():
    options = ["--scope", "global", "--floor", "5", "--weights", "xavier_normal", "--no-scaled", "--score", "signed"]
    more = ["--ramp", "4", "--bias", "learned", "--dense", "fc3.weight"]
    assert status("search", *QUICK, *options, *more, "--density", "0.2", "--out", "here") == 0
    ticket = Ticket.load("here/network.ticket")
    made = ticket.provenance["options"]
    assert made["scope"] == {"name": "Global", "floor": 5}
    assert (made["scaled"], made["score"], made["bias"], made["dense"]) == (False, "signed", "learned", ["fc3.weight"])
    assert {weight.distribution.name for weight in ticket.weights.values()} == {"xavier_normal"}
    assert set(ticket.masks) == {"fc1.weight", "fc2.weight"}
    assert set(ticket.learned) == {"fc1.bias", "fc2.bias", "fc3.bias"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--density", "1.5"], "density=1.5 is out of range"),
        (["search", "--density", "-0.1"], "density=-0.1 is out of range"),
        (["search", "--density", "nan"], "density=nan is out of range"),
        (["search", "--density", "much"], "much"),
        (["search", "--model", "lenet"], "Unknown model 'lenet'; known are lenet_300_100"),
        (["search", "--model", "torchvision:resnet19"], "resnet18"),
        (["search", "--data", "imagenet"], "'imagenet'; known are digits"),
        (["search", "--data", "mnist", "--data-folder", "nowhere"], "nowhere"),
        (["search", "--seed", "-1"], "seed=-1 is out of range"),
        (["search", "--device", "tpu"], "'tpu'"),
        (["search", "--device", "meta"], "'meta' is not supported"),
        (["search", "--threads", "-1"], "--threads -1 is out of range"),
        (["search", "--validation", "100000"], "validation"),
        (["search", "--batch-size", "100000"], "batch_size=100000 is larger than"),
        (["search", "--learning-rate", "1e38", "--data", "synthetic"], "diverged"),
        (["search", "--scope", "global", "--density", "0.0001"], "leaves none in"),
        (["search", "--include", "fc9.weight"], "'fc9.weight' matches no parameter"),
        (["search", "--dense", "*"], "nothing to prune"),
        (["search", "--width", "0"], "width"),
        (["evaluate", "missing.ticket"], "missing.ticket: No such file"),
        (["inspect", "missing.ticket"], "missing.ticket: No such file"),
        (["serach"], "serach"),
        ([], "search"),
        (["search", "--sparsity", "0.3"], "--sparsity"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments, says, capsys):
    assert status(*arguments) == 2
    error = capsys.readouterr().err
    # the parser draws a box, which may break a sentence
    flat = " ".join(error.replace("│", " ").split())
    assert says in flat
    assert "Traceback" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(capsys):
    assert status("search", "--device", "cuda") == 2
    assert "no GPU that PyTorch can use; give --device cpu" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert status("search", *QUICK, "--out", "file/run") == 2
    assert "Cannot write the folder file/run" in capsys.readouterr().err


def test_a_damaged_ticket_is_told(tmp_path, capsys):
    assert status("search", *QUICK, "--out", "here") == 0
    path = tmp_path / "here/network.ticket"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 4]))
    assert status("evaluate", "here/network.ticket") == 2
    assert "is damaged" in capsys.readouterr().err
    path.write_bytes(sound[:-10])
    assert status("inspect", "here/network.ticket") == 2
    assert "is cut short" in capsys.readouterr().err


def test_a_ticket_without_a_model_or_a_data_set_says_so(capsys):
    search = EdgePopup(models.build("lenet_300_100", input_shape=(1, 8, 8)), density=0.3)
    search.ticket().save("bare.ticket")
    assert status("evaluate", "bare.ticket") == 2
    assert "give --data" in capsys.readouterr().err
    assert status("evaluate", "bare.ticket", "--data", "digits") == 2
    assert "does not say which model" in capsys.readouterr().err
    assert status("inspect", "bare.ticket") == 0


@pytest.mark.parametrize("command", [*COMMANDS, "construct"])
def test_help_shows_defaults(command, capsys):
    assert status(command, "--help") == 0
    shown = capsys.readouterr().out
    assert "default:" in shown
    assert "--out" in shown
    if command not in ("inspect", "export"):  # which draw nothing, and compute little
        assert "--seed" in shown
        assert "--device" in shown


def test_help_says_what_the_program_is_for(capsys):
    assert status("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "without any weight being trained" in shown
    assert "a seed, which regrows the random weights, and a mask" in shown
