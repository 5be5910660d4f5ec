"""The modules with weights: Linear, Conv2d, and what scales and shifts each channel, folded into them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from supermask.errors import SupermaskError
from supermask.models.wired import InsertZeros
from theory.graph.calls import Scaling
from theory.graph.checks import numbers, pair
from theory.graph.shape_check import KINDS
from theory.graph.wiring import Branch

PADS = {"reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d, "circular": nn.CircularPad2d}
"""What pads an image as a convolution with such a padding_mode does."""


ROW = {"stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}
"""What a transposed convolution does along the one row of a sequence."""


@dataclass(frozen=True, eq=False)
class Folded:
    """What the offset of a layer is made of that has batch norms folded into it, by which rounding is bounded.

    Attributes:
        mass: float64 (outputs,), the sum of the sizes that add up to the offset: a mean and a bias may cancel.
        norms: how many there are.

    """

    mass: Tensor
    norms: int


def folded_into(layer: nn.Module) -> Folded | None:
    """Return what was folded into a layer of a chain, if anything was."""
    return getattr(layer, "folded", None)


def linear(name: str, module: nn.Linear, branch: Branch) -> None:
    """Append a copy of a Linear."""
    weight, bias = _weight_and_bias(name, module)
    outputs, inputs = weight.shape
    _check_units(name, inputs, outputs)
    branch.append(_filled(nn.Linear(inputs, outputs, device="meta"), weight, bias))


def conv(name: str, module: nn.Conv2d, branch: Branch) -> None:
    """Append a Conv2d without padding, behind a module that pads where it has some."""
    weight, bias = _weight_and_bias(name, module)
    outputs, inputs, *kernel = weight.shape
    inputs, groups = inputs * module.groups, module.groups
    _check_units(name, inputs, outputs)
    (top, left), (bottom, right) = _padding(name, module, kernel)
    if any((top, left, bottom, right)):
        branch.append(PADS.get(module.padding_mode, nn.ZeroPad2d)((left, right, top, bottom)))
    stride, dilation = pair(name, module.stride), pair(name, module.dilation)
    plain = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride, dilation=dilation, groups=groups, device="meta")
    branch.append(_filled(plain, weight, bias))


def transposed_conv(name: str, module: Any, branch: Branch) -> None:
    """Append a transposed convolution: zeros between the pixels and around them, then a Conv2d of the turned kernel."""
    weight, bias = _weight_and_bias(name, module)
    inputs, groups = len(weight), module.groups
    outputs, window = weight.shape[1] * groups, weight.shape[2:]
    _check_units(name, inputs, outputs)
    stride, dilation, padding, more = (
        pair(name, each) for each in (module.stride, module.dilation, module.padding, module.output_padding)
    )
    before = [gap * (tap - 1) - cut for gap, tap, cut in zip(dilation, window, padding, strict=True)]
    if min(before) < 0:
        raise SupermaskError(f"The target's {name} cuts off more than its kernel adds; give it less padding.")
    if max(stride) > 1:
        branch.append(InsertZeros(stride))
    (top, left), (bottom, right) = before, (side + end for side, end in zip(before, more, strict=True))
    if any((top, left, bottom, right)):
        branch.append(nn.ZeroPad2d((left, right, top, bottom)))
    turned = weight.reshape(groups, inputs // groups, outputs // groups, *window).transpose(1, 2).flip(3, 4)
    plain = nn.Conv2d(
        inputs, outputs, (window[0], window[1]), dilation=dilation, groups=groups, device="meta"
    )  # fmt: skip
    branch.append(_filled(plain, turned.reshape(outputs, inputs // groups, *window).contiguous(), bias))


def transposed_conv1d(name: str, module: nn.ConvTranspose1d, branch: Branch) -> None:
    """Append the same over images of one row."""
    weight, bias = _weight_and_bias(name, module)
    row = SimpleNamespace(
        weight=weight[:, :, None],
        bias=bias,
        groups=module.groups,
        **{each: (neutral, getattr(module, each)[0]) for each, neutral in ROW.items()},
    )
    branch.append(nn.Unflatten(1, (len(weight), 1)))
    transposed_conv(name, row, branch)
    branch.append(nn.Flatten(2, 3))


def conv1d(name: str, module: nn.Conv1d, branch: Branch) -> None:
    """Append a Conv1d as a Conv2d over images of one row."""
    weight, bias = _weight_and_bias(name, module)
    outputs, inputs, length = weight.shape
    inputs, groups = inputs * module.groups, module.groups
    _check_units(name, inputs, outputs)
    (left,), (right,) = _padding(name, module, (length,))
    branch.append(nn.Unflatten(1, (inputs, 1)))
    if left or right:
        branch.append(PADS.get(module.padding_mode, nn.ZeroPad2d)((left, right, 0, 0)))
    stride, dilation = (1, int(module.stride[0])), (1, int(module.dilation[0]))
    plain = nn.Conv2d(inputs, outputs, (1, length), stride, dilation=dilation, groups=groups, device="meta")
    branch.append(_filled(plain, weight[:, :, None], bias))
    branch.append(nn.Flatten(2, 3))


def _check_units(name: str, inputs: int, outputs: int) -> None:
    if not inputs or not outputs:
        raise SupermaskError(
            f"The target's {name} has {inputs} inputs and {outputs} outputs; give layers with one of each at least."
        )


def _weight_and_bias(name: str, module: Any) -> tuple[Tensor, Tensor | None]:
    # read as attributes: a parametrized weight is then its effective value
    return numbers(f"{name}.weight", module.weight), _optional(f"{name}.bias", module.bias)


def _filled(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a layer that was made on the meta device, where no random numbers are drawn, with its values."""
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    filled: nn.Module = layer
    return filled


def _padding(name: str, module: Any, kernel: Iterable[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what pads before and behind, (rows, columns) or (columns,) each; "same" puts more behind of an odd one."""
    if module.padding == "same":
        both = [step * (size - 1) for step, size in zip(module.dilation, kernel, strict=True)]
        return tuple(each // 2 for each in both), tuple((each + 1) // 2 for each in both)
    none = (0,) * len(module.kernel_size)
    padding = none if module.padding == "valid" else pair(name, module.padding)[: len(none)]
    return padding, padding


def batch_norm(*takes: int) -> Callable[[str, Any, Branch], None]:
    """Return what folds a batch norm into the layer before it, for tensors of so many dimensions without the batch."""

    def fold(name: str, norm: Any, branch: Branch) -> None:
        if norm.running_mean is None or norm.running_var is None:
            raise SupermaskError(
                f"The target's {name} has no running statistics, so that its output depends on the whole batch; "
                "train it with track_running_stats=True."
            )
        dimensions = takes[0] if branch.shape is None else len(branch.shape)
        if dimensions not in takes:
            kinds = " or ".join(KINDS[each] for each in takes)
            comes = KINDS.get(dimensions, "other tensors")
            raise SupermaskError(
                f"The target's {name} is a {type(norm).__name__} that takes {kinds}, but gets {comes}."
            )
        _fold(name, norm, _layer_before(branch, norm.num_features, dimensions))

    return fold


def scaling(name: str, module: Scaling, branch: Branch) -> None:
    """Fold a factor and a shift, of all units or of each, into the layer before."""
    shape = branch.shape
    if shape is None or shape[0] is None:
        raise SupermaskError(f"The target's {name} scales inputs of any shape; give input_shape.")
    channels, dimensions = shape[0], len(shape)
    gain, shift = (
        _each_channel(name, numbers(name, each), channels, dimensions) for each in (module.gain, module.shift)
    )
    ones = torch.ones(channels, dtype=torch.float64)
    norm = SimpleNamespace(
        num_features=channels, running_mean=0.0 * ones, running_var=ones, eps=0.0, weight=gain, bias=shift
    )
    _fold(name, norm, _layer_before(branch, channels, dimensions))


def _each_channel(name: str, values: Tensor, channels: int, dimensions: int) -> Tensor:
    """Return (channels,) of what is broadcast over tensors (channels, ...) of so many dimensions."""
    shape = list(values.shape)
    while len(shape) > dimensions and shape[0] == 1:
        del shape[0]
    shape = [1] * (dimensions - len(shape)) + shape
    if len(shape) > dimensions or shape[0] not in (1, channels) or any(size != 1 for size in shape[1:]):
        raise SupermaskError(
            f"The target's {name} computes with a tensor of {tuple(values.shape)}; only one number for all or for each"
            " channel can be built."
        )
    return values.reshape(-1).expand(channels).clone()


def _layer_before(branch: Branch, units: int, dimensions: int) -> nn.Module:
    """Return the layer before, into which may be folded; where there is none, one that changes nothing is put there."""
    if found := branch.layer():
        return found
    same = nn.Conv2d(units, units, 1, groups=units, bias=False, device="meta")
    _filled(same, torch.ones(units, 1, 1, 1, dtype=torch.float64), None)
    if dimensions < 3:
        branch.append(nn.Unflatten(1, (units, 1, 1)[: 4 - dimensions]))
    branch.append(same)
    if dimensions < 3:
        branch.append(nn.Flatten() if dimensions == 1 else nn.Flatten(2, 3))
    return same


def _fold(name: str, norm: Any, layer: Any) -> None:
    units = len(layer.weight)
    if units != norm.num_features:
        raise SupermaskError(f"The target's {name} takes {norm.num_features} inputs, but gets {units}.")
    mean, variance, scale, shift = (
        _optional(f"{name}.{each}", getattr(norm, each)) for each in ("running_mean", "running_var", "weight", "bias")
    )
    if (variance + norm.eps <= 0).any():
        raise SupermaskError(f"The target's {name}.running_var holds a variance that is not positive.")
    sizes = _offset_sizes(layer, mean, shift)
    fused = fuse_conv_bn_weights(layer.weight, layer.bias, mean, variance, norm.eps, scale, shift)
    gain = (1.0 if scale is None else scale.abs()) / (variance + norm.eps).sqrt()
    before = folded_into(layer)
    _filled(layer, *(numbers(f"{name}, folded into the layer before it,", each) for each in fused))
    layer.folded = Folded(sizes[0] * gain + sizes[1], 1 + (before.norms if before else 0))


def _offset_sizes(layer: Any, mean: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sizes that a batch norm multiplies on their way to the offset, and those that it adds."""
    before, none = folded_into(layer), torch.zeros_like(mean)
    own = before.mass if before else none if layer.bias is None else layer.bias.detach().abs()
    return own + mean.abs(), none if shift is None else shift.abs()


def _optional(name: str, tensor: Tensor | None) -> Any:
    return None if tensor is None else numbers(name, tensor)
