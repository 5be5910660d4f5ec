"""The chain of plain modules that a trained network computes: the first reduction, target -> chain -> layers."""

from torch import nn

from supermask.errors import SupermaskError
from theory.chain.checks import check_whole
from theory.chain.joints import Comes, check_last_width, through
from theory.chain.modules import append
from theory.chain.trace import steps_of

__all__ = ["chain_of"]


def chain_of(target: nn.Module) -> nn.Sequential:
    """Read a trained network as a flat chain of plain modules that computes the same.

    The forward pass is followed symbolically: nested and custom modules, and functional calls (`theory.chain.trace`
    lists them), become modules. Dropout and identities vanish, batch norm is folded into the Linear or Conv2d before
    it, grouped convolutions are written out with zeros. The target takes one tensor, images (batch, channels, height,
    width) or vectors (batch, units). It is left as it is, and so is torch's random state.

    Args:
        target: `nn.Sequential`, or any module whose forward is a single chain: each operation uses the result of the
            one before. It is read as `target.double().eval()` would run, on any device.

    Returns:
        float64 modules on the CPU, in eval mode, with parameters of their own that need no gradient: Linear, Conv2d
        (groups=1, padding two integers), ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, Flatten (of
        all but the batch) and ZeroPad2d. Sizes are pairs of integers. What runs twice in the target stands there twice.

    Raises:
        SupermaskError: the target is no single chain, holds something else, has a weight that is NaN, infinite or not
            there yet, does not fit together, begins with a ReLU, or has no Linear and no Conv2d.

    """
    check_whole(target)
    chain: list[nn.Module] = []
    comes = Comes()
    steps = steps_of(target)
    for step in steps:
        before = len(chain)
        append(step.name, step.module, chain)
        for module in chain[before:]:
            comes = through(step, module, comes)
    if not any(isinstance(module, nn.Linear | nn.Conv2d) for module in chain):
        raise SupermaskError("The target has no Linear layer and no Conv2d, so there is nothing to build.")
    check_last_width(steps)
    return nn.Sequential(*chain).eval()
