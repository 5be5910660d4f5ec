"""The shapes along a chain: followed from module to module, as far as the shape of the input is known."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from theory.chain.calls import FlattenTo
from theory.chain.trace import TracedOp

Shape = tuple[int, ...]
"""The shape of one sample, without the batch: (units,) or (channels, height, width)."""

Incoming: TypeAlias = tuple[int | None, ...] | None
"""The shape of a module's input, with None for a size that is not known; None alone may be of any shape."""

KINDS = {1: "vectors", 3: "images"}
"""What the modules with weights take, by the number of its dimensions."""
HINTS = {"vectors": "put an nn.Flatten before it", "images": "images have the shape (channels, height, width)"}

LARGEST_SIDE = 512
"""Side of the largest square image that is tried where the shape of the input is not given: all sides up to it take a
few seconds with eight convolutions."""


def shape_after(module: nn.Module, incoming: Incoming, width: int | None = None) -> Incoming:
    """Return the shape of the output of a plain module of a chain.

    Args:
        module: without padding of its own where it is a Conv2d.
        incoming: the shape of its input.
        width: number of values of a sample that a view names, where the module is a Flatten.

    Raises:
        SupermaskError: it does not take that shape; a bare fact, without a name and a period.

    """
    if isinstance(module, nn.ReLU):
        return incoming
    if isinstance(module, nn.Flatten):
        return _flattened(incoming, width)
    if isinstance(module, nn.Linear):
        _check_kind("vectors", incoming)
        _check_count("{} inputs, but gets {}", module.in_features, incoming)
        return (module.out_features,)
    _check_kind("images", incoming)
    channels = incoming[0] if incoming else None
    if isinstance(module, nn.Conv2d):
        _check_count("images of {} channels, but gets images of {}", module.in_channels, incoming)
        channels = module.out_channels
    return (channels, *_sides(module, incoming))


def shapes_along(modules: Iterable[nn.Module], shape: Shape) -> list[Shape]:
    """Return the shape before each module, and that of the output, for inputs of a shape.

    Raises:
        SupermaskError: some module does not take what the one before it gives; a bare fact.

    """
    found: list[Incoming] = [shape]
    for module in modules:
        found.append(shape_after(module, found[-1]))
    return cast(list[Shape], found)  # where the first is known, so are all


def input_shape_of(modules: Sequence[nn.Module]) -> Shape:
    """Return the shape of the input as the modules of a chain imply it.

    That is the number of inputs of a fully connected network, and otherwise the smallest square image that the first
    Linear layer fits.

    Raises:
        SupermaskError: images of any size fit, or none does.

    """
    first = next(module for module in modules if isinstance(module, nn.Linear | nn.Conv2d))
    before = modules[: modules.index(first)]
    if isinstance(first, nn.Linear) and all(isinstance(module, nn.Flatten | nn.ReLU) for module in before):
        return (first.in_features,)
    adaptive = any(isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) for module in modules)
    linear = next((place for place, module in enumerate(modules) if isinstance(module, nn.Linear)), None)
    if adaptive or isinstance(first, nn.Linear) or linear is None:
        raise SupermaskError("The target takes images of any size; give input_shape as (channels, height, width).")
    for side in range(1, LARGEST_SIDE + 1):
        shape = (first.in_channels, side, side)
        if _fits(modules[: linear + 1], shape):
            return shape
    raise SupermaskError(
        f"No square image of up to {LARGEST_SIDE} pixels fits the target's first Linear layer;"
        " give input_shape as (channels, height, width)."
    )


def check_last_width(ops: Sequence[TracedOp]) -> None:
    """Refuse a view(-1, width) that no Linear follows: where an image has more pixels, it cuts it into several.

    Raises:
        SupermaskError: there is one.

    """
    for op in reversed(ops):
        if isinstance(op.module, nn.Linear):
            return
        if isinstance(op.module, FlattenTo) and op.module.width:
            raise SupermaskError(
                f"The target's {op.name} is followed by no Linear that takes its {op.module.width} outputs; "
                "flatten with x.flatten(1)."
            )


def _fits(modules: Iterable[nn.Module], shape: Shape) -> bool:
    try:
        shapes_along(modules, shape)
    except SupermaskError:
        return False
    return True


def _flattened(incoming: Incoming, width: int | None) -> Incoming:
    if incoming is None or None in incoming:
        return (width,)
    size = math.prod(cast(Shape, incoming))
    if width is not None:
        _check_count("{} inputs, but gets {}", width, (size,))
    return (size,)


def _check_kind(takes: str, incoming: Incoming) -> None:
    comes = takes if incoming is None else KINDS.get(len(incoming), f"{_text(incoming)} tensors")
    if comes != takes:
        raise SupermaskError(f"takes {takes}, but gets {comes}; {HINTS[takes]}")


def _check_count(sentence: str, takes: int, incoming: Incoming) -> None:
    comes = incoming[0] if incoming else None
    if comes not in (None, takes):
        raise SupermaskError(f"takes {sentence.format(takes, comes)}")


def _sides(module: nn.Module, incoming: Incoming) -> tuple[int | None, ...]:
    """Return the height and width of a module's output; one channel of zeros stands for all."""
    if incoming is None or None in incoming[1:]:
        return (None, None)
    try:
        after = _on_one_channel(module)(torch.zeros(1, 1, *cast(Shape, incoming[1:]), dtype=torch.float64))
    except RuntimeError:
        raise SupermaskError(f"is a {_described(module)} that does not take {_text(incoming)} images") from None
    if not bool(torch.isfinite(after).all()):  # the largest of no pixels is minus infinity
        raise SupermaskError(
            f"is a {_described(module)} that gives infinity: some window of {_text(incoming)} images is all padding"
        )
    return tuple(after.shape[2:])


def _on_one_channel(module: nn.Module) -> Callable[[Tensor], Tensor]:
    if not isinstance(module, nn.Conv2d):
        return module
    window = torch.zeros(1, 1, *module.kernel_size, dtype=torch.float64)
    return partial(nn.functional.conv2d, weight=window, stride=module.stride, dilation=module.dilation)


def _described(module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d):
        return type(module).__name__
    sides = zip(module.kernel_size, module.dilation, strict=True)
    return f"{_text([gap * (tap - 1) + 1 for tap, gap in sides])} Conv2d"


def _text(sizes: Iterable[int | None]) -> str:
    return "x".join(map(str, sizes))
