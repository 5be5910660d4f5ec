"""Pools of layers compete for their weights: scores become masks, step after step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.selection import Contest, Selector, Weights


class Competition:
    """Writes the masks of all layers from their scores.

    Args:
        signed: whether scores are ranked with their sign or by magnitude.

    """

    def __init__(self, *, signed: bool) -> None:
        self._selector = Selector(signed=signed)
        self._floors = Selector(signed=signed)
        self._guarded: list[tuple[Pool, dict[str, Tensor]]] = []

    @torch.no_grad()
    def select(
        self,
        pools: Sequence[Pool],
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights] | None = None,
    ) -> None:
        """Write the masks in place, and the weights that follow them.

        Args:
            pools: together hold every layer once.
            scores: by layer, all on one device.
            masks: by layer, bool tensors of the same shapes, written in place.
            weights: by layer, what follows the masks; those of all layers, or none.

        Raises:
            SupermaskError: as `check`, which is called at once on the CPU; on a GPU nothing waits here.

        """
        self._selector.select([self._contest(pool, scores, masks, weights or {}) for pool in pools])
        self._guarded = [(pool, {name: masks[name] for name in pool.names}) for pool in pools if _is_guarded(pool)]
        if self._guarded and all(tensor.device.type == "cpu" for tensor in masks.values()):
            self.check()

    def check(self) -> None:
        """Look at the last selection.

        Raises:
            SupermaskError: a score was NaN, or a layer was emptied whose pool has no floor.

        """
        self._selector.check()
        for pool, masks in self._guarded:
            _refuse_empty(pool, masks)

    def _contest(
        self,
        pool: Pool,
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights],
    ) -> Contest:
        own, written = tuple(scores[name] for name in pool.names), tuple(masks[name] for name in pool.names)
        followers = tuple(weights[name] for name in pool.names if name in weights)
        if pool.floor and len(own) > 1:
            own = self._seeded(own, written, pool.floor)
        return Contest(own, pool.kept, written, followers)

    def _seeded(self, own: Sequence[Tensor], masks: Sequence[Tensor], floor: int) -> tuple[Tensor, ...]:
        """Return scores in which the `floor` largest of each layer come before all others."""
        masks = [torch.empty_like(mask) for mask in masks]  # weights follow the others
        alone = zip(own, masks, strict=True)
        self._floors.select([Contest((score,), min(floor, score.numel()), (mask,)) for score, mask in alone])
        return tuple(
            torch.where(mask, torch.inf, score.clamp(max=torch.finfo(score.dtype).max))
            for score, mask in zip(own if self._selector.signed else [s.abs() for s in own], masks, strict=True)
        )


def _is_guarded(pool: Pool) -> bool:
    return pool.floor is None and len(pool.names) > 1 and pool.kept > 0


def _refuse_empty(pool: Pool, masks: Mapping[str, Tensor]) -> None:
    empty = [name for name, mask in masks.items() if mask.numel() and not bool(mask.any())]
    if empty:
        raise SupermaskError(
            f"A global budget of {pool.kept} weights leaves none in {', '.join(empty)}; raise the density, or let each"
            " layer keep a few with a floor: masking.Global(floor=1)."
        )
