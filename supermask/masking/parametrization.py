"""A masked weight as a parametrization: any module reads `frozen x mask`, gradients go straight through to the scores.

The masked weight is made once per selection, not per forward pass: gradient accumulation and evaluation read the same
tensor again.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supermask.masking.anatomy import Place, survey
from supermask.masking.kernels import mask_weights, straight_through


class _StraightThrough(torch.autograd.Function):
    """Forward: the masked weight. Backward: the gradient that the scores would have if the mask were the scores.

    With w = frozen * h(|s|) and the step function h taken for the identity, dL/ds = dL/dw * frozen * sign(s)
    (Ramanujan et al. 2020, section 3.2 and appendix); for signed scores, w = frozen * h(s), without the sign.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, frozen: Tensor, signed: bool) -> Tensor:
        ctx.signed = signed
        ctx.save_for_backward(scores, frozen)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        scores, frozen = ctx.saved_tensors
        return straight_through(gradients[0], frozen, None if ctx.signed else scores), None, None, None


class Masked(nn.Module):
    """The parametrization scores -> frozen x mask.

    Args:
        frozen: the random weights, floating; never changed.
        signed: whether the scores are ranked with their sign or by magnitude.

    """

    frozen: Tensor
    value: Tensor
    mask: Tensor

    def __init__(self, frozen: Tensor, *, signed: bool) -> None:
        super().__init__()
        self.signed = signed
        # regrown from the seed, so not part of the state; the mask is, so that a state dictionary is enough to run
        self.register_buffer("frozen", frozen, persistent=False)
        self.register_buffer("value", frozen.clone(), persistent=False)
        self.register_buffer("mask", torch.ones(frozen.shape, dtype=torch.bool, device=frozen.device))
        self.register_load_state_dict_post_hook(_refresh_after_load)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return self.value
        return _StraightThrough.apply(scores, self.value, self.frozen, self.signed)

    @torch.no_grad()
    def set_mask(self, mask: Tensor) -> None:
        """Take a bool mask of the weight's shape for all forward passes to come."""
        self.mask.copy_(mask)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the masked weight from the mask; pruned weights are +0."""
        mask_weights(self.frozen, self.mask, self.value)


def _refresh_after_load(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Masked)
    module.refresh()


class Held(nn.Module):
    """The parametrization weight -> weight x mask with a mask that never changes: what is pruned stays zero.

    Momentum and weight decay act on the stored weight, whose pruned entries receive no gradient; the weight that the
    module reads is zero there in any case.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        # a copy, so that a state loaded into the model later leaves the caller's mask alone
        self.register_buffer("mask", mask.clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its pruned entries at +0."""
        return torch.where(self.mask, weight, 0.0)


def attach(places: Iterable[Place], parametrization: nn.Module) -> None:
    """Put one parametrization on a parameter at every place that reads it (tied weights have several)."""
    for place in places:
        parametrize.register_parametrization(place.module, place.leaf, parametrization)


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Keep pruned weights at zero while the model is trained.

    Args:
        model: plain module; changed in place.
        masks: parameter name to bool tensor of its shape.

    Returns:
        The model. `torch.nn.utils.parametrize.remove_parametrizations` makes it plain again.

    """
    slots = survey(model)
    for name, mask in masks.items():
        slot = slots[name]
        attach(slot.places, Held(mask.to(slot.parameter.device)))
    return model
