"""Tickets of MNIST: without dead units, and as ONNX, every test image gets the class that it had."""

import os

import onnxruntime
import pytest
import torch
from torch import nn

from supermask import EdgePopup, models
from supermask.data import load
from supermask.deploy import export, narrow
from supermask.training import Recipe, train

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA names no folder of data sets"),
]


def convolutional():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


@pytest.mark.parametrize(
    ("build", "options", "least"),
    [
        pytest.param(
            *(lambda: models.build("lenet_300_100"), {"scope": "erk", "density": 0.02}, 0.92), marks=pytest.mark.slow
        ),
        (lambda: models.build("lenet_300_100"), {"scope": "erk", "density": 0.02, "bias": "learned"}, 0.92),
        (convolutional, {"density": 0.1, "norm": "learned"}, 0.9),
    ],
    ids=["perceptron", "biases", "convolutional"],
)
@torch.no_grad()
def test_every_test_image_keeps_its_class(build, options, least, tmp_path):
    data, search = load("mnist"), EdgePopup(build(), **options)
    with torch.enable_grad():
        outcome = train(search, data, Recipe(epochs=1), seed=0)
    assert outcome.test.accuracy > least
    network = search.ticket().apply(build()).eval()
    test = data.test()
    images = data.normalize(test.images)
    narrowed = narrow(network, images[:2])
    expected = torch.cat([network(part) for part in images.split(500)])
    found = torch.cat([narrowed.network(part) for part in images.split(500)])
    assert narrowed.removed > 0
    assert torch.equal(found.argmax(1), expected.argmax(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    export(narrowed.network, tmp_path / "network.onnx", example=images[:2])
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    ran = torch.cat([torch.from_numpy(session.run(None, {"input": part.numpy()})[0]) for part in images.split(500)])
    assert torch.equal(ran.argmax(1), expected.argmax(1))
