"""Networks small enough to go through weight by weight, and a few images for them."""

from itertools import pairwise

import torch
from torch import nn

from supermask.baselines.sparse import Sparse, whole_ticket

IMAGES = (torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(5)), torch.arange(9) % 3)
DOUBLES = (IMAGES[0].double(), IMAGES[1])


class Residual(nn.Module):
    """A branch that can be done without."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, inputs):
        return inputs + self.second(torch.relu(self.first(inputs)))


def with_norm():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3)
    )


def chain(*widths):
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def sparse(model, seed=0):
    return Sparse(model, whole_ticket(model, seed=seed))
