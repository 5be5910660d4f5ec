"""One module of a trained network becomes plain float64 modules, or is refused: a line per type in `HANDLERS`."""

from collections.abc import Callable
from operator import index
from typing import Any

from torch import nn

from supermask.errors import SupermaskError
from theory.chain.checks import check_forward, pair, refusal
from theory.chain.weighted import Chain, batch_norm, conv, linear


def append(name: str, module: nn.Module, chain: Chain) -> None:
    """Append the plain modules that compute what a module does after training; batch norm changes the last one.

    Args:
        name: of the module, for the message of a refusal.
        module: float64, on the CPU and in eval mode; it is not changed.
        chain: the plain modules before it.

    Raises:
        SupermaskError: the module cannot be built, or does not fit to what is before it.

    """
    base = next((kind for kind in type(module).__mro__ if kind in HANDLERS), None)
    if base is None:
        raise SupermaskError(f"The target's {name} is a {type(module).__name__}; {refusal(type(module).__name__)}.")
    check_forward(name, module, base)
    if module.training:  # overridden, as where dropout is kept on purpose
        raise SupermaskError(f"The target's {name} stays in training mode after eval(); only eval mode can be built.")
    HANDLERS[base](name, module, chain)


def is_known(module: nn.Module) -> bool:
    """Whether `append` knows the module's type, or one that it is derived from."""
    return isinstance(module, tuple(HANDLERS))


def _relu(name: str, module: nn.ReLU, chain: Chain) -> None:
    if not any(isinstance(before, nn.Linear | nn.Conv2d) for before in chain):
        raise SupermaskError("The target begins with a ReLU; only a ReLU that follows a Linear or Conv2d can be built.")
    chain.append(nn.ReLU())


def _max_pool(name: str, module: nn.MaxPool2d, chain: Chain) -> None:
    _check_indices(name, module)
    kernel, stride, padding, dilation = (
        pair(name, size) for size in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    chain.append(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=bool(module.ceil_mode)))


def _avg_pool(name: str, module: nn.AvgPool2d, chain: Chain) -> None:
    kernel, stride, padding = (pair(name, size) for size in (module.kernel_size, module.stride, module.padding))
    if module.divisor_override is not None and module.divisor_override < 1:  # a negative one undoes a ReLU
        raise SupermaskError(f"The target's {name} divides by {module.divisor_override}; give a divisor of at least 1.")
    options = (bool(module.ceil_mode), bool(module.count_include_pad), module.divisor_override)
    chain.append(nn.AvgPool2d(kernel, stride, padding, *options))


def _adaptive_avg_pool(name: str, module: nn.AdaptiveAvgPool2d, chain: Chain) -> None:
    chain.append(nn.AdaptiveAvgPool2d(pair(name, module.output_size)))


def _adaptive_max_pool(name: str, module: nn.AdaptiveMaxPool2d, chain: Chain) -> None:
    _check_indices(name, module)
    chain.append(nn.AdaptiveMaxPool2d(pair(name, module.output_size)))


def _check_indices(name: str, module: Any) -> None:
    if module.return_indices:
        raise SupermaskError(f"The target's {name} returns indices beside its result; give return_indices=False.")


def _flatten(name: str, module: nn.Flatten, chain: Chain) -> None:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise SupermaskError(
            f"The target's {name} flattens dimensions {module.start_dim} to {module.end_dim}; "
            "only nn.Flatten(), of all but the batch, can be built."
        )
    chain.append(nn.Flatten())


def _zero_pad(name: str, module: nn.ZeroPad2d, chain: Chain) -> None:
    left, right, top, bottom = sizes = tuple(map(index, module.padding))
    if min(sizes) < 0:
        raise SupermaskError(f"The target's {name} cuts the image by padding {sizes}; give sizes of at least 0.")
    chain.append(nn.ZeroPad2d((left, right, top, bottom)))


def _nothing(name: str, module: nn.Module, chain: Chain) -> None:
    """Append nothing for what does nothing after training."""


HANDLERS: dict[type[nn.Module], Callable[[str, Any, Chain], None]] = {
    nn.Linear: linear,
    nn.Conv2d: conv,
    nn.ReLU: _relu,
    nn.BatchNorm1d: batch_norm(nn.Linear),
    nn.BatchNorm2d: batch_norm(nn.Conv2d),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.Flatten: _flatten,
    nn.ZeroPad2d: _zero_pad,
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout1d: _nothing,
    nn.Dropout2d: _nothing,
    nn.AlphaDropout: _nothing,
}
"""How each type becomes plain modules; what is not here is refused."""
