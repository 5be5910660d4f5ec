"""Signed supermasks: each weight is kept, kept with its sign flipped, or pruned.

Koster, Grothe, Rettinger, "Signing the supermask: keep, hide, invert", ICLR 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.distributions import XavierUniform
from supermask.search.algorithm import Setting, SettingName
from supermask.search.rule import SHORT, BudgetedRule, Start, common, refuse_nan, started
from supermask.search.search import Search
from supermask.search.state import SearchState

THRESHOLD = 0.01
"""The default of the authors' layers (`tanh_th`)."""


@final
@dataclass(frozen=True, kw_only=True)
class SignedRule(BudgetedRule):
    """Signed supermasks (Koster et al. 2022): weights are kept, kept with their sign flipped, or pruned.

    A ternary mask sign(s) over frozen random weights where |s| is large; the gradient goes straight through to s. The
    largest |s| are kept, exactly as many as the density says. Without a density, or with a threshold, |s| > threshold
    is kept, as published; the density is then an outcome. The paper's weights are signed constants. With a density
    they are scaled by it, which the authors' are not. The score gradient is not clipped in either.

    Attributes:
        threshold: keep what has a score of larger magnitude, as published, and not the density that is asked for; 0
            keeps exactly the density.
        scores: distribution of the first scores; or "weights", the magnitudes of the weights, as for `EdgePopup`, so
            that no sign is flipped at first. None is that where weights are given.

    """

    name: ClassVar[str] = "signed"
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": SHORT,
        "published": Setting(
            {"optimizer": "sgdw", "learning_rate": 0.05, "nesterov": True, "weight_decay": 5e-4, "warm_up": 0},
            "the authors' configuration for MNIST: 100 epochs, a rate that falls by a tenth an epoch (here: cosine),"
            " ELU (here: the model's ReLU)",
            options={"threshold": THRESHOLD},
            figures="97.48 % at 3.77 % kept (README)",
        ),
    }
    scores: Start | None = common(None)
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise SupermaskError(f"threshold={self.threshold} is out of range; |score| is compared with it.")
        super().__post_init__()

    def defaults(self) -> dict[str, Any]:
        """Return what None stands for, by option."""
        # the distribution is that of the authors' files
        return {**super().defaults(), "scores": "weights" if self.given else XavierUniform()}

    @property
    def kept(self) -> float | None:
        """Fraction of the prunable weights that is kept; None where the threshold decides."""
        return None if self.density is None or self.threshold else float(self.density)

    @property
    def signed(self) -> bool:
        """Masks are selected by magnitude."""
        return False

    def described(self) -> dict[str, Any]:
        """Return the options as plain values: the threshold or the density, whichever decides."""
        told = super().described()
        chosen = ["threshold"] if self.kept is None else ["density", "scaled"]
        return {name: told[name] for name in [*chosen, "scope", "scores", *self.policy]}

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the magnitudes of the scores."""
        return {name: score.detach().abs() for name, score in scores.items()}

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Return the first scores of a parameter."""
        return started(state, slot, self.scores, positive=True)

    def layer(self, state: SearchState, slot: Slot) -> Treated:
        """Return a weight that is multiplied by a sign; the gradient of its score has no sign of its own."""
        return Treated(slot.parameter.detach().clone(), signed=True, scaled_for=self.scaled_for(state, slot))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the large scores, and take their signs."""
        if self.kept is None:
            refuse_nan(scores)
            for name, mask in state.masks.items():
                mask.copy_(scores[name].abs() > self.threshold)
        else:
            state.select(scores, self.pools(state), state.masks)
        for name, layer in state.layers.items():
            assert isinstance(layer, Treated)
            layer.factors.copy_(torch.where(scores[name] < 0.0, -1, 1))
            layer.refresh()


class SignedSupermask(Search, rule=SignedRule):
    """A ternary mask over frozen random weights: a search by `SignedRule`.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept, exactly: the largest |s|. None keeps |s| > threshold,
            as published; the density is then an outcome.
        threshold: of |s|, where no density is given.
        seed: of the random weights and of the first scores.
        **options: see `SignedRule`.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float | None = None,
        threshold: float = THRESHOLD,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, density=density, threshold=threshold if density is None else 0.0, seed=seed, **options)
