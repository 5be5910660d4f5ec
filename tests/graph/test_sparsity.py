"""Compression and theoretical speed-up against loops over weights and pixels."""

import pytest
import torch
from torch import nn

from supermask import models
from supermask.graph.cost import cost_of
from supermask.graph.sparsity import savings_of


def test_it_counts_what_loops_count():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 4))
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[0].bias[0] = 0.0
        model[3].weight[:, ::2] = 0.0
    found = savings_of(model, torch.randn(5, 2, 5, 6))
    conv = sum(4 for value in model[0].weight.flatten().tolist() if value)  # 2 x 2 pixels
    linear = sum(1 for value in model[3].weight.flatten().tolist() if value)
    assert found.nonzero_multiply_adds == conv + linear == 4 * 36 + 24
    assert found.multiply_adds == 4 * 54 + 48
    assert (found.parameters, found.nonzero_parameters) == (54 + 3 + 48 + 4, 36 + 2 + 24 + 4)
    assert found.compression == pytest.approx(109 / 66)
    assert found.speed_up == pytest.approx(264 / 168)


@pytest.mark.parametrize("name", ["mobilenet", "resnet8", "conv2"])
def test_of_a_dense_network_it_is_its_cost(name):
    model, example = models.build(name, width=0.125), torch.randn(2, 3, 32, 32)
    found, cost = savings_of(model, example), cost_of(model, example)
    assert (found.parameters, found.multiply_adds) == (cost.parameters, cost.multiply_adds)
    assert found.speed_up == 1.0


def test_a_network_of_zeros_saves_all():
    model = nn.Linear(2, 2)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert savings_of(model, torch.ones(1, 2)).speed_up == float("inf")
