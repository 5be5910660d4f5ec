"""Structured supermasks: edge-popup that keeps whole channels, blocks, or n of every m weights of a random network."""

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, Scope, checked_density, named_scope
from supermask.masking.granularity import Channels, Groups, NofM, Structure
from supermask.masking.parametrization import Masked
from supermask.masking.selection import Selection
from supermask.parameters.parameters import Slot
from supermask.search.base import Choices, Search, drawn, refuse_nan
from supermask.search.edge_popup import SCORES
from supermask.versions import describe


class StructuredPopup(Search):
    """Edge-popup (Ramanujan et al. 2020) whose mask has a structure.

    A group of weights is ranked by the sum of |s| over it; straight through, each of its scores takes the gradient of
    that sum, which is the sum of dL/dw x frozen over the group, times its own sign. In n of m, each weight is ranked
    and trained as in edge-popup, among its m neighbours alone.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        structure: `Channels(side)`, `Blocks(rows, columns)` or `NofM(n, m)` of `supermask.masking.granularity`.
        density: fraction of the groups of a layer that is kept, round(density x groups); with n of m it is n / m and
            may be left out.
        seed: of the random weights and of the first scores.
        scope: which groups compete; see `EdgePopup`. With n of m they do so among themselves.
        scaled: multiply the frozen weights by 1/sqrt(density).
        **choices: see `EdgePopup`.

    Raises:
        SupermaskError: as `EdgePopup`, or the density is not that of the structure.

    """

    name: ClassVar[str] = "structured"

    def __init__(
        self,
        model: nn.Module,
        *,
        structure: Structure = Channels(),  # noqa: B008  frozen
        density: float | None = None,
        seed: int = 0,
        scope: str | Scope = "layer",
        scaled: bool = True,
        **choices: Unpack[Choices],
    ) -> None:
        self.structure, self.density = structure, _density(structure, density)
        self.budget = Budget(named_scope(scope))
        self._selection = Selection(signed=True)
        options = {
            "density": self.density,
            "structure": describe(structure),
            "scope": describe(self.budget.scope),
            "scaled": scaled,
        }
        super().__init__(
            model, seed=seed, density=self.density, budget=self.budget, scaled=scaled, options=options, **choices
        )

    def ranking(self) -> Mapping[str, Tensor] | None:
        """Return the ranks of the weights, those of their groups; n of m ranks no weight above those of others."""
        return None if isinstance(self.structure, NofM) else self._spread(self._ranks(self.scores()))

    def _first_scores(self, slot: Slot) -> Tensor:
        return drawn(slot, SCORES, self.seed)

    def _layer(self, slot: Slot) -> Masked:
        frozen = slot.parameter.detach().clone()
        return _Grouped(frozen, self.structure) if isinstance(self.structure, Groups) else Masked(frozen, signed=False)

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        masks = self._spread(self._kept_groups(scores)) if isinstance(self.structure, Groups) else self._among(scores)
        for name, layer in self._layers.items():
            layer.set_mask(masks[name])

    def _kept_groups(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ranks = self._ranks(scores)
        kept = {name: torch.empty_like(rank, dtype=torch.bool) for name, rank in ranks.items()}
        pools = self.budget.pools({name: tuple(rank.shape) for name, rank in ranks.items()}, self.density)
        self._selection.select(pools, ranks, kept)
        return kept

    def _ranks(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(self.structure, Groups)
        return {name: self.structure.pool(score.detach().abs()) for name, score in scores.items()}

    def _spread(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(self.structure, Groups)
        shapes = self.network.shapes
        return {name: self.structure.spread(value, shapes[name]) for name, value in values.items()}

    def _among(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(self.structure, NofM)
        refuse_nan(scores)
        return {name: self.structure.mask(score.detach().abs()) for name, score in scores.items()}

    def _check(self) -> None:
        self._selection.check()


class _Grouped(Masked):
    """The parametrization scores -> frozen x mask, in which all scores of a group take the group's gradient."""

    def __init__(self, frozen: Tensor, groups: Groups) -> None:
        super().__init__(frozen, signed=False)
        self.groups = groups

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return self.value
        weight: Tensor = _StraightThroughGroups.apply(scores, self.value, self.frozen, self.groups)
        return weight


class _StraightThroughGroups(torch.autograd.Function):
    """Forward: the masked weight. Backward: the gradient that the scores would have if a group's mask were its rank."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, frozen: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        ctx.save_for_backward(scores, frozen)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scores, frozen = ctx.saved_tensors
        pooled = ctx.groups.pool(gradients[0] * frozen)
        return ctx.groups.spread(pooled, tuple(scores.shape)) * scores.sign(), None, None, None


def _density(structure: Structure, density: float | None) -> float:
    if isinstance(structure, NofM):
        own = structure.n / structure.m
        if density is not None and density != own:
            raise SupermaskError(f"density={density} is not that of {structure}, which is {own:g}; leave it out.")
        return own
    if density is None:
        raise SupermaskError(f"{structure} has no density of its own; give density=.")
    return checked_density(density)
