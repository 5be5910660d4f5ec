"""What networks cost, beside counts by hand and of a paper."""

import torch
from torch import nn

from supermask import models
from supermask.graph import cost_of, largest_activation


def test_costs_by_hand():
    model = models.build("lenet5")
    convolutions = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25
    cost = cost_of(model, torch.randn(3, 1, 28, 28))
    assert cost.multiply_adds == convolutions + 400 * 120 + 120 * 84 + 84 * 10
    assert cost.parameters == 61_470 + 236
    grouped = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2)
    assert cost_of(grouped, torch.randn(2, 4, 8, 8)).multiply_adds == 6 * 4 * 4 * 2 * 9


def test_costs_of_vgg_16_are_those_of_the_paper():
    """Li et al. 2017, table 1: 3.13e8 operations and 1.5e7 parameters, with one hidden layer of 512 units."""
    channels = [3, 64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    layers, before = [], 3
    for width in channels[1:]:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    cost = cost_of(model, torch.randn(1, 3, 32, 32))
    assert f"{cost.multiply_adds:.2e}" == "3.13e+08"
    assert f"{cost.parameters:.1e}" == "1.5e+07"
    assert model.training


def test_the_largest_activation_by_hand():
    model = models.build("lenet5")
    assert largest_activation(model, torch.randn(3, 1, 28, 28)) == 28 * 28 * 6 * 4  # the first convolution, float32
    assert largest_activation(model.double(), torch.randn(1, 1, 28, 28).double()) == 28 * 28 * 6 * 8
    assert model.training
