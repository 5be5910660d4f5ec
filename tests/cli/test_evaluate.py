"""`supermask evaluate` beside what it says: one pass, batches that fit, and accuracies by hand."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from supermask import EdgePopup, data, models
from supermask.cli import main
from supermask.data import Examples
from supermask.deploy import SparseLinear
from supermask.runs.ticket_scores import LARGEST, batches_for, top_5

DIGITS = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 1.0}


class Widened(nn.Module):
    """A module with that many float32 outputs, which take no memory."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return images[:, 0, 0, :1].expand(-1, self.outputs)


@pytest.mark.parametrize(("outputs", "batch"), [(1, 1000), (LARGEST // 4 // 300, 300), (LARGEST, 1)])
def test_the_largest_activation_chooses_the_batch(outputs, batch):
    images = torch.zeros(1_100, 1, 8, 8, dtype=torch.uint8)
    examples = Examples(images, torch.zeros(1_100, dtype=torch.int64))
    sizes = [len(labels) for _, labels in batches_for(Widened(outputs), data.load("digits"), examples)]
    assert set(sizes[:-1]) == {batch}
    assert sum(sizes) == 1_100


def test_no_examples_make_no_batches():
    examples = Examples(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    assert list(batches_for(nn.Flatten(), data.load("digits"), examples)) == []


@pytest.mark.parametrize(("width", "density", "rows"), [(1.0, 0.5, False), (4.0, 0.02, True)])
def test_the_network_sees_every_example_once_and_each_class_is_counted(tmp_path, width, density, rows):
    model = partial(models.build, "lenet_300_100", input_shape=(1, 8, 8), width=width)
    found = EdgePopup(model(), density=density, seed=3).ticket()
    ticket = replace(found, provenance={"model": {**DIGITS, "width": width}, "data": "digits"})
    ticket.save(tmp_path / "network.ticket")
    seen = []
    hook = register_module_forward_hook(lambda module, inputs, output: seen.append((module, len(output))))
    try:
        assert main(["evaluate", str(tmp_path / "network.ticket"), "--device", "cpu"]) == 0
    finally:
        hook.remove()
    digits = data.load("digits")
    test, network = digits.test(), seen[-1][0]  # the outermost module is the last to be done
    # two show that they fit, and one, alone, the sizes
    assert sum(count for module, count in seen if module is network) == len(test) + 3
    assert any(isinstance(module, SparseLinear) for module in network.modules()) is rows
    again = ticket.apply(model())
    guesses = again(digits.normalize(test.images)).argmax(1)
    said = json.loads((tmp_path / "evaluation.json").read_text())
    assert said["correct"] == int((guesses == test.labels).sum())
    by_hand = [float((guesses[test.labels == label] == label).float().mean()) for label in range(10)]
    assert said["per_class"] == pytest.approx(by_hand, rel=1e-6)


def test_with_many_classes_the_five_likeliest_count_too(tmp_path, capsys):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (80, 8, 8), np.uint8), random.permutation(np.arange(80) % 12)
    parts = {"x_train": images[:40], "y_train": labels[:40]}
    np.savez(tmp_path / "own.npz", **parts, x_test=images[40:], y_test=labels[40:])
    model = partial(models.build, "lenet_300_100", input_shape=(1, 8, 8), classes=12)
    name = f"npz:{tmp_path / 'own.npz'}"
    ticket = replace(EdgePopup(model(), density=0.5, seed=3).ticket(), provenance={"model": {**DIGITS, "classes": 12}})
    ticket.save(tmp_path / "network.ticket")
    assert main(["evaluate", str(tmp_path / "network.ticket"), "--data", name, "--device", "cpu"]) == 0
    own = data.load(name)
    test = own.test()
    logits = ticket.apply(model())(own.normalize(test.images)).tolist()
    by_hand = [sorted(range(12), key=row.__getitem__)[-5:] for row in logits]
    wanted = sum(label in best for label, best in zip(test.labels.tolist(), by_hand, strict=True)) / len(test)
    assert json.loads((tmp_path / "evaluation.json").read_text())["top_5"] == pytest.approx(wanted)
    assert f"{wanted:.2%}" in capsys.readouterr().out


def test_the_five_likeliest_of_fewer_classes_are_all():
    assert top_5([(torch.zeros(3, 4), torch.tensor([0, 1, 3]))]) == 1.0
    assert top_5([]) == 0.0
