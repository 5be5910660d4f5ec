"""Two-layer perceptrons: plain, and with copies of its inputs before each layer (a "diamond")."""

import math

import torch
from torch import Tensor, nn

from supermask.models.shape import InputShape, scaled

HIDDEN = 500
"""Hidden units at width 1."""

COPIES = 5
"""Copies of each input in a diamond: the redundancy r of Pensia et al. 2020, experiment 2."""


class FullyConnected(nn.Sequential):
    """Multilayer perceptron with one hidden layer of 500 ReLU units.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 397,000 weights and 510 biases at
    (1, 28, 28) with 10 classes. At width 5.016, with 2,508 hidden units, it has 1,991,352 weights, 68 fewer than a
    `Diamond` of width 1.

    Source: Pensia et al. 2020, experiments 1 and 2, whose layers have no biases.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        inputs, hidden = math.prod(input_shape), scaled(HIDDEN, width)
        super().__init__(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class Diamond(nn.Sequential):
    """The perceptron of `FullyConnected` with each weight replaced by five paths of two weights.

    Each linear layer reads 5 copies of each of its inputs, which have a weight each (`Copies`). The paths that a mask
    keeps add up to the weight that they replace. Maps float images (batch, channels, height, width) to logits (batch,
    classes); 1,991,420 weights and 510 biases at (1, 28, 28) with 10 classes.

    With `relu` a ReLU follows the copies, as in the theorem of Pensia et al. 2020; without it the two hops make one
    linear map.

    Source: Pensia et al. 2020, experiment 2, whose layers have no biases.
    """

    def __init__(self, *, relu: bool, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        inputs, hidden = math.prod(input_shape), scaled(HIDDEN, width)
        super().__init__(nn.Flatten(), *_hops(inputs, hidden, relu), nn.ReLU(), *_hops(hidden, classes, relu))


class Copies(nn.Module):
    """Copies of every input, each times a weight of its own: (batch, inputs) to (batch, inputs * copies).

    Output i * copies + j is sqrt(copies) * weight[i * copies + j, 0] times input i. The square root is the scale of
    the authors' code: its second hop has weights of variance 2 / inputs, where the Kaiming distributions count the
    copies too and give 2 / (copies * inputs). It makes up for that, so that both compute alike.

    Source: Pensia et al. 2020, experiment 2; github.com/acnagle/optimal-lottery-tickets, pruning/utils/red_fc.py.
    """

    def __init__(self, inputs: int, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.groups = inputs  # as a grouped convolution says that an output reads one input
        self.weight = nn.Parameter(torch.empty(inputs * copies, 1))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch draws its linear layers

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the weighted copies."""
        factors = math.sqrt(self.copies) * self.weight.view(-1, self.copies)
        return (inputs.unsqueeze(2) * factors).flatten(1)

    def extra_repr(self) -> str:
        """Return what a printed model shows of it."""
        return f"inputs={self.groups}, copies={self.copies}"


def _hops(inputs: int, outputs: int, relu: bool) -> list[nn.Module]:
    """Return the modules that stand for one linear layer."""
    between = [nn.ReLU()] if relu else []
    return [Copies(inputs, COPIES), *between, nn.Linear(inputs * COPIES, outputs)]
