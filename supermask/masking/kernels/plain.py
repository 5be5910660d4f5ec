"""Selection and masking in plain torch operations: for any device and dtype, and the oracle of the compiled ones."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from supermask.masking.kernels.top_k import Sgd, TopK, Trained


class PlainSelector:
    """Selection by a stable sort, without a word to the host.

    Args:
        signed: whether scores are ranked with their sign or by magnitude.

    Attributes:
        nans: int64 (problems,), how many NaN each problem had in the last selection, its masks being arbitrary then;
            or None for none.
        kept: how many entries each mask of the last selection keeps, where the host knows that without counting; else
            None.

    """

    def __init__(self, signed: bool) -> None:
        self.signed = signed
        self.nans: Tensor | None = None
        self.kept: list[int] | None = None

    @torch.no_grad()
    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems."""
        counts = [self._select(problem) for problem in problems if problem.size]
        self.nans = torch.stack(counts) if counts else None
        for problem in problems:
            for mask, weights in zip(problem.masks, problem.weights, strict=False):
                mask_weights(weights.frozen, mask, weights.value)

    @torch.no_grad()
    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores."""
        for each in trained:
            descend(each, sgd)

    def _select(self, problem: TopK) -> Tensor:
        together = torch.cat([tensor.reshape(-1) for tensor in problem.scores])  # row-major whatever the memory format
        # adding zero makes -0.0 equal 0.0 in its bits too
        ranked = together + 0.0 if self.signed else together.abs()
        order = torch.sort(ranked, descending=True, stable=True).indices
        kept = torch.zeros_like(together, dtype=torch.bool)
        kept[order[: problem.kept]] = True
        parts = kept.split([mask.numel() for mask in problem.masks])
        for mask, part in zip(problem.masks, parts, strict=True):
            mask.copy_(part.view(mask.shape))
        return ranked.isnan().sum()


def mask_weights(frozen: Tensor, mask: Tensor, out: Tensor) -> None:
    """Write the frozen weights where the mask is True, and +0 elsewhere."""
    out.copy_(torch.where(mask, frozen, 0.0))


def straight_through(gradient: Tensor, frozen: Tensor, scores: Tensor | None) -> Tensor:
    """Return gradient x frozen, x sign(scores) where there are any."""
    product = gradient * frozen
    return product if scores is None else product * scores.sign()


def write_products(weight: Tensor, slope: Tensor, mask: Tensor, out: Tensor) -> float:
    """Write weight x slope where the mask is True, and -infinity elsewhere; return the largest product.

    Those of pruned weights, which are 0, are among the products; NaN where one is not finite.
    """
    products = weight * slope
    out.copy_(products.masked_fill(~mask, -torch.inf))
    if not products.isfinite().all():
        return math.nan
    return float(products.max()) if products.numel() else -math.inf


def let_fall(
    scores: Tensor, before: Tensor, after: Tensor, start: float, scale: float, places: Tensor, weight: Tensor
) -> None:
    """Write start + score / scale where the first mask is True and the second is not, and set the weight to 0 there."""
    fallen = before & ~after
    places.copy_(torch.where(fallen, start + scores / scale, places))
    weight.masked_fill_(fallen, 0.0)


def descend(trained: Trained, sgd: Sgd) -> None:
    """Take a step of SGD on scores."""
    scores, gradient, slope, momentum, signed = trained
    move = straight_through(gradient, slope, None if signed else scores).add_(scores, alpha=sgd.weight_decay)
    momentum.mul_(sgd.momentum).add_(move)
    scores.sub_(move.add_(momentum, alpha=sgd.momentum) if sgd.nesterov else momentum, alpha=sgd.rate)


def write_signs(bits: Tensor, magnitude: Tensor, out: Tensor) -> None:
    """Write plus the magnitude where the bit is set, lowest bit of a byte first, and minus the magnitude elsewhere."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    positive = (bits[:, None] >> places).bitwise_and(1).view(-1)[: out.numel()].view(out.shape)
    out.copy_((2 * positive.to(out.dtype) - 1) * magnitude)


SELECTOR = PlainSelector
