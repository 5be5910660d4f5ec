"""The modules with weights: Linear, Conv2d, and the batch norm that is folded into them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from supermask.errors import SupermaskError
from theory.chain.checks import numbers, pair

Chain = list[nn.Module]


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


def linear(name: str, module: nn.Linear, chain: Chain) -> None:
    """Append a copy of a Linear."""
    weight, bias = _weight_and_bias(name, module)
    outputs, inputs = weight.shape
    _check_units(name, inputs, outputs)
    chain.append(_filled(nn.Linear(inputs, outputs, device="meta"), weight, bias))


def conv(name: str, module: nn.Conv2d, chain: Chain) -> None:
    """Append a Conv2d without groups and without padding, behind a ZeroPad2d where it has some."""
    if module.padding_mode != "zeros":
        mode = module.padding_mode
        raise SupermaskError(f"The target's {name} pads with padding_mode={mode!r}; only 'zeros' can be built.")
    weight, bias = _weight_and_bias(name, module)
    weight = _ungrouped(weight, module.groups)
    outputs, inputs, *kernel = weight.shape
    _check_units(name, inputs, outputs)
    (top, left), (bottom, right) = _padding(name, module, kernel)
    if any((top, left, bottom, right)):
        chain.append(nn.ZeroPad2d((left, right, top, bottom)))
    stride, dilation = pair(name, module.stride), pair(name, module.dilation)
    plain = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride, dilation=dilation, device="meta")
    chain.append(_filled(plain, weight, bias))


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


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """Return (outputs, inputs / groups, ...) as (outputs, inputs, ...), zero between the groups."""
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    # every construction reads dense kernels; a weight of zero is met by no path
    full = weight.new_zeros(weight.shape[0], inputs * groups, *weight.shape[2:])
    for group in range(groups):
        rows, columns = group * outputs, group * inputs
        full[rows : rows + outputs, columns : columns + inputs] = weight[rows : rows + outputs]
    return full


def _padding(name: str, module: nn.Conv2d, kernel: Iterable[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the zeros before and behind, (rows, columns) each; of an odd number, "same" puts more behind."""
    if module.padding == "same":
        both = [step * (size - 1) for step, size in zip(module.dilation, kernel, strict=True)]
        return (both[0] // 2, both[1] // 2), ((both[0] + 1) // 2, (both[1] + 1) // 2)
    padding = (0, 0) if module.padding == "valid" else pair(name, module.padding)
    return padding, padding


def batch_norm(takes: type[nn.Linear] | type[nn.Conv2d]) -> Callable[[str, Any, Chain], None]:
    """Return what folds a batch norm into the layer before it, which must be of a type."""

    def fold(name: str, norm: Any, chain: Chain) -> None:
        if norm.running_mean is None or norm.running_var is None:
            raise SupermaskError(
                f"The target's {name} has no running statistics, so that its output depends on the whole batch; "
                "train it with track_running_stats=True."
            )
        if not chain or not isinstance(chain[-1], takes):
            raise SupermaskError(
                f"The target's {name} is a {type(norm).__name__} that does not directly follow a {takes.__name__}; "
                "only one that does can be built."
            )
        _fold(name, norm, chain[-1])

    return fold


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
