"""Edge-popup's mask as published codes make it: anew at every forward pass, layer by layer.

Written here from their descriptions, to be timed beside ours. All keep the same weights as long as no scores are equal.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supermask import EdgePopup

MaskOf = Callable[[Tensor, int], Tensor]
"""Magnitudes of scores, of any shape, and the number pruned -> a mask of zeros and ones in their dtype."""


def by_sort(magnitudes: Tensor, pruned: int) -> Tensor:
    """Return the mask by a full sort, as Ramanujan et al. 2020 do.

    Their code writes into a flattened view, which a channels-last tensor does not have; a clone in row-major order has.
    """
    mask = magnitudes.clone(memory_format=torch.contiguous_format)
    flat = mask.view(-1)
    order = flat.sort().indices
    flat[order[:pruned]] = 0.0
    flat[order[pruned:]] = 1.0
    return mask


def by_kthvalue(magnitudes: Tensor, pruned: int) -> Tensor:
    """Return the mask by comparing with the k-th value, the usual replacement of the sort; ties are all kept.

    The public codes compare with `.item()`, as here, and choose between two whole tensors, where here are two numbers.
    """
    threshold = magnitudes.reshape(-1).kthvalue(pruned + 1).values.item()
    return torch.where(magnitudes < threshold, 0.0, 1.0)


def by_topk(magnitudes: Tensor, pruned: int) -> Tensor:
    """Return the mask by the indices of the largest."""
    flat = magnitudes.reshape(-1)
    kept = flat.topk(flat.numel() - pruned, sorted=False).indices
    return torch.zeros_like(flat).scatter_(0, kept, 1.0).view(magnitudes.shape)


PUBLISHED: dict[str, MaskOf] = {"sort": by_sort, "kthvalue": by_kthvalue, "topk": by_topk}


class _PublishedStraightThrough(torch.autograd.Function):
    """The mask of the magnitudes; its gradient is handed on as if it were the magnitudes."""

    @staticmethod
    def forward(ctx: Any, magnitudes: Tensor, mask_of: MaskOf, pruned: int) -> Tensor:
        return mask_of(magnitudes, pruned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class MaskedEachPass(nn.Module):
    """The parametrization scores -> frozen x mask, with a mask made at every forward pass.

    Args:
        frozen: the random weights.
        density: fraction kept; int((1 - density) n) of n weights are pruned.
        mask_of: how the mask is made.

    """

    frozen: Tensor

    def __init__(self, frozen: Tensor, density: float, mask_of: MaskOf) -> None:
        super().__init__()
        self.register_buffer("frozen", frozen)
        self.pruned, self.mask_of = int((1 - density) * frozen.numel()), mask_of

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight."""
        mask: Tensor = _PublishedStraightThrough.apply(scores.abs(), self.mask_of, self.pruned)
        return self.frozen * mask


class PublishedEdgePopup:
    """A search that makes its masks in a published way.

    Args:
        model: freshly built, of the architecture of `like`; changed in place.
        like: the search whose density, frozen weights, first scores and constants it takes.
        mask_of: how a mask is made.

    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, like: EdgePopup, mask_of: MaskOf) -> None:
        self.model = model
        density = like.density
        assert density is not None
        frozen, scores, given = like.frozen_weights(), like.scores(), dict(like.model.named_parameters())
        for name, parameter in list(model.named_parameters()):
            parameter.copy_(scores[name] if name in scores else given[name])
            parameter.requires_grad_(name in scores)
            if name in scores:
                module, _, leaf = name.rpartition(".")
                masked = MaskedEachPass(frozen[name], density, mask_of)
                parametrize.register_parametrization(model.get_submodule(module), leaf, masked)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the scores."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def step(self) -> None:
        """Nothing follows an optimizer step: the next forward pass makes the masks."""
