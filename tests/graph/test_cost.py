"""What networks cost, beside counts by hand and of a paper."""

import pytest
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


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_costs_of_recurrent_layers_by_hand(kind, gates):
    # each of 5 steps multiplies 4 inputs and 6 states with every gate; in the second layer 6 and 6
    layer = kind(4, 6, num_layers=2, batch_first=True)
    assert cost_of(layer, torch.randn(3, 5, 4)).multiply_adds == 5 * gates * 6 * (4 + 6 + 6 + 6)


def test_costs_of_attention_by_hand():
    # four projections, and the products of queries with keys and of their weights with values, in both heads
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert cost_of(layer, torch.randn(3, 5, 8)).multiply_adds == 5 * 4 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16


def test_costs_with_several_inputs():
    bilinear = TwoInputs()
    for example in ((torch.ones(2, 4), torch.ones(2, 3)), {"v": torch.ones(2, 3), "u": torch.ones(2, 4)}):
        assert cost_of(bilinear, example).multiply_adds == 4 * 5 + 3 * 5


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, u, v):
        return self.first(u) + self.second(v)
