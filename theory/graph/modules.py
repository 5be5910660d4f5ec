"""One module of a trained network becomes plain float64 modules, or is refused: a line per type in `HANDLERS`."""

from collections.abc import Callable
from operator import index
from typing import Any

from torch import nn

from supermask.errors import SupermaskError
from supermask.models.wired import Add, Concatenate
from theory.graph.calls import FlattenTo, Mean, Scaling, Subtract
from theory.graph.checks import JOIN_HINT, check_forward, numbers, pair, refusal
from theory.graph.weighted import batch_norm, conv, conv1d, linear, scaling, transposed_conv, transposed_conv1d
from theory.graph.wiring import Branch


def append(module: nn.Module, branch: Branch) -> None:
    """Append the plain modules that compute what a module does after training; batch norm changes the layer before.

    Args:
        module: float64, on the CPU and in eval mode; it is not changed.
        branch: what it reads, and its name for the message of a refusal.

    Raises:
        SupermaskError: the module cannot be built, or does not take what it reads.

    """
    name = branch.name
    base = next((kind for kind in type(module).__mro__ if kind in HANDLERS), None)
    if base is None:
        raise SupermaskError(f"The target's {name} is a {type(module).__name__}; {refusal(type(module).__name__)}.")
    check_forward(name, module, base)
    if module.training:  # overridden, as where dropout is kept on purpose
        raise SupermaskError(f"The target's {name} stays in training mode after eval(); only eval mode can be built.")
    if len(branch.reads) > 1 and base not in JOINS:
        raise SupermaskError(f"The target's {name} brings {len(branch.reads)} tensors together; {JOIN_HINT}.")
    HANDLERS[base](name, module, branch)


def is_known(module: nn.Module) -> bool:
    """Whether `append` knows the module's type, or one that it is derived from."""
    return isinstance(module, tuple(HANDLERS))


def _relu(name: str, module: nn.ReLU, branch: Branch) -> None:
    if not branch.wiring.has_layers:
        raise SupermaskError("The target begins with a ReLU; only a ReLU that follows a Linear or Conv2d can be built.")
    branch.append(nn.ReLU())


def _leaky_relu(name: str, module: nn.LeakyReLU, branch: Branch) -> None:
    slope = float(module.negative_slope)
    if not 0.0 <= slope <= 1.0:
        raise SupermaskError(f"The target's {name} has a slope of {slope}; give one from 0 to 1.")
    branch.append(nn.LeakyReLU(slope))


def _prelu(name: str, module: nn.PReLU, branch: Branch) -> None:
    slopes = numbers(f"{name}.weight", module.weight)
    if not bool((slopes == slopes[0]).all()):
        raise SupermaskError(f"The target's {name} has a slope for each channel; only one for all can be built.")
    _leaky_relu(name, nn.LeakyReLU(float(slopes[0])), branch)


def _threshold(name: str, module: nn.Threshold, branch: Branch) -> None:
    if module.threshold != 0 or module.value != 0:
        raise SupermaskError(f"The target's {name} has a threshold of its own; only that of a ReLU, 0, can be built.")
    _relu(name, nn.ReLU(), branch)


def _max_pool(name: str, module: nn.MaxPool2d, branch: Branch) -> None:
    _check_indices(name, module)
    kernel, stride, padding, dilation = (
        pair(name, size) for size in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    branch.append(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=bool(module.ceil_mode)))


def _avg_pool(name: str, module: nn.AvgPool2d, branch: Branch) -> None:
    kernel, stride, padding = (pair(name, size) for size in (module.kernel_size, module.stride, module.padding))
    if module.divisor_override is not None and module.divisor_override < 1:  # a negative one undoes a ReLU
        raise SupermaskError(f"The target's {name} divides by {module.divisor_override}; give a divisor of at least 1.")
    options = (bool(module.ceil_mode), bool(module.count_include_pad), module.divisor_override)
    branch.append(nn.AvgPool2d(kernel, stride, padding, *options))


def _adaptive_avg_pool(name: str, module: nn.AdaptiveAvgPool2d, branch: Branch) -> None:
    branch.append(nn.AdaptiveAvgPool2d(pair(name, module.output_size)))


def _adaptive_max_pool(name: str, module: nn.AdaptiveMaxPool2d, branch: Branch) -> None:
    _check_indices(name, module)
    branch.append(nn.AdaptiveMaxPool2d(pair(name, module.output_size)))


def _check_indices(name: str, module: Any) -> None:
    if module.return_indices:
        raise SupermaskError(f"The target's {name} returns indices beside its result; give return_indices=False.")


def _flatten(name: str, module: nn.Flatten, branch: Branch) -> None:
    if (module.start_dim, module.end_dim) not in ((1, -1), (-3, -1)):
        raise SupermaskError(
            f"The target's {name} flattens dimensions {module.start_dim} to {module.end_dim}; "
            "only nn.Flatten(), of all but the batch, can be built."
        )
    branch.append(nn.Flatten(), module.width if isinstance(module, FlattenTo) else None)


def _mean(name: str, module: Mean, branch: Branch) -> None:
    """Append an average over all places of each channel, as a pooling to one."""
    sequence = branch.shape is not None and len(branch.shape) == 2
    dimensions = 2 if sequence else 3
    if {axis if axis > 0 else axis + 1 + dimensions for axis in module.axes} != set(range(2, dimensions + 1)):
        raise SupermaskError(
            f"The target's {name} averages over dimensions {module.axes}; only over all but the batch and the channels"
            " can be built."
        )
    if sequence:
        branch.append(nn.Unflatten(1, (_channels(branch), 1)))
    branch.append(nn.AdaptiveAvgPool2d((1, 1)))
    if not module.keeps:
        branch.append(nn.Flatten())
    elif sequence:
        branch.append(nn.Flatten(2, 3))


def _of_sequences(handle: Callable[[str, Any, Branch], None], image: Callable[[Any], nn.Module]) -> Any:
    """Return what appends a module of sequences as that of images of one row."""

    def append_to(name: str, module: Any, branch: Branch) -> None:
        branch.append(nn.Unflatten(1, (_channels(branch), 1)))
        handle(name, image(module), branch)
        branch.append(nn.Flatten(2, 3))

    return append_to


def _channels(branch: Branch) -> int:
    if branch.shape is None or branch.shape[0] is None:
        raise SupermaskError(f"The target's {branch.name} takes sequences of any channels; give input_shape.")
    return branch.shape[0]


def _unflatten(name: str, module: nn.Unflatten, branch: Branch) -> None:
    sizes = tuple(module.unflattened_size)
    if module.dim not in (1, -1) or len(sizes) != 3 or not all(type(size) is int for size in sizes):
        raise SupermaskError(
            f"The target's {name} makes sizes {sizes} of dimension {module.dim}; only images of vectors,"
            " nn.Unflatten(1, (channels, height, width)), can be built."
        )
    branch.append(nn.Unflatten(1, sizes))


def _subtract(name: str, module: Subtract, branch: Branch) -> None:
    left, right = branch.reads
    negative = Branch(branch.wiring, name, (right,))
    scaling(name, Scaling(-1.0), negative)
    branch.reads = (left, *negative.reads)
    branch.append(Add())


def _join(name: str, module: nn.Module, branch: Branch) -> None:
    branch.append(type(module)())


def _zero_pad(name: str, module: nn.ZeroPad2d, branch: Branch) -> None:
    left, right, top, bottom = sizes = tuple(map(index, module.padding))
    if min(sizes) < 0:
        raise SupermaskError(f"The target's {name} cuts the image by padding {sizes}; give sizes of at least 0.")
    branch.append(nn.ZeroPad2d((left, right, top, bottom)))


def _nothing(name: str, module: nn.Module, branch: Branch) -> None:
    """Append nothing for what does nothing after training."""


def _row(size: Any) -> tuple[int, Any]:
    return 1, size[0] if isinstance(size, tuple) else size


def _max_pool_of_a_row(module: nn.MaxPool1d) -> nn.Module:
    kernel, stride, dilation = map(_row, (module.kernel_size, module.stride, module.dilation))
    padding = (0, _row(module.padding)[1])
    return nn.MaxPool2d(kernel, stride, padding, dilation, module.return_indices, module.ceil_mode).eval()


def _avg_pool_of_a_row(module: nn.AvgPool1d) -> nn.Module:
    padding = (0, _row(module.padding)[1])
    options = (module.ceil_mode, module.count_include_pad)
    return nn.AvgPool2d(_row(module.kernel_size), _row(module.stride), padding, *options).eval()


HANDLERS: dict[type[nn.Module], Callable[[str, Any, Branch], None]] = {
    nn.Linear: linear,
    nn.Conv2d: conv,
    nn.Conv1d: conv1d,
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.PReLU: _prelu,
    nn.Threshold: _threshold,
    nn.ConvTranspose2d: transposed_conv,
    nn.ConvTranspose1d: transposed_conv1d,
    nn.BatchNorm1d: batch_norm(1, 2),
    nn.BatchNorm2d: batch_norm(3),
    Scaling: scaling,
    Mean: _mean,
    Add: _join,
    Concatenate: _join,
    Subtract: _subtract,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.MaxPool1d: _of_sequences(_max_pool, _max_pool_of_a_row),
    nn.AvgPool1d: _of_sequences(_avg_pool, _avg_pool_of_a_row),
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    nn.ZeroPad2d: _zero_pad,
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout1d: _nothing,
    nn.Dropout2d: _nothing,
    nn.AlphaDropout: _nothing,
}
"""How each type becomes plain modules; what is not here is refused."""
JOINS = (Add, Concatenate, Subtract)
"""What reads several tensors."""
