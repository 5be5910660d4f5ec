"""The graph of plain modules that a trained network computes: the first reduction, target -> graph -> layers."""

from torch import nn

from supermask.errors import SupermaskError
from supermask.models.wired import wired
from theory.graph.checks import check_whole
from theory.graph.forward import check_last_width, traced_ops
from theory.graph.modules import append
from theory.graph.wiring import Branch, Wiring

__all__ = ["graph_of"]


def graph_of(target: nn.Module, input_shape: tuple[int, ...] | None = None) -> nn.Sequential:
    """Read a trained network as a graph of plain modules that computes the same.

    The forward pass is followed symbolically: nested and custom modules, and functional calls (`theory.graph.calls`
    lists them), become modules. Dropout and identities vanish. What scales and shifts each channel, as batch norm, is
    folded into the Linear or Conv2d before it; where there is none, as behind a ReLU or a sum, into a depthwise 1x1
    convolution that is put there, and so is the minus sign of a difference. A transposed convolution becomes one over
    images with zeros between their pixels. The target takes one tensor, images (batch, channels, height, width),
    sequences (batch, channels, length) or vectors (batch, units). It is left as it is, and so is torch's random state.

    Args:
        target: `nn.Sequential`, or any module whose forward does the same operations for each input. It is read as
            `target.double().eval()` would run, on any device.
        input_shape: of one input without the batch; by default only what holds for inputs of every size is checked.

    Returns:
        float64 modules on the CPU, in eval mode, with parameters of their own that need no gradient: Linear, Conv2d
        (no padding), ReLU, LeakyReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, Flatten and
        Unflatten, paddings, InsertZeros, Add and Concatenate; an `nn.Sequential`, and a `Wired` one where it is no
        chain. Sizes are pairs of integers. What runs twice in the target stands there twice.

    Raises:
        SupermaskError: the target holds something else, has a weight that is NaN, infinite or not there yet, does not
            fit together or the input shape, begins with a ReLU, or has no Linear and no Conv2d.

    """
    check_whole(target)
    wiring = Wiring([input_shape])
    ops = traced_ops(target)
    values = [0]
    for op in ops:
        branch = Branch(wiring, op.name, tuple(values[source] for source in op.sources))
        append(op.module, branch)
        values.append(branch.reads[0])
        if op.shared:
            wiring.shared.add(values[-1])
    if not wiring.has_layers:
        raise SupermaskError("The target has no Linear layer and no Conv2d, so there is nothing to build.")
    check_last_width(ops)
    return wired(wiring.modules, wiring.sources).eval()
