"""Binary activations: every ReLU of a network replaced by the sign, as in multi-prize tickets."""

from typing import Any

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError


class BinaryActivation(nn.Module):
    """The sign of the input, +1 at zero; its gradient is that of a piecewise quadratic stand-in.

    The gradient is multiplied by 2 - 2|x| for |x| < 1 and by 0 elsewhere (Liu et al. 2018, "Bi-Real Net", section 3.3),
    as in the networks of Diffenderfer & Kailkhura 2021 with binary activations.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return -1 or +1 in the inputs' shape and dtype."""
        signs: Tensor = _Sign.apply(inputs)
        return signs


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        # not torch.sign, which is 0 at zero
        return torch.where(inputs >= 0.0, 1.0, -1.0).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        return gradients[0] * (2.0 - 2.0 * inputs.abs()).clamp(min=0.0)


def binarized(model: nn.Module) -> nn.Module:
    """Replace every ReLU of a model by a binary activation, in place, and return it.

    Raises:
        SupermaskError: it has no ReLU module.

    """
    found = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    if not found:
        raise SupermaskError(
            "The model has no nn.ReLU to replace by a binary activation; a function cannot be replaced."
        )
    for name in found:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, BinaryActivation())
    return model
