"""Plain modules in a chain or a graph as plain values, from which the same network is built again."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from supermask.errors import SupermaskError, first_line
from supermask.models.wired import Add, Concatenate, InsertZeros, Sources, sources_of, wired
from supermask.shown import quoted

_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_POOLING = ("kernel_size", "stride", "padding", "ceil_mode")
ARGUMENTS: Mapping[type[nn.Module], Sequence[str]] = MappingProxyType(
    {
        nn.Linear: ("in_features", "out_features"),
        nn.Conv1d: _CONVOLUTION,
        nn.Conv2d: _CONVOLUTION,
        nn.ReLU: (),
        nn.LeakyReLU: ("negative_slope",),
        nn.Flatten: ("start_dim", "end_dim"),
        nn.Unflatten: ("dim", "unflattened_size"),
        nn.MaxPool2d: (*_POOLING, "dilation", "return_indices"),
        nn.AvgPool2d: (*_POOLING, "count_include_pad", "divisor_override"),
        nn.AdaptiveAvgPool2d: ("output_size",),
        nn.AdaptiveMaxPool2d: ("output_size",),
        nn.ZeroPad2d: ("padding",),
        nn.ConstantPad1d: ("padding", "value"),
        nn.ConstantPad3d: ("padding", "value"),
        nn.ReflectionPad2d: ("padding",),
        nn.ReplicationPad2d: ("padding",),
        nn.CircularPad2d: ("padding",),
        Add: (),
        Concatenate: (),
        InsertZeros: ("stride",),
    }
)
"""The kinds of modules, and the arguments that each is made from again, which are its attributes too."""
MOST_COPIES = 1_000
"""Times that the channels of one module stand side by side before another module with weights reads them."""
_KINDS = {kind.__name__: kind for kind in ARGUMENTS}


def describe(network: nn.Sequential) -> list[list[Any]]:
    """Return the kind and the arguments of each module, as plain values that `from_description` reads.

    Where a module reads something else than what the one before it gives, what it reads comes third: 0 is the input of
    the network, and n what its n-th module gives.

    Args:
        network: a chain, or a `Wired` graph.

    Raises:
        SupermaskError: a module is of a kind that is not in `ARGUMENTS`.

    """
    parts = [
        _describe(str(place), module) for place, module in enumerate(network)
    ]  # one module may stand in two places
    for place, reads in enumerate(sources_of(network)):
        if reads != (place,):
            parts[place].append(list(reads))
    return parts


def from_description(description: Sequence[Any], input_shape: Sequence[int] | None = None) -> nn.Sequential:
    """Return the network that `describe` described, freshly built, in float32.

    Args:
        description: of its modules.
        input_shape: of one input without the batch, where inputs of other shapes are to be refused.

    Raises:
        SupermaskError: the description is not one of `describe`.

    """
    if not isinstance(description, Sequence):
        raise SupermaskError(f"{quoted(description)} does not describe a chain of modules; give a list of them.")
    modules = list(map(_build, description))
    sources = [_sources(place, part) for place, part in enumerate(description)]
    network = wired(modules, sources, input_shape)
    _check_growth(modules, sources)
    return network


def _check_growth(modules: Sequence[nn.Module], sources: Sequence[Sources]) -> None:
    """Refuse concatenations of concatenations that make far more channels than the modules between them can have."""
    copies = [1]
    for module, reads in zip(modules, sources, strict=True):
        parts = [copies[source] for source in reads]
        has_weights = next(module.parameters(), None) is not None
        copies.append(1 if has_weights else sum(parts) if isinstance(module, Concatenate) else max(parts))
    if max(copies) > MOST_COPIES:
        raise SupermaskError(f"It concatenates tensors to {max(copies):,} times their channels; give less.")


def _describe(name: str, module: nn.Module) -> list[Any]:
    # not isinstance, because a subclass may compute something else
    if type(module) not in ARGUMENTS:
        known = ", ".join(_KINDS)
        raise SupermaskError(f"{name} is a {type(module).__name__}; only chains of {known} can be described.")
    arguments = {argument: _plain(getattr(module, argument)) for argument in ARGUMENTS[type(module)]}
    if hasattr(module, "weight"):
        arguments["bias"] = getattr(module, "bias", None) is not None
    return [type(module).__name__, arguments]


def _build(part: Any) -> nn.Module:
    try:
        kind, arguments, *_ = part
        return _KINDS[kind](**{name: _tuple(value) for name, value in arguments.items()})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise SupermaskError(f"{quoted(part)} does not describe a module ({first_line(error)}).") from None


def _sources(place: int, part: Sequence[Any]) -> Sources:
    match part[2:]:
        case []:
            return (place,)
        case [[*sources]] if all(type(source) is int for source in sources):
            return tuple(sources)
    raise SupermaskError(f"{quoted(part)} does not describe a module and what it reads.")


def _plain(value: Any) -> Any:
    # JSON has no tuples
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    # JSON gives lists where torch's modules have tuples
    return tuple(value) if isinstance(value, list) else value
