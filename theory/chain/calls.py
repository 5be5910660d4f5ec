"""The calls that are understood in a forward pass beside modules: functions, and methods of tensors."""

from collections.abc import Callable
from typing import Any

import einops
import torch
import torch.nn.functional as F
from torch import nn

from supermask.errors import SupermaskError

BATCH = "the batch"
"""Stands for x.size(0) among the arguments of a call."""


class FlattenTo(nn.Flatten):
    """A flattening that names how many values it expects of each sample, as view(-1, 784) does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride or None, padding, dilation, return_indices, ceil_mode)  # another order


def _avg_pool(kernel_size: Any, stride: Any = None, *args: Any, **kwargs: Any) -> nn.Module:
    return nn.AvgPool2d(kernel_size, stride or None, *args, **kwargs)


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    if training:
        raise SupermaskError("drops units after training too; give training=self.training")
    return nn.Identity()


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)  # whose default is another start


def _reshape(*shape: Any) -> nn.Module:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    match list(sizes):
        case [batch, width] if batch == BATCH and isinstance(width, int):
            return nn.Flatten()
        case [-1, int(width)] if width > 0:
            return FlattenTo(width)
    raise SupermaskError(f"makes the shape ({', '.join(map(str, sizes))}); only x.flatten(1) can be built")


def flatten_by(pattern: str, **lengths: int) -> nn.Module:
    """Return the module of an einops pattern.

    Raises:
        SupermaskError: it does something else than to flatten each sample; a bare fact, without a period.

    """
    if not _is_flattening(pattern):
        raise SupermaskError(f"rearranges {pattern!r}; only a flattening as 'b c h w -> b (c h w)' can be built")
    return nn.Flatten()


def _is_flattening(pattern: str) -> bool:
    before, after = (
        "".join(f" {each} " if each in "()" else each for each in side).split() for side in pattern.split("->")
    )
    batch, *axes = before
    axes = [axis for axis in axes if axis != "1"]
    if batch in ("...", "(") or "(" in axes:
        return False
    return after == [batch, "(", *axes, ")"] or (after == [batch, *axes] and len(axes) == 1)


def _nothing(**options: Any) -> nn.Module:
    return nn.Identity()


CALLS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), _relu),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    einops.rearrange: flatten_by,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout), _dropout),
    "contiguous": _nothing,
}
"""Functions, and methods of tensors by their names, as modules that do the same; the tensor is left out."""
