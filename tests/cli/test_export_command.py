"""`supermask export` writes a ticket's network and what it measured of it."""

import json

import onnxruntime
import pytest
import torch
from torch import nn

from supermask import EdgePopup, models
from supermask.cli import main
from supermask.deploy import formats
from supermask.models.sequence import describe

SHAPE = (1, 12, 12)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def build():
    return models.build("lenet5", input_shape=SHAPE, width=0.5)


def ticket(density=0.05, **made):
    named = {"name": "lenet5", "input_shape": list(SHAPE), "classes": 10, "width": 0.5}
    found = EdgePopup(build(), density=density, seed=1).ticket(**{"model": named, **made})
    found.save("network.ticket")
    return found


def status(*arguments):
    try:
        return main(list(arguments))
    except SystemExit as end:
        return end.code


@torch.no_grad()
def test_onnx_without_dead_units_gives_the_same_classes(tmp_path, capsys):
    network = ticket().apply(build()).eval()
    assert status("export", "network.ticket", "--narrow", "--out", "here") == 0
    assert {"network.onnx", "export.json", "units.png"} == {path.name for path in (tmp_path / "here").iterdir()}
    images = torch.randn(64, *SHAPE)
    session = onnxruntime.InferenceSession(tmp_path / "here/network.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": images.numpy()})
    expected = network(images)
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
    assert torch.equal(torch.from_numpy(logits).argmax(1), expected.argmax(1))
    shown, told = capsys.readouterr().out, json.loads((tmp_path / "here/export.json").read_text())
    assert "batchx1x12x12" in shown
    assert told["bytes"] == (tmp_path / "here/network.onnx").stat().st_size
    assert told["difference"] <= told["allowed"]
    assert {"torch", "onnx", "onnxscript", "onnxruntime"} <= told["versions"].keys()
    narrow = told["narrow"]
    removed = sum(layer["of"] - layer["left"] for layer in narrow["units"].values())
    assert f"{removed:,} of {sum(layer['of'] for layer in narrow['units'].values()):,}" in shown
    assert narrow["after"]["parameters"] < narrow["before"]["parameters"]
    assert narrow["after"]["multiply_adds"] < narrow["before"]["multiply_adds"]


@torch.no_grad()
def test_torch_export_lands_beside_the_ticket(tmp_path):
    network = ticket(0.3).apply(build()).eval()
    assert status("export", "network.ticket", "--format", "torch_export") == 0
    assert {"network.ticket", "network.pt2", "export.json"} == {path.name for path in tmp_path.iterdir()}
    images = torch.randn(3, *SHAPE)
    assert torch.equal(torch.export.load("network.pt2").module()(images), network(images))
    told = json.loads((tmp_path / "export.json").read_text())
    assert (told["format"], told["path"], told["input_shape"]) == ("torch_export", "network.pt2", list(SHAPE))
    assert "narrow" not in told


def test_a_chain_knows_its_inputs_or_is_told(capsys):
    chain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    for given, options in (({"input_shape": [6]}, []), ({}, ["--input-shape", "6"])):
        made = {"modules": describe(chain), **given}
        found = EdgePopup(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), density=0.5)
        found.ticket(model=made).save("chain.ticket")
        assert status("export", "chain.ticket", "--format", "torch_export", *options) == 0
    assert status("export", "chain.ticket", "--format", "torch_export") == 2
    assert "does not say which inputs its network takes; give --input-shape." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nothing.ticket"], "Cannot read the ticket nothing.ticket"),
        (["--input-shape", "3", "12", "12"], "cannot be written as one graph"),
        (["--input-shape", "1", "0", "12"], "--input-shape 1 0 12 has a size below 1"),
        (["--format", "tflite"], "tflite"),
        (["--out", "network.ticket"], "network.ticket"),
    ],
)
def test_bad_requests_get_a_sentence_and_leave_nothing(options, says, tmp_path, capsys):
    ticket()
    assert status("export", *options) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["network.ticket"]


def test_without_the_packages_it_says_what_brings_them(tmp_path, capsys, monkeypatch):
    ticket()
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert status("export", "network.ticket") == 2
    assert "pip install 'supermask[export]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["network.ticket"]
