"""The calls that are understood in a forward pass beside modules: functions, and methods of tensors."""

import operator
from collections.abc import Callable
from typing import Any

import einops
import torch
import torch.nn.functional as F
from torch import nn

from supermask.errors import SupermaskError
from supermask.models.wired import Add, Concatenate

BATCH = "the batch"
"""Stands for x.size(0) among the arguments of a call."""
INPUT = "a tensor of the graph"
"""Stands for each tensor that depends on the input among the operands of `ARITHMETIC`."""


class Scaling(nn.Module):
    """Each unit times a factor, and a shift, which are numbers or tensors to be broadcast."""

    def __init__(self, gain: Any = 1.0, shift: Any = 0.0) -> None:
        super().__init__()
        self.gain, self.shift = _tensor(gain), _tensor(shift)


class Subtract(nn.Module):
    """The first of two tensors of one shape without the second."""


class Mean(nn.Module):
    """The average over some dimensions of a batch."""

    def __init__(self, axes: tuple[int, ...], keeps: bool) -> None:
        super().__init__()
        self.axes, self.keeps = axes, keeps


class FlattenTo(nn.Flatten):
    """A flattening that names how many values it expects of each sample, as view(-1, 784) does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()


def _clamp(min: Any = None, max: Any = None) -> nn.Module:
    if max is not None or isinstance(min, torch.Tensor) or min != 0:
        raise SupermaskError(f"clamps between {min} and {max}; only clamp(min=0), a ReLU, can be built")
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
        case [batch, int(channels), int(rows), int(columns)] if batch in (BATCH, -1):
            return nn.Unflatten(1, (channels, rows, columns))
    raise SupermaskError(
        f"makes the shape ({', '.join(map(str, sizes))}); only x.flatten(1), and images of vectors, can be built"
    )


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


def reduced_by(pattern: str, reduction: Any, **lengths: int) -> nn.Module:
    """Return the module of an einops pattern that averages over all places of each channel.

    Raises:
        SupermaskError: it does something else; a bare fact, without a period.

    """
    before, after = (side.replace("()", "1").split() for side in pattern.split("->"))
    places = len(before) - 2
    named = all(axis.isidentifier() for axis in before)
    if reduction != "mean" or not named or places < 1 or after not in (before[:2], [*before[:2], *["1"] * places]):
        raise SupermaskError(f"reduces {pattern!r}; only an average as 'b c h w -> b c' can be built")
    return Mean(tuple(range(2, len(before))), len(after) > 2)


def _mean(dim: Any = None, keepdim: bool = False) -> nn.Module:
    axes = tuple(dim) if isinstance(dim, tuple | list) else (dim,)
    if not all(type(axis) is int for axis in axes):
        raise SupermaskError("averages over the batch too; give the dimensions of the image, as x.mean((2, 3))")
    return Mean(axes, keepdim)


def _leaky_relu(negative_slope: float = 0.01, inplace: bool = False) -> nn.Module:
    return nn.LeakyReLU(negative_slope)


def _pad(pad: Any, mode: str = "constant", value: Any = None) -> nn.Module:
    if mode != "constant" or value not in (None, 0) or len(pad) != 4:
        raise SupermaskError("pads by something else than zeros on the four sides of images")
    return nn.ZeroPad2d(tuple(pad))


def _add(left: Any, right: Any, alpha: float = 1) -> nn.Module:
    if alpha != 1:
        raise SupermaskError(f"adds with alpha={alpha}; multiply the tensor by it first")
    return Add() if left is right is INPUT else Scaling(shift=right if left is INPUT else left)


def _subtract(left: Any, right: Any, alpha: float = 1) -> nn.Module:
    if alpha != 1:
        raise SupermaskError(f"subtracts with alpha={alpha}; multiply the tensor by it first")
    if left is right is INPUT:
        return Subtract()
    return Scaling(shift=-_tensor(right)) if left is INPUT else Scaling(-1.0, left)


def _multiply(left: Any, right: Any) -> nn.Module:
    if left is right is INPUT:
        raise SupermaskError("multiplies two tensors that depend on the input; only sums of them can be built")
    return Scaling(right if left is INPUT else left)


def _divide(left: Any, right: Any) -> nn.Module:
    if right is INPUT:
        raise SupermaskError("divides by a tensor that depends on the input; only a number can be built")
    return Scaling(1.0 / _tensor(right))


def _negative(_: Any) -> nn.Module:
    return Scaling(-1.0)


def _concatenate(tensors: Any, dim: int = 0) -> nn.Module:
    if dim != 1:
        raise SupermaskError(
            f"puts tensors side by side along dimension {dim}; only along 1, the channels, can be built"
        )
    if not all(each is INPUT for each in tensors):
        raise SupermaskError("puts a constant beside tensors of the graph; only such tensors can be built")
    return Concatenate()


def _tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)  # at once: of a Python float, float32 would keep 7 digits


def _nothing(**options: Any) -> nn.Module:
    return nn.Identity()


CALLS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), _relu),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
    **dict.fromkeys((torch.clamp, torch.clamp_min, "clamp", "clamp_", "clamp_min", "clamp_min_"), _clamp),
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    einops.rearrange: flatten_by,
    einops.reduce: reduced_by,
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky_relu),
    F.pad: _pad,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout), _dropout),
    "contiguous": _nothing,
}
"""Functions, and methods of tensors by their names, as modules that do the same; the tensor is left out."""
ARITHMETIC: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _subtract),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _multiply),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _divide),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _concatenate),
}
"""The same for what combines tensors: operands are `INPUT`, numbers, or tensors that do not depend on the input."""
