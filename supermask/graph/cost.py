"""What a network costs: its parameters, its multiply-adds, and the memory of what its layers return."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from supermask.data.batch import Batch, arguments, examples_in, mapped
from supermask.graph.program import evaluating, tensors_in, without_warnings


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one example.

    Attributes:
        parameters: numbers in all parameters.
        multiply_adds: of all convolutions and matrix products, those of recurrent layers and within attention among
            them; biases and all other operations left out, as Li et al. 2017, section 3, count the operations of a
            layer: outputs * inputs * kernel size * pixels.

    """

    parameters: int
    multiply_adds: int


def cost_of(model: nn.Module, example: Any) -> Cost:
    """Count what a network costs, from the shapes of one forward pass.

    Args:
        model: left as it was, its statistics too.
        example: an input, e.g. float32 (N, C, H, W), a tuple of several or a dictionary of them by name.

    """
    from torch.utils.flop_counter import FlopCounterMode  # here, because it imports triton, which takes a while

    device = next(model.parameters()).device
    args, keywords = arguments(mapped(example, lambda tensor: tensor.to(device)))
    counter = FlopCounterMode(display=False)
    with evaluating(model), _in_known_operations(), counter:
        model(*args, **keywords)
    # two floating point operations for each
    each = counter.get_total_flops() // 2 // examples_in(Batch(example, None))
    return Cost(sum(parameter.numel() for parameter in model.parameters()), each)


@contextmanager
def _in_known_operations() -> Iterator[None]:
    """Let recurrent layers and attention run as matrix products, which are counted, and not in one operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            without_warnings(),  # torch's own, of a flag that is only read and set again
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


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


def _measure(sizes: list[int], module: nn.Module, args: Any, output: Any) -> None:
    sizes.extend(tensor.numel() * tensor.element_size() for tensor in tensors_in(output))
