"""Gem-Miner: scores in [0, 1] are rounded, pulled towards zero, and the lowest are frozen out period by period.

Sreenivasan, Sohn, Yang, Grinde, Nagle, Wang, Xing, Lee, Papailiopoulos, "Rare gems: finding lottery tickets at
initialization", NeurIPS 2022, section 4, algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Global, Scope
from supermask.masking.parametrization import Masked
from supermask.masking.pruning import prune
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Uniform
from supermask.search.rule import BudgetedRule, common, drawn, refuse_nan
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.training import Recipe

_LIVE = "live"
_THRESHOLD = 0.5


@final
@dataclass(frozen=True, kw_only=True)
class GemMinerRule(BudgetedRule):
    """Gem-Miner (Sreenivasan et al. 2022): scores are rounded and penalised, the lowest frozen out by periods.

    The mask is score > 1/2 among the live weights. After step t, at the end of a period, exactly density^(t / steps) of
    the prunable weights are live (algorithm 1: a fraction 1 - e^(-cT) of those left, c = ln(1 / density) / steps), so
    from the last period on at most `density`, which is not 0, is kept; the mask may keep fewer of the live weights.
    The first scores are uniform on [0, 1]. The scope says what competes to stay live: the whole network as in the
    paper, but with a weight left in each layer, unless a run says otherwise.

    Attributes:
        freeze_every: optimizer steps of a period; 0 is a thirtieth of all.
        penalty: L2 penalty on the scores, in place of the recipe's weight decay.
        steps: optimizer steps in all; the last period ends with them. A run knows them by itself.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range.

    """

    name: ClassVar[str] = "gem_miner"
    scope: str | Scope = common(Global(floor=1))
    steps: int | None = common(None)
    freeze_every: int = 0  # 5 epochs in the paper, of 150
    penalty: float = 1e-4  # penalty x |s|^2 is added to the loss, as in the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density == 0.0:
            raise SupermaskError("density=0 cannot be reached by removing a fraction again and again; give more.")
        most = self.freeze_every if self.steps is None else self.steps
        if not 0 <= self.freeze_every <= most or self.steps == 0:
            raise SupermaskError(
                f"steps={self.steps}, freeze_every={self.freeze_every} do not fit: a period is within the steps."
            )
        if not self.penalty >= 0.0:
            raise SupermaskError(f"penalty={self.penalty} is negative; it pulls the scores towards zero.")

    @property
    def total(self) -> int:
        """Optimizer steps in all."""
        if self.steps is None:
            raise SupermaskError("gem_miner needs to know the optimizer steps in all; give steps=.")
        return self.steps

    @property
    def kept(self) -> float | None:
        """Fraction of the prunable weights that is live in the end."""
        _ = self.total  # refused before the model is touched
        return super().kept

    @property
    def period(self) -> int:
        """Optimizer steps of a period."""
        return self.freeze_every or max(1, self.total // 30)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe without weight decay, which the penalty replaces."""
        return replace(recipe, weight_decay=0.0)

    def described(self) -> dict[str, Any]:
        """Return the options as plain values, with the period that 0 stands for."""
        told = super().described()
        own = {"steps": self.total, "freeze_every": self.period, "penalty": self.penalty}
        return {"density": told["density"], **own, "scope": told["scope"], "scaled": self.scaled, **self.policy}

    def complete(self, steps: int) -> bool:
        """Return whether no more weights are live than the density allows."""
        return steps >= self.total or self.density == 1.0

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the scores, with those that were frozen out below all others."""
        return {name: torch.where(_live(state.layers[name]), score, -1.0) for name, score in scores.items()}

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Draw the first scores of a parameter."""
        return drawn(state, slot, Uniform(0.5)) + 0.5

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight with a record of which weights are live."""
        layer = Masked(slot.parameter.detach().clone(), signed=True)
        layer.register_buffer(_LIVE, torch.ones_like(layer.mask))
        return layer

    @torch.no_grad()
    def before_step(self, state: SearchState, scores: Mapping[str, nn.Parameter]) -> None:
        """Add the gradient of the penalty; scores that were frozen out take none."""
        for name, score in scores.items():
            if score.grad is not None:
                score.grad.add_(score, alpha=2.0 * self.penalty).mul_(_live(state.layers[name]))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Round the scores, after the lowest were frozen out where a period ends."""
        refuse_nan(scores)
        for score in scores.values():
            score.clamp_(0.0, 1.0)
        ends = state.steps and (state.steps % self.period == 0 or state.steps == self.total)
        if ends and state.steps <= self.total:
            self._freeze(state, scores)
        for name, layer in state.layers.items():
            layer.set_mask((scores[name] > _THRESHOLD) & _live(layer))

    def _freeze(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        assert self.kept is not None
        pools = self.budget.pools(state.shapes, self.kept ** (state.steps / self.total))
        live = {name: _live(layer) for name, layer in state.layers.items()}
        for name, mask in prune(scores, pools, live).items():
            live[name].copy_(mask)


class GemMiner(Search, rule=GemMinerRule):
    """The mask is score > 1/2 among the live weights: a search by `GemMinerRule`."""

    def live(self) -> dict[str, Tensor]:
        """Return copies of which weights are live, by parameter name: bool tensors."""
        return {name: _live(layer).clone() for name, layer in self._layers.items()}


def _live(layer: Masked) -> Tensor:
    return layer.get_buffer(_LIVE)
