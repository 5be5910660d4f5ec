"""The chain of plain modules that a trained network computes: the first reduction, target -> chain -> layers."""

from torch import nn

from supermask.errors import SupermaskError
from theory.chain.calls import FlattenTo
from theory.chain.checks import check_whole
from theory.chain.modules import append
from theory.chain.shape_check import Incoming, check_last_width, shape_after
from theory.chain.trace import TracedOp, traced_ops

__all__ = ["chain_of"]


def chain_of(target: nn.Module, input_shape: tuple[int, ...] | None = None) -> nn.Sequential:
    """Read a trained network as a flat chain of plain modules that computes the same.

    The forward pass is followed symbolically: nested and custom modules, and functional calls (`theory.chain.trace`
    lists them), become modules. Dropout and identities vanish, batch norm is folded into the Linear or Conv2d before
    it, grouped convolutions are written out with zeros. The target takes one tensor, images (batch, channels, height,
    width) or vectors (batch, units). It is left as it is, and so is torch's random state.

    Args:
        target: `nn.Sequential`, or any module whose forward is a single chain: each operation uses the result of the
            one before. It is read as `target.double().eval()` would run, on any device.
        input_shape: of one input without the batch; by default only what holds for inputs of every size is checked.

    Returns:
        float64 modules on the CPU, in eval mode, with parameters of their own that need no gradient: Linear, Conv2d
        (groups=1, no padding), ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, Flatten (of all but
        the batch) and ZeroPad2d. Sizes are pairs of integers. What runs twice in the target stands there twice.

    Raises:
        SupermaskError: the target is not a single chain, holds something else, has a weight that is NaN, infinite or
            not there yet, does not fit together or the input shape, begins with a ReLU, or has no Linear and no Conv2d.

    """
    check_whole(target)
    chain: list[nn.Module] = []
    shape: Incoming = input_shape
    ops = traced_ops(target)
    for op in ops:
        before = len(chain)
        append(op.name, op.module, chain)
        for module in chain[before:]:
            shape = _through(op, module, shape)
    if not any(isinstance(module, nn.Linear | nn.Conv2d) for module in chain):
        raise SupermaskError("The target has no Linear layer and no Conv2d, so there is nothing to build.")
    check_last_width(ops)
    return nn.Sequential(*chain).eval()


def _through(op: TracedOp, module: nn.Module, incoming: Incoming) -> Incoming:
    """Return the shape behind a module that was made of an operation, by whose name the user knows it."""
    try:
        return shape_after(module, incoming, op.module.width if isinstance(op.module, FlattenTo) else None)
    except SupermaskError as error:
        raise SupermaskError(f"The target's {op.name} {error}.") from None
