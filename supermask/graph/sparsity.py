"""What a network with zeros could save: its compression and its theoretical speed-up."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supermask.graph.program import evaluating

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Savings:
    """Numbers and operations of a network, and of what of it is not zero (Blalock et al. 2020, section 5).

    Attributes:
        parameters: numbers in all parameters, biases and batch norm included.
        nonzero_parameters: of them, those that are not zero.
        multiply_adds: of linear and convolutional layers, for one example.
        nonzero_multiply_adds: of them, those whose weight is not zero.

    """

    parameters: int
    nonzero_parameters: int
    multiply_adds: int
    nonzero_multiply_adds: int

    @property
    def compression(self) -> float:
        """Parameters over those that are not zero; infinite where none is."""
        return self.parameters / self.nonzero_parameters if self.nonzero_parameters else float("inf")

    @property
    def speed_up(self) -> float:
        """Multiply-adds over those whose weight is not zero: an upper bound that no machine reaches by itself."""
        return self.multiply_adds / self.nonzero_multiply_adds if self.nonzero_multiply_adds else float("inf")


@torch.no_grad()
def savings_of(model: nn.Module, example: Tensor) -> Savings:
    """Count a network with zeros, such as a ticket's, from the shapes of one forward pass.

    Args:
        model: plain; left as it was.
        example: an input, e.g. float32 (N, C, H, W).

    """
    counted = [0, 0]
    with ExitStack() as hooks, evaluating(model):
        for module in model.modules():
            if isinstance(module, _COUNTED):
                hooks.callback(module.register_forward_hook(partial(_count, counted, len(example))).remove)
        model(example)
    parameters = list(model.parameters())
    return Savings(
        sum(parameter.numel() for parameter in parameters),
        sum(int(parameter.count_nonzero()) for parameter in parameters),
        *counted,
    )


def _count(counted: list[int], examples: int, module: nn.Module, _: Any, output: Tensor) -> None:
    weight = module.get_parameter("weight")
    places = output.numel() // (examples * weight.shape[0])  # each weight is used once at each
    counted[0] += weight.numel() * places
    counted[1] += int(weight.count_nonzero()) * places
