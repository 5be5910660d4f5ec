"""`supermask construct` refuses what it cannot read, in one sentence, and runs no code from a file."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from supermask.cli import main


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


def layers(*sizes, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        state[f"fc{i}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        if bias:
            state[f"fc{i}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return state


class Trap:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def nan():
    state = layers(6, 5, 3)
    state["fc2.weight"][1, 2] = math.nan
    return state


BAD_FILES = {
    "missing.pt": None,
    "empty.pt": b"",
    "noise.pt": b"not a network",
    "noise.safetensors": b"not a network",
    "cut.pt": layers(6, 5, 3),
    "whole.pt": nn.Sequential(nn.Linear(3, 2)),
    "trap.pt": {"fc1.weight": torch.ones(2, 2), "trap": Trap()},
    "list.pt": [torch.ones(2)],
    "nested.pt": {"epoch": 3, "model": layers(6, 5, 3)},
    "nothing.pt": {},
    "nan.pt": nan(),
    "complex.pt": {"fc1.weight": torch.ones(2, 2, dtype=torch.complex64)},
    "gap.pt": {**layers(6, 5), "fc2.weight": torch.ones(3, 4)},
    "conv.pt": {"conv1.weight": torch.ones(2, 1, 3, 3)},
    "bias.pt": {"fc1.bias": torch.ones(2)},
    "long_bias.pt": {"fc1.weight": torch.ones(2, 3), "fc1.bias": torch.ones(3)},
    "norm.pt": {**layers(6, 5, 3), "fc1.running_mean": torch.ones(5)},
    "good.pt": layers(6, 5, 3),
    "three.pt": layers(6, 5, 4, 3),
    "seven.pt": layers(7, 5, 3),
}
FC = ["--model", "fc_500", "--model-width", "0.01", "--input-shape", "1", "2", "3", "--classes", "3"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.pt"], "There is no file missing.pt, and no model of that name; the models are lenet_300_100"),
        (["lenet"], "There is no file lenet, and no model of that name"),
        (["empty.pt"], "empty.pt is damaged"),
        (["noise.pt"], "noise.pt is damaged, or no file of torch.save"),
        (["noise.safetensors"], "noise.safetensors is damaged, or no safetensors file"),
        (["cut.pt"], "cut.pt is damaged"),
        (["whole.pt"], "whole.pt holds more than tensors, and reading it could run any code"),
        (["trap.pt"], "trap.pt holds more than tensors"),
        (["list.pt"], "list.pt holds no state dict"),
        (["nested.pt"], "nested.pt holds no state dict"),
        (["nothing.pt"], "nothing.pt holds no state dict"),
        (["nan.pt"], "fc2.weight in nan.pt holds NaN or infinity"),
        (["complex.pt"], "fc1.weight in complex.pt is torch.complex64"),
        (["gap.pt"], "fc2 in gap.pt takes 4 inputs, and 5 come from the layer before it; give --model"),
        (["conv.pt"], "conv1.weight in conv.pt, of shape 2x1x3x3, belongs to no fully connected layer; give --model"),
        (["bias.pt"], "fc1.bias in bias.pt comes without a weight"),
        (["long_bias.pt"], "fc1.bias in long_bias.pt has shape 3"),
        (["norm.pt"], "fc1.running_mean in norm.pt, of shape 5, belongs to no fully connected layer"),
        (["three.pt", *FC], "three.pt does not fit fc_500: it has 3 layers with weights (fc1, fc2, fc3), and fc_500 2"),
        (["seven.pt", *FC], "fc1.weight in seven.pt has shape 5x7, and the model's 1.weight has 5x6"),
        (["norm.pt", *FC], "fc1.running_mean in norm.pt has no place"),
        (["bias.pt", "--model", "fc_500"], "bias.pt does not fit fc_500: it has 1 layers"),
        (["good.pt", "--model", "fc"], "Unknown model 'fc'"),
        (["good.pt", "--model-width", "2"], "--model-width and --classes need --model"),
        (["good.pt", "--data", "digits"], "good.pt does not take the 1x8x8 images of digits"),
        (["good.pt", "--data", "imagenet"], "'imagenet'; known are digits"),
        (["fc_500", "--model", "lenet5"], "--target fc_500 is a model by itself; leave out --model lenet5"),
        (["fc_500", "--data", "digits", "--classes", "3"], "fc_500 has 3 outputs, and digits 10 classes"),
        (["fc_500", "--data", "digits", "--input-shape", "1", "4", "4"], "takes 1x4x4 images, and those of digits"),
        (["fc_500", "--input-shape", "1", "0", "4"], "input_shape"),
        (["small_conv", "--construction", "convolution"], "features.2 is a GroupNorm"),
        (["."], ". holds no network.safetensors; give a file, or a folder of supermask train"),
        (["run"], "config.json"),
        (["good.pt", "--epsilon", "0"], "epsilon=0.0 must be a positive number"),
        (["good.pt", "--epsilon", "nan"], "epsilon=nan must be a positive number"),
        (["good.pt", "--radius", "-1"], "radius=-1.0 must be a positive number"),
        (["good.pt", "--hidden", "0"], "--hidden 0 is too small"),
        (["good.pt", "--seed", "-1"], "seed=-1 is out of range"),
        (["good.pt", "--threads", "-1"], "--threads -1 is out of range"),
        (["good.pt", "--device", "cuda"], "construct runs on the CPU only; give --device cpu"),
        (["good.pt", "--norm", "l1"], "l1"),
        (["good.pt", "--construction", "diamond"], "diamond"),
        (["good.pt", "--construction", "linear_diamond"], "this one has ReLUs"),
        (["good.pt", "--out", "good.pt/here"], "Cannot write the folder good.pt/here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_a_sentence(arguments, says, tmp_path, capsys):
    for name, content in BAD_FILES.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            torch.save(content, name)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(cut.read_bytes()[:700])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/network.safetensors").write_bytes(b"")
    (tmp_path / "run/config.json").write_text('{"model": "fc_500"}')
    assert status("construct", "--target", *arguments) == 2
    error = capsys.readouterr().err
    flat = " ".join(error.replace("│", " ").split())
    assert says in flat
    assert "Traceback" not in error
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/*"))


def test_a_target_is_asked_for(capsys):
    assert status("construct") == 2
    assert "--target" in capsys.readouterr().err
