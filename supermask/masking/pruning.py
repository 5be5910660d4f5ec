"""Pruning: scores choose which of the weights that are left stay; what was pruned does not come back."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.selection import Selection


@torch.no_grad()
def prune(
    scores: Mapping[str, Tensor], pools: Sequence[Pool], masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return the masks of the largest scores.

    Args:
        scores: by layer, real and floating; infinities are allowed, ties go to the lowest index.
        pools: of the layers, with the number of weights that each keeps.
        masks: of the weights that are left, by layer, bool; None leaves all. Only they are chosen from.

    Returns:
        New bool tensors of the scores' shapes, with exactly as many entries True as the pools say.

    Raises:
        SupermaskError: a score is NaN, a pool keeps more than is left, or empties a layer and must not.

    """
    left = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    left |= {name: mask.to(scores[name].device) for name, mask in (masks or {}).items()}
    for pool in pools:
        there = sum(int(left[name].sum()) for name in pool.names)
        if pool.kept > there:
            raise SupermaskError(f"Cannot keep {pool.kept:,} of the {there:,} weights left in {', '.join(pool.names)}.")
    lowest = {name: torch.where(left[name], _finite(score), -torch.inf) for name, score in scores.items()}
    chosen = {name: torch.empty_like(mask) for name, mask in left.items()}
    Selection(signed=True).select(pools, lowest, chosen)
    return chosen


def _finite(scores: Tensor) -> Tensor:
    """Return the scores with -inf as the least finite number: below it are the weights that were pruned before."""
    return scores.detach().clamp(min=torch.finfo(scores.dtype).min)
