"""Structured supermasks: edge-popup that keeps whole channels, blocks, or n of every m weights of a random network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.masking.granularity import Blocks, Channels, Groups, NofM, Structure
from supermask.masking.parametrization import Masked
from supermask.parameters.parameters import Slot
from supermask.search.edge_popup import SCORES
from supermask.search.rule import BudgetedRule, drawn, refuse_nan
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.versions import describe


@final
@dataclass(frozen=True, kw_only=True)
class StructuredRule(BudgetedRule):
    """Edge-popup that keeps whole channels, blocks, or n of every m weights of a random network.

    A group of weights is ranked by the sum of |s| over it; straight through, each of its scores takes the gradient of
    that sum, which is the sum of dL/dw x frozen over the group, times its own sign. In n of m, each weight is ranked
    and trained as in edge-popup, among its m neighbours alone. The density is the fraction of the groups of a layer
    that is kept, round(density x groups), but one at least: an image with one channel keeps it.

    Attributes:
        structure: what is kept together.
        side: of channels: those that a layer reads ("in") or makes ("out").
        rows: of a block, in output units.
        columns: of a block, in weights of a unit.
        n: weights kept of every m; the density is then n / m whatever is asked for.
        m: weights of which n are kept.

    Raises:
        SupermaskError: as `EdgePopup`.

    """

    name: ClassVar[str] = "structured"
    structure: Literal["channels", "blocks", "n_of_m"] = "blocks"
    side: Literal["in", "out"] = "in"
    rows: int = 4
    columns: int = 4
    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.granularity

    @cached_property
    def granularity(self) -> Structure:
        """What is kept together."""
        if self.structure == "n_of_m":
            return NofM(self.n, self.m)
        return Channels(self.side) if self.structure == "channels" else Blocks(self.rows, self.columns)

    @property
    def kept(self) -> float | None:
        """Fraction of the groups that is kept."""
        if isinstance(self.granularity, NofM):
            return self.n / self.m
        if self.density is None:
            raise SupermaskError(f"{self.granularity} has no density of its own; give density=.")
        return float(self.density)

    def short_recipe(self) -> Mapping[str, Any]:
        """Return what the short setting says, with the rate that goes with the density."""
        known = isinstance(self.granularity, NofM) and self.density != self.kept
        return replace(self, density=self.kept).short_recipe() if known else super().short_recipe()

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        told = {**super().described(), "structure": describe(self.granularity)}
        return {name: told[name] for name in ("density", "structure", "scope", "scaled", *self.policy)}

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return the ranks of the weights, those of their groups; n of m ranks no weight above those of others."""
        groups = self.granularity
        return None if isinstance(groups, NofM) else _spread(groups, state, _pooled(groups, scores))

    def emptied(self, shapes: Shapes) -> list[str]:
        """Return no layer: each keeps a group at least."""
        return []

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Draw the first scores of a parameter."""
        return drawn(state, slot, SCORES)

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight; where it has groups, their scores take one gradient."""
        frozen = slot.parameter.detach().clone()
        groups = self.granularity
        if isinstance(groups, Groups):
            return _Grouped(frozen, groups, self.scaled_for(state, slot))
        return Masked(frozen, signed=False)

    def fractions(self, shapes: Shapes) -> Mapping[str, float]:
        """Return by name the fraction of a layer that is kept, for which its frozen weights are scaled; or nothing."""
        groups = self.granularity
        if isinstance(groups, NofM):
            return {name: groups.fraction(shape) for name, shape in shapes.items()} if self.scaled else {}
        return super().fractions(shapes)

    def varies(self, state: SearchState) -> bool:
        """Return True: a density of groups is another one of weights, where some groups are smaller."""
        return True

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the groups of the largest ranks, or n of every m weights."""
        if isinstance(self.granularity, NofM):
            refuse_nan(scores)
            masks = {name: self.granularity.mask(score.detach().abs()) for name, score in scores.items()}
        else:
            masks = _spread(self.granularity, state, self._kept_groups(state, _pooled(self.granularity, scores)))
        for name, layer in state.layers.items():
            layer.set_mask(masks[name])

    def _kept_groups(self, state: SearchState, ranks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of the groups, whose number the budget counts."""
        assert self.kept is not None
        kept = {name: torch.empty_like(rank, dtype=torch.bool) for name, rank in ranks.items()}
        pools = self.budget.pools({name: tuple(rank.shape) for name, rank in ranks.items()}, self.kept)
        if self.kept:
            # half of one channel rounds to none, and a network is cut where a layer is empty
            pools = [replace(pool, kept=max(1, pool.kept)) if len(pool.names) == 1 else pool for pool in pools]
        state.select(ranks, pools, kept)
        return kept


class StructuredPopup(Search, rule=StructuredRule):
    """Edge-popup (Ramanujan et al. 2020) whose mask has a structure: a search by `StructuredRule`.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        structure: `Channels(side)`, `Blocks(rows, columns)` or `NofM(n, m)` of `supermask.masking.granularity`.
        density: fraction of the groups of a layer that is kept; with n of m it is n / m and may be left out.
        seed: of the random weights and of the first scores.
        **options: see `StructuredRule`.

    Raises:
        SupermaskError: as `EdgePopup`, or the density is not that of the structure.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        structure: Structure = Channels(),  # noqa: B008  frozen
        density: float | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if isinstance(structure, NofM) and density not in (None, structure.n / structure.m):
            own = structure.n / structure.m
            raise SupermaskError(f"density={density} is not that of {structure}, which is {own:g}; leave it out.")
        named: dict[str, Any] = {"structure": structure.name, **vars(structure)}
        super().__init__(model, density=density, seed=seed, **named, **options)

    @property
    def structure(self) -> Structure:
        """What is kept together."""
        assert isinstance(self.rule, StructuredRule)
        return self.rule.granularity


def _pooled(groups: Groups, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the ranks of the groups."""
    return {name: groups.pool(score.detach().abs()) for name, score in scores.items()}


def _spread(groups: Groups, state: SearchState, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each group's value at its weights."""
    return {name: groups.spread(value, state.shapes[name]) for name, value in values.items()}


class _Grouped(Masked):
    """The parametrization scores -> frozen x mask, in which all scores of a group take the group's gradient."""

    def __init__(self, frozen: Tensor, groups: Groups, scaled_for: float | None) -> None:
        super().__init__(frozen, signed=False, scaled_for=scaled_for)
        self.groups = groups

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        weight = self.value
        if torch.is_grad_enabled() and scores.requires_grad:
            weight = _StraightThroughGroups.apply(scores, weight, self.frozen, self.groups)
        return weight if self.scaled_for is None else weight * self.gain


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
