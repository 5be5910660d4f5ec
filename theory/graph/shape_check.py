"""The shapes in a graph: followed from module to module, as far as the shape of the input is known."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.wired import Add, Concatenate, sources_of

Shape = tuple[int, ...]
"""The shape of one sample, without the batch: (units,) or (channels, height, width)."""

Incoming: TypeAlias = tuple[int | None, ...] | None
"""The shape of a module's input, with None for a size that is not known; None alone may be of any shape."""

KINDS = {1: "vectors", 2: "sequences", 3: "images"}
"""What the modules with weights take, by the number of its dimensions."""
HINTS = {
    "vectors": "put an nn.Flatten before it",
    "sequences": "sequences have the shape (channels, length)",
    "images": "images have the shape (channels, height, width)",
}

LARGEST_SIDE = 512
"""Side of the largest square image that is tried where the shape of the input is not given: all sides up to it take a
few seconds with eight convolutions."""


def shape_after(module: nn.Module, incoming: Sequence[Incoming], width: int | None = None) -> Incoming:
    """Return the shape of the output of a plain module.

    Args:
        module: without padding of its own where it is a Conv2d.
        incoming: the shapes of what it reads; several of an Add or a Concatenate.
        width: number of values of a sample that a view names, where the module is a Flatten.

    Raises:
        SupermaskError: it does not take that shape; a bare fact, without a name and a period.

    """
    if isinstance(module, Add):
        return _alike(incoming, "adds tensors")
    if isinstance(module, Concatenate):
        return _side_by_side(incoming)
    (shape,) = incoming
    if isinstance(module, nn.ReLU | nn.LeakyReLU):
        return shape
    if isinstance(module, nn.Flatten):
        return _flattened(module, shape, width)
    if isinstance(module, nn.Unflatten):
        return _unflattened(module, shape)
    if isinstance(module, nn.Linear):
        _check_kind("vectors", shape)
        _check_count("{} inputs, but gets {}", module.in_features, shape)
        return (module.out_features,)
    _check_kind("images", shape)
    channels = shape[0] if shape else None
    if isinstance(module, nn.Conv2d):
        _check_count("images of {} channels, but gets images of {}", module.in_channels, shape)
        channels = module.out_channels
    return (channels, *_sides(module, shape))


def shapes_along(network: nn.Sequential, shape: Shape, most: int | None = None) -> list[Shape]:
    """Return the shape of the input and of what each module gives, for inputs of a shape.

    Args:
        network: a chain or a `Wired` graph of plain modules.
        shape: of the input.
        most: how many of the modules are followed; None is all.

    Raises:
        SupermaskError: some module does not take what comes to it; a bare fact.

    """
    found: list[Incoming] = [shape]
    for module, sources in list(zip(network, sources_of(network), strict=True))[:most]:
        found.append(shape_after(module, [found[source] for source in sources]))
    return cast(list[Shape], found)  # where the first is known, so are all


def input_shape_of(network: nn.Sequential) -> Shape:
    """Return the shape of the input as the modules of a network imply it.

    That is the number of inputs of a fully connected network, and otherwise the smallest square image that the first
    Linear layer fits.

    Raises:
        SupermaskError: images of any size fit, or none does.

    """
    modules = list(network)
    first = next(module for module in modules if isinstance(module, nn.Linear | nn.Conv2d))
    before = modules[: modules.index(first)]
    if isinstance(first, nn.Linear) and all(isinstance(module, nn.Flatten | nn.ReLU) for module in before):
        return (first.in_features,)
    if before and isinstance(before[0], nn.Unflatten):
        sizes = before[0].unflattened_size
        if len(sizes) == 3:  # a vector as an image
            return (math.prod(map(int, sizes)),)
        raise SupermaskError("The target takes sequences of any length; give input_shape as (channels, length).")
    adaptive = any(isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) for module in modules)
    linear = next((place for place, module in enumerate(modules) if isinstance(module, nn.Linear)), None)
    if adaptive or isinstance(first, nn.Linear) or linear is None:
        raise SupermaskError("The target takes images of any size; give input_shape as (channels, height, width).")
    for side in range(1, LARGEST_SIDE + 1):
        shape = (first.in_channels, side, side)
        if _fits(network, shape, linear + 1):
            return shape
    raise SupermaskError(
        f"No square image of up to {LARGEST_SIDE} pixels fits the target's first Linear layer;"
        " give input_shape as (channels, height, width)."
    )


def _fits(network: nn.Sequential, shape: Shape, most: int) -> bool:
    try:
        shapes_along(network, shape, most)
    except SupermaskError:
        return False
    return True


def _flattened(module: nn.Flatten, incoming: Incoming, width: int | None) -> Incoming:
    if (module.start_dim, module.end_dim) == (2, 3):  # the height of one of a sequence
        return None if incoming is None else (incoming[0], incoming[2])
    if incoming is None or None in incoming:
        return (width,)
    size = math.prod(cast(Shape, incoming))
    if width is not None:
        _check_count("{} inputs, but gets {}", width, (size,))
    return (size,)


def _unflattened(module: nn.Unflatten, incoming: Incoming) -> Incoming:
    channels, *sides = (int(size) for size in module.unflattened_size)
    if len(sides) == 2:
        _check_kind("vectors", incoming)
        _check_count("{} inputs, but gets {}", channels * math.prod(sides), incoming)
        return (channels, *sides)
    _check_kind("sequences", incoming)
    _check_count("{} channels, but gets {}", channels, incoming)
    return (channels, *sides, *((None,) if incoming is None else incoming[1:]))


def _alike(incoming: Sequence[Incoming], what: str) -> Incoming:
    """Return the one shape of several tensors, as far as it is known."""
    known = [shape for shape in incoming if shape is not None]
    if not known:
        return None
    for other in known[1:]:
        same = len(other) == len(known[0]) and all(
            None in pair or pair[0] == pair[1] for pair in zip(known[0], other, strict=True)
        )
        if not same:
            raise SupermaskError(f"{what} of {_text(known[0])} and {_text(other)}; give them one shape")
    return tuple(next((size for size in sizes if size is not None), None) for sizes in zip(*known, strict=True))


def _side_by_side(incoming: Sequence[Incoming]) -> Incoming:
    if any(shape is None for shape in incoming):
        return None
    shapes = cast(Sequence[tuple[int | None, ...]], incoming)
    rest = _alike([(1, *shape[1:]) for shape in shapes], "puts tensors side by side")
    channels = [shape[0] for shape in shapes]
    total = None if None in channels else sum(cast(Sequence[int], channels))
    return (total, *cast(tuple[int | None, ...], rest)[1:])


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
