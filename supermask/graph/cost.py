"""What a network costs: its parameters, its multiply-adds, and the memory of what its layers return."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from supermask.graph.program import evaluating, tensors_in


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one example.

    Attributes:
        parameters: numbers in all parameters.
        multiply_adds: of convolutional and linear layers, biases and all other layers left out, as Li et al. 2017,
            section 3, count the operations of a layer: outputs * inputs * kernel size * pixels.

    """

    parameters: int
    multiply_adds: int


def cost_of(model: nn.Module, example: Tensor) -> Cost:
    """Count what a network costs, from the shapes of one forward pass.

    Args:
        model: left as it was, its statistics too.
        example: an input, e.g. float32 (N, C, H, W).

    """
    counts: list[int] = []
    with ExitStack() as hooks, evaluating(model):
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                hooks.callback(module.register_forward_hook(partial(_count, counts)).remove)
        model(example.to(next(model.parameters()).device))
    return Cost(sum(parameter.numel() for parameter in model.parameters()), sum(counts) // len(example))


def largest_activation(model: nn.Module, example: Tensor) -> int:
    """Return the bytes of the largest output of a module for one example, from one forward pass.

    Args:
        model: left as it was, its statistics too.
        example: an input, e.g. float32 (N, C, H, W), on the device of the model.

    """
    sizes = [0]
    with ExitStack() as hooks, evaluating(model):
        for module in model.modules():
            hooks.callback(module.register_forward_hook(partial(_measure, sizes)).remove)
        model(example)
    return max(sizes) // len(example)


def _count(counts: list[int], module: nn.Module, args: Any, output: Tensor) -> None:
    counts.append(output.numel() * math.prod(module.get_parameter("weight").shape[1:]))


def _measure(sizes: list[int], module: nn.Module, args: Any, output: Any) -> None:
    sizes.extend(tensor.numel() * tensor.element_size() for tensor in tensors_in(output))
