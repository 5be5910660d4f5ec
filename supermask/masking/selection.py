"""The k largest scores, exactly: the same mask on every device.

The tie rule: among equal scores the lowest flat (row-major) index is kept; where several tensors share one k, the first
tensor comes first.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import is_
from typing import NamedTuple

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.kernels import Selector, selector_class
from supermask.masking.kernels.top_k import Sgd, TopK, Trained, Weights


class Selection:
    """Scores become the masks of all layers, again and again as the scores are trained.

    It remembers the thresholds of the step before, which changes only the time that the next selection takes.

    Args:
        signed: whether scores are ranked with their sign or by magnitude; -0 equals +0 and infinities are allowed.

    """

    def __init__(self, *, signed: bool) -> None:
        self._signed = signed
        self._largest, self._floors, self._raised_largest = (_OnAnyDevice(signed) for _ in range(3))
        self._selected: list[_OnAnyDevice] = []
        self._reserved: dict[str, _Buffers] = {}
        self._guarded: Sequence[tuple[Pool, Mapping[str, Tensor]]] = ()
        self._asked: _Asked | None = None

    @torch.no_grad()
    def select(
        self,
        pools: Sequence[Pool],
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights] | None = None,
    ) -> None:
        """Write the masks in place, and the weights that follow them; each pool keeps exactly its number of entries.

        Args:
            pools: together hold every layer once.
            scores: by layer, all on one device.
            masks: by layer, bool tensors of the same shapes, written in place.
            weights: by layer, what follows the masks; those of all layers, or none.

        Raises:
            SupermaskError: a pool cannot keep so many; or as `check`, which is called at once on the CPU. On a GPU
                nothing waits here.

        """
        asked = self._asked
        weights = weights or {}
        names = [*scores, *masks, *weights]
        tensors = [*scores.values(), *masks.values(), *chain.from_iterable(weights.values())]
        if asked is None or not asked.is_for(pools, names, tensors):
            asked = self._asked = _Asked.of(pools, scores, masks, weights, names, tensors)
        on_cpu = all(map(_is_on_the_cpu, tensors))
        self._selected = [self._largest]
        if on_cpu or not asked.floored:
            self._largest.select(asked.problems)
        if asked.floored and on_cpu:
            self._fill(asked, scores, masks, weights)
        elif asked.floored:
            self._raise(asked, asked.competing, scores, masks, weights)
        self._guarded = asked.guarded
        if on_cpu:
            self.check()

    def kept(self) -> Mapping[str, int]:
        """Return how many entries each layer keeps by the last selection; nothing where a device is not done yet."""
        kept = self._selected[0].kept if self._selected else None
        return dict(zip(self._asked.order, kept, strict=True)) if kept is not None and self._asked else {}

    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores; it is of use to the selection after it where no pool has a floor.

        Args:
            trained: the scores of all layers, each with what it is trained with.
            sgd: the numbers of the step.

        """
        self._largest.descend(trained, sgd)

    def check(self) -> None:
        """Look at the last selection.

        Raises:
            SupermaskError: a score was NaN, or a layer was emptied whose pool has no floor.

        """
        for selected in self._selected:
            selected.check()
        kept = self.kept()
        for pool, masks in self._guarded:
            _refuse_empty(pool, masks, kept)

    def _fill(
        self,
        asked: "_Asked",
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights],
    ) -> None:
        """Let layers have their floors, where the host can see which of them do not have it by themselves.

        Raising those alone keeps what raising all would: the largest of the others are kept in both cases.
        """
        raised: list[str] = []
        while lacking := [name for name in asked.lacking(self.kept(), masks) if name not in raised]:
            raised += lacking
            self._raise(asked, raised, scores, masks, weights)
        # the budget is too small for all floors, or a raised layer lost to infinite scores of another
        if len(raised) < len(asked.competing) and asked.lacking(self.kept(), masks):
            self._raise(asked, asked.competing, scores, masks, weights)

    def _raise(
        self,
        asked: "_Asked",
        names: Sequence[str],
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights],
    ) -> None:
        """Select again, with the `floor` largest of some layers before all others."""
        buffers = {name: self._buffers(name, scores[name]) for name in names}
        floors = asked.floors
        self._floors.select(
            [TopK((scores[name],), min(floors[name], own.mask.numel()), (own.mask,)) for name, own in buffers.items()]
        )
        for name, (mask, out) in buffers.items():
            score = scores[name]
            out.copy_(score if self._signed else score.abs()).clamp_(max=torch.finfo(score.dtype).max)
            out.masked_fill_(mask, torch.inf)
        raised = {**scores, **{name: own.raised for name, own in buffers.items()}}
        self._raised_largest.select([_problem(pool, raised, masks, weights) for pool in asked.pools])
        # a NaN among the largest of its layer is hidden from the second selection by what raises it
        self._selected = [self._raised_largest, self._floors]

    def _buffers(self, name: str, scores: Tensor) -> "_Buffers":
        """Return buffers that stay the same while the scores do, so that a device finds them where they were."""
        kept = self._reserved.get(name)
        if kept is None or not _are_alike(kept.raised, scores):
            kept = self._reserved[name] = _Buffers(torch.empty_like(scores, dtype=torch.bool), torch.empty_like(scores))
        return kept


class _Asked(NamedTuple):
    """What a selection was asked, in the form that selectors take; most steps ask the same again.

    Attributes:
        pools: with the number of entries that each keeps.
        names: of the layers.
        tensors: all that are read and written.
        problems: the pools, of these tensors.
        floored: the pools with a floor that competing layers are to have.
        guarded: the pools that must not empty a layer, with their masks.

    """

    pools: Sequence[Pool]
    names: Sequence[str]
    tensors: Sequence[Tensor]
    problems: Sequence[TopK]
    floored: Sequence[Pool]
    guarded: Sequence[tuple[Pool, Mapping[str, Tensor]]]

    @classmethod
    def of(
        cls,
        pools: Sequence[Pool],
        scores: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Weights],
        names: Sequence[str],
        tensors: Sequence[Tensor],
    ) -> "_Asked":
        """Return it; refuse what a pool cannot keep."""
        for pool in pools:
            _refuse_count(pool, sum(scores[name].numel() for name in pool.names))
        return cls(
            list(pools),
            names,
            tensors,
            [_problem(pool, scores, masks, weights) for pool in pools],
            [pool for pool in pools if pool.floor and len(pool.names) > 1],
            [(pool, {name: masks[name] for name in pool.names}) for pool in pools if _is_guarded(pool)],
        )

    @property
    def order(self) -> list[str]:
        """The layers as problems have them."""
        return [name for pool in self.pools for name in pool.names]

    @property
    def floors(self) -> dict[str, int]:
        """The floors of the layers that compete for them."""
        return {name: pool.floor or 0 for pool in self.floored for name in pool.names}

    @property
    def competing(self) -> list[str]:
        """The layers that compete for their floors."""
        return [*self.floors]

    def lacking(self, kept: Mapping[str, int], masks: Mapping[str, Tensor]) -> list[str]:
        """Return the layers that keep less than their floor; `kept` may leave it to the masks."""
        return [
            name
            for name, floor in self.floors.items()
            if (kept[name] if kept else int(masks[name].sum())) < min(floor, masks[name].numel())
        ]

    def is_for(self, pools: Sequence[Pool], names: Sequence[str], tensors: Sequence[Tensor]) -> bool:
        """Return whether the same is asked again."""
        alike = len(self.tensors) == len(tensors) and all(map(is_, self.tensors, tensors))
        return alike and self.names == names and self.pools == list(pools)


def _is_on_the_cpu(tensor: Tensor) -> bool:
    return tensor.is_cpu


class _Buffers(NamedTuple):
    """Of a layer with a floor: the mask of its largest scores, and the scores with these raised."""

    mask: Tensor
    raised: Tensor


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device, one.stride()) == (other.shape, other.dtype, other.device, other.stride())


def _problem(
    pool: Pool, scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], weights: Mapping[str, Weights]
) -> TopK:
    own, written = tuple(scores[name] for name in pool.names), tuple(masks[name] for name in pool.names)
    return TopK(own, pool.kept, written, tuple(weights[name] for name in pool.names if name in weights))


class _OnAnyDevice:
    """A selector for the device of whatever scores come; it stays the same while they stay there."""

    def __init__(self, signed: bool) -> None:
        self._signed = signed
        self._selector: Selector | None = None
        self._count = 0

    @property
    def kept(self) -> list[int] | None:
        """How many entries each mask keeps, or None where that would have to be counted."""
        return self._selector.kept if self._selector else None

    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems."""
        scores = [tensor for problem in problems for tensor in problem.scores]
        self._for(scores).select(problems)
        self._count = sum(tensor.numel() for tensor in scores)

    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores."""
        self._for([each.scores for each in trained]).descend(trained, sgd)

    def _for(self, scores: Sequence[Tensor]) -> Selector:
        kind = selector_class(scores)
        if type(self._selector) is not kind:
            self._selector = kind(self._signed)
        assert self._selector is not None
        return self._selector

    def check(self) -> None:
        """Raise SupermaskError if a score of the last selection was NaN."""
        counted = self._selector.nans if self._selector else None
        nans = 0 if counted is None else int(counted.sum())
        if nans:
            raise SupermaskError(
                f"{nans} of {self._count} scores are NaN, so they have no largest; the training diverged: lower the"
                " learning rate."
            )


def keep_largest(scores: Tensor, k: int) -> Tensor:
    """Return the mask of the k largest entries.

    Args:
        scores: real floating tensor of any shape and memory format; infinities are allowed, NaN is not.
        k: how many to keep, 0 <= k <= scores.numel().

    Returns:
        A bool tensor of the same shape and device, with exactly k entries True.

    Raises:
        SupermaskError: k is out of range, or a score is NaN.

    """
    scores = scores.detach()
    mask = torch.empty_like(scores, dtype=torch.bool)
    selection = Selection(signed=True)
    selection.select([Pool(("scores",), k)], {"scores": scores}, {"scores": mask})
    selection.check()
    return mask


def _refuse_count(pool: Pool, size: int) -> None:
    if not 0 <= pool.kept <= size:
        raise SupermaskError(f"Cannot keep {pool.kept} of {size} scores; keep from 0 to all of them.")


def _is_guarded(pool: Pool) -> bool:
    return pool.floor is None and len(pool.names) > 1 and pool.kept > 0


def _refuse_empty(pool: Pool, masks: Mapping[str, Tensor], kept: Mapping[str, int]) -> None:
    empty = [name for name, mask in masks.items() if mask.numel() and not (kept[name] if kept else bool(mask.any()))]
    if empty:
        raise SupermaskError(
            f"A global budget of {pool.kept} weights leaves none in {', '.join(empty)}; raise the density, or let each"
            " layer keep a few with a floor: masking.Global(floor=1)."
        )
