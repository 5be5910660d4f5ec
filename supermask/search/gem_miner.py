"""Gem-Miner: scores in [0, 1] are rounded, pulled towards zero, and the lowest are frozen out period by period.

Sreenivasan, Sohn, Yang, Grinde, Nagle, Wang, Xing, Lee, Papailiopoulos, "Rare gems: finding lottery tickets at
initialization", NeurIPS 2022, section 4, algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Global, Scope
from supermask.masking.parametrization import Masked
from supermask.masking.pruning import prune
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Uniform
from supermask.search.algorithm import Setting, SettingName
from supermask.search.rule import BudgetedRule, common, drawn, refuse_nan, untold
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.training import Recipe

_LIVE = "live"
_THRESHOLD = 0.5


@final
@dataclass(frozen=True, kw_only=True)
class GemMinerRule(BudgetedRule):
    """Gem-Miner (Sreenivasan et al. 2022): scores are rounded and penalised, the lowest frozen out by periods.

    The mask is score > 1/2 among the live weights. All periods but the last end with a freeze, after which the
    fraction of live weights is density^(i / freezes), i the number of the freeze (algorithm 1: each removes the same
    fraction of those left), so that the scores learn with their last live set for a period. From then on at most
    `density`, which is not 0, is kept; the mask may keep fewer of the live weights, and the gain of a scaled layer
    follows what it keeps. The first scores are uniform on [0, 1]. The scope says what competes to stay live: the whole
    network as in the paper, but with a weight left in each layer, unless a run says otherwise.

    What the penalty does is a matter of the rates and the number of steps. So it is given as the `pull`, the share of a
    score that it takes away in a whole run if nothing defends the score: 2 x penalty x the sum of the rates / (1 -
    momentum). The authors' 150 epochs on CIFAR-10 have a pull of 1.76 where 3.72 % are kept (penalty 3e-5) and of 5.9
    at 1.44 % (1e-4). They do not scale their weights, whose layers are followed by batch norm.

    Attributes:
        freeze_every: optimizer steps of a period; 0 is a thirtieth of all.
        pull: of the penalty, over all steps.
        penalty: of the authors, in place of the pull: penalty x |s|^2 is added to the loss. Either stands in place of
            the recipe's weight decay.
        steps: optimizer steps in all. A run knows them by itself.
        total_rate: sum of the rates of all steps by 1 - momentum, as `Recipe.total_rate` returns it. A run knows it by
            itself; None is that of `learning_rate`, momentum 0.9 and a cosine after the warm-up.
        learning_rate: of the scores, in place of the run's: scores on [0, 1] are on another scale than edge-popup's.
            None is 2, and below a density of 0.1 in proportion to it.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range. `step` raises it where the penalty has emptied the
            mask of a layer.

    """

    name: ClassVar[str] = "gem_miner"
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": Setting({"warm_up": 0.2}, "chosen on the validation split of MNIST, LeNet-300-100, 5 epochs"),
        "published": Setting(
            {"weight_decay": 0.0, "warm_up": 0, "batch_size": 128, "augment": True},
            "the authors' configurations for ResNet-20 on CIFAR-10 at 3.72 % kept: 150 epochs, SGD 0.1, cosine",
            options={"penalty": 3e-5, "learning_rate": 0.1, "scaled": False},
            figures="83.4 % at 3.72 % kept, after training (table 2)",
        ),
    }
    scope: str | Scope = common(Global(floor=1))
    steps: int | None = common(None)
    total_rate: float | None = common(None, told=False)
    freeze_every: int = 0  # 5 epochs in the paper, of 150
    pull: float = untold(1.0)
    penalty: float | None = None
    learning_rate: float | None = untold(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density == 0.0:
            raise SupermaskError("density=0 cannot be reached by removing a fraction again and again; give more.")
        most = self.freeze_every if self.steps is None else self.steps
        if not 0 <= self.freeze_every <= most or self.steps == 0:
            raise SupermaskError(
                f"steps={self.steps}, freeze_every={self.freeze_every} do not fit: a period is within the steps."
            )
        for name in ("pull", "penalty"):
            if not (getattr(self, name) or 0.0) >= 0.0:
                raise SupermaskError(f"{name}={getattr(self, name)} is negative; it pulls the scores towards zero.")
        if self.penalty is not None and self.pull != type(self).pull:
            raise SupermaskError(f"pull={self.pull} and penalty={self.penalty} say the same thing twice; give one.")

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

    @property
    def freezes(self) -> int:
        """Number of freezes."""
        return max(1, self.total // self.period - 1)

    @cached_property
    def coefficient(self) -> float:
        """What |s|^2 is multiplied by in the loss."""
        if self.penalty is not None:
            return self.penalty
        total_rate = self.total_rate
        if total_rate is None:
            total_rate = self.recipe(Recipe()).total_rate(self.total)
        return self.pull / (2.0 * total_rate) if total_rate else 0.0

    def recipe(self, recipe: Recipe, setting: SettingName = "short") -> Recipe:
        """Return the recipe with the rate of these scores, and without weight decay, which the penalty replaces."""
        return replace(super().recipe(recipe, setting), learning_rate=self._rate, weight_decay=0.0)

    @property
    def _rate(self) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        # chosen on the validation split of MNIST at 0.5, 0.1, 0.04 and 0.02: a higher one at low densities throws the
        # scores about, and the mask is all that is live
        return 2.0 if self.density is None else float(f"{2.0 * min(1.0, self.density / 0.1):.2g}")

    def described(self) -> dict[str, Any]:
        """Return the options as plain values, with the period that 0 stands for."""
        told = super().described()
        own = {"steps": self.total, "freeze_every": self.period, "penalty": self.coefficient}
        return {"density": told["density"], **own, "scope": told["scope"], "scaled": self.scaled, **self.policy}

    def complete(self, steps: int) -> bool:
        """Return whether no more weights are live than the density allows."""
        return steps >= self.freezes * self.period or self.density == 1.0

    def varies(self, state: SearchState) -> bool:
        """Return True: the mask may keep any number of the live weights."""
        return True

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the scores, with those that were frozen out below all others."""
        return {name: torch.where(_live(state.layers[name]), score, -1.0) for name, score in scores.items()}

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Draw the first scores of a parameter."""
        return drawn(state, slot, Uniform(0.5)) + 0.5

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight with a record of which weights are live."""
        frozen = slot.parameter.detach().clone()
        layer = Masked(frozen, signed=True, scaled_for=self.scaled_for(state, slot))
        layer.register_buffer(_LIVE, torch.ones_like(layer.mask))
        return layer

    @torch.no_grad()
    def before_step(self, state: SearchState, scores: Mapping[str, nn.Parameter]) -> None:
        """Add the gradient of the penalty; scores that were frozen out take none."""
        for name, score in scores.items():
            if score.grad is not None:
                score.grad.add_(score, alpha=2.0 * self.coefficient).mul_(_live(state.layers[name]))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Round the scores, after the lowest were frozen out where a period ends."""
        refuse_nan(scores)
        for score in scores.values():
            score.clamp_(0.0, 1.0)
        number, within = divmod(state.steps, self.period)
        if not within and 0 < number <= self.freezes:
            self._freeze(state, scores, number / self.freezes)
        for name, layer in state.layers.items():
            layer.set_mask((scores[name] > _THRESHOLD) & _live(layer))
            if layer.mask.numel() > 1 and not bool(layer.mask.any()):
                raise SupermaskError(
                    f"The mask of {name} is empty at step {state.steps}: the penalty pulls all scores below 1/2; give a"
                    " smaller pull (or penalty)."
                )

    def _freeze(self, state: SearchState, scores: Mapping[str, Tensor], done: float) -> None:
        assert self.kept is not None
        pools = self.budget.pools(state.shapes, self.kept**done)
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
