"""Gem-Miner: scores in [0, 1] are rounded, pulled towards zero, and the lowest are frozen out period by period.

Sreenivasan, Sohn, Yang, Grinde, Nagle, Wang, Xing, Lee, Papailiopoulos, "Rare gems: finding lottery tickets at
initialization", NeurIPS 2022, section 4, algorithm 1.
"""

from collections.abc import Mapping
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, Global, Scope, checked_density, named_scope
from supermask.masking.parametrization import Masked
from supermask.masking.pruning import prune
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Uniform
from supermask.search.base import Choices, Search, drawn, refuse_nan
from supermask.versions import describe

_LIVE = "live"
_THRESHOLD = 0.5


class GemMiner(Search):
    """The mask is score > 1/2 among the live weights; every period the lowest scores are frozen out for good.

    After step t, at the end of a period, exactly density^(t / steps) of the prunable weights are live (algorithm 1: a
    fraction 1 - e^(-cT) of those left, c = ln(1 / density) / steps), so from the last period on at most `density` is
    kept; of the live weights the mask may keep fewer.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is live in the end, in (0, 1].
        steps: optimizer steps in all; the last period ends with them.
        seed: of the random weights and of the first scores, which are uniform on [0, 1].
        freeze_every: optimizer steps of a period (5 epochs in the paper); 0 is a thirtieth of all steps, as there.
        penalty: L2 penalty on the scores: penalty x |s|^2 is added to the loss (1e-4 in the paper, without weight
            decay).
        scope: what competes to stay live: the whole network as in the paper, but with a weight left in each layer.
        scaled: multiply the frozen weights by 1/sqrt(density).
        **choices: see `EdgePopup`.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range.

    """

    name: ClassVar[str] = "gem_miner"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float,
        steps: int,
        seed: int = 0,
        freeze_every: int = 0,
        penalty: float = 1e-4,
        scope: str | Scope = Global(floor=1),  # noqa: B008  frozen
        scaled: bool = True,
        **choices: Unpack[Choices],
    ) -> None:
        if checked_density(density) == 0.0:
            raise SupermaskError("density=0 cannot be reached by removing a fraction again and again; give more.")
        if steps < 1 or freeze_every < 0 or freeze_every > steps:
            raise SupermaskError(
                f"steps={steps}, freeze_every={freeze_every} do not fit: a period is within the steps."
            )
        if not penalty >= 0.0:
            raise SupermaskError(f"penalty={penalty} is negative; it pulls the scores towards zero.")
        self.density, self.budget = float(density), Budget(named_scope(scope))
        self.total, self.period, self.penalty = steps, freeze_every or max(1, steps // 30), penalty
        options = {
            "density": self.density,
            "steps": steps,
            "freeze_every": self.period,
            "penalty": penalty,
            "scope": describe(self.budget.scope),
            "scaled": scaled,
        }
        super().__init__(
            model, seed=seed, density=self.density, budget=self.budget, scaled=scaled, options=options, **choices
        )

    @property
    def complete(self) -> bool:
        """Whether no more weights are live than the density allows."""
        return self.steps >= self.total or self.density == 1.0

    def ranking(self) -> Mapping[str, Tensor]:
        """Return the scores, with those that were frozen out below all others."""
        return {name: torch.where(_live(self._layers[name]), score, -1.0) for name, score in self.scores().items()}

    def live(self) -> dict[str, Tensor]:
        """Return copies of which weights are live, by parameter name: bool tensors."""
        return {name: _live(layer).clone() for name, layer in self._layers.items()}

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradient of the penalty; scores that were frozen out take none."""
        for name, score in self.scores().items():
            if score.grad is not None:
                score.grad.add_(score, alpha=2.0 * self.penalty).mul_(_live(self._layers[name]))

    def _first_scores(self, slot: Slot) -> Tensor:
        return drawn(slot, Uniform(0.5), self.seed) + 0.5

    def _layer(self, slot: Slot) -> Masked:
        layer = Masked(slot.parameter.detach().clone(), signed=True)
        layer.register_buffer(_LIVE, torch.ones_like(layer.mask))
        return layer

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        refuse_nan(scores)
        for score in scores.values():
            score.clamp_(0.0, 1.0)
        ends = self.steps and (self.steps % self.period == 0 or self.steps == self.total)
        if ends and self.steps <= self.total:
            self._freeze(scores)
        for name, layer in self._layers.items():
            layer.set_mask((scores[name] > _THRESHOLD) & _live(layer))

    def _freeze(self, scores: Mapping[str, Tensor]) -> None:
        pools = self.budget.pools(self.network.shapes, self.density ** (self.steps / self.total))
        live = {name: _live(layer) for name, layer in self._layers.items()}
        for name, mask in prune(scores, pools, live).items():
            live[name].copy_(mask)


def _live(layer: Masked) -> Tensor:
    return layer.get_buffer(_LIVE)
