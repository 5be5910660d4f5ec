"""When images must not have their channels last."""

from dataclasses import replace

import torch
from torch import nn

from supermask.training.recipe import Recipe

_LANES = 8  # float32 numbers of a vector of AVX2


def sound_layout(recipe: Recipe, model: nn.Module, device: torch.device) -> Recipe:
    """Return the recipe, without `channels_last` where a convolution of the network would damage memory.

    On processors with AVX2 alone, oneDNN 3.12 (torch 2.14) writes outside of its buffers in the backward pass of a 1x1
    convolution with a stride and fewer than 8 input channels whose images have their channels last. Processes then end
    with a segmentation fault, later and elsewhere. The layout changes only how fast sums are made and in which order.
    """
    if recipe.channels_last and device.type == "cpu" and any(map(_is_damaging, model.modules())):
        return replace(recipe, channels_last=False)
    return recipe


def _is_damaging(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d):
        return False
    return module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < _LANES
