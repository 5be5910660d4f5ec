"""Biprop: edge-popup over binary weights with one learned scale for each layer (multi-prize tickets).

Diffenderfer, Kailkhura, "Multi-prize lottery ticket hypothesis: finding accurate binary neural networks by pruning a
randomly weighted network", ICLR 2021, algorithm 1. `supermask.models.binary` has the binary activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from supermask.masking.parametrization import straight_through_scores
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, SignOf, named
from supermask.random.weights import RandomWeight
from supermask.search.algorithm import Setting, SettingName
from supermask.search.edge_popup import CIFAR10, RankedRule
from supermask.search.rule import SHORT, untold
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class BipropRule(RankedRule):
    """Biprop (Diffenderfer & Kailkhura 2021): edge-popup over the signs of weights, with a scale for each layer.

    The mask is over sign(W) x alpha, alpha the mean of |W| over the kept weights of the layer (scaled=False), as
    published. Scaled, alpha is instead the standard deviation of W, scaled by the fraction that is kept as in other
    searches, so that what is kept has the variance of the distribution whatever is kept.

    The straight-through gradient of a score is that of edge-popup over the real weights, dL/dw x W (x sign(s)): alpha
    is taken for a constant (the authors' code). With signed constants, alpha is their magnitude and this is edge-popup.
    The authors ramp the density from 0.5 to its value over 10 epochs, with a global ranking alone.

    Attributes:
        weights: distribution of the real weights, in place of the run's.

    """

    name: ClassVar[str] = "biprop"
    not_given: ClassVar[str] = "it draws its binary weights from a distribution, and they have none"
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": SHORT,
        "published": Setting(
            CIFAR10,
            "the authors' configurations for conv2 to conv8 on CIFAR-10: as those of edge-popup",
            options={"scaled": False},
            figures="for other networks alone: VGG-Small 91.48 % at 0.05, ResNet-18 94.66 % at 0.2 (README)",
        ),
    }
    weights: str = untold("kaiming_normal")  # of the command; in Python it may be a Distribution too

    @property
    def distribution(self) -> Distribution:
        """The distribution of the binary weights."""
        return SignOf(named(self.weights))

    def layer(self, state: SearchState, slot: Slot) -> "Binary":
        """Return the binary weight, whose gradient is that of the real one."""
        binary = state.network.weights[slot.name]
        real = RandomWeight(slot.shape, named(self.weights), binary.fans, binary.scale).grow(state.seed, slot.name)
        return Binary(
            slot.parameter.detach().clone(),
            signed=self.signed,
            slope=real.to(slot.parameter),
            scaled_for=self.scaled_for(state, slot),
            published=not self.scaled,
        )

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the largest scores, and take the scales of what is kept."""
        state.keep_largest(scores, self.pools(state))


class Biprop(Search, rule=BipropRule):
    """A mask over sign(W) x alpha: a search by `BipropRule`."""

    def scales(self) -> dict[str, float]:
        """Return alpha of each layer; 0 where nothing is kept."""
        return {name: layer.alpha() for name, layer in self._layers.items() if isinstance(layer, Binary)}


class Binary(Treated):
    """The parametrization scores -> sign(W) x alpha x mask, whose gradient is that of W x mask.

    Args:
        frozen: sign(W) times one magnitude, floating; never changed.
        signed: whether the scores are ranked with their sign or by magnitude.
        slope: the real weights W.
        scaled_for: as of `Masked`.
        published: alpha is the mean magnitude of the kept real weights, not that of the frozen ones.

    """

    def __init__(
        self, frozen: Tensor, *, signed: bool, slope: Tensor, scaled_for: float | None, published: bool
    ) -> None:
        super().__init__(frozen, signed=signed, slope=slope, scaled_for=scaled_for)
        self.published = published

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores, and knows nothing of alpha."""
        value = self.value * self.gain
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return value
        return straight_through_scores(scores, value, self.signed, self.slope)

    @torch.no_grad()
    def rescale(self, kept: int | None = None) -> None:
        """Let the gain turn the magnitude of the binary weights into alpha."""
        if not self.published:
            super().rescale(kept)
        elif self.frozen.numel():
            mean = torch.where(self.mask, self.slope.abs(), 0.0).sum() / self.mask.sum().clamp(min=1)
            # an empty layer has the gain 1: there is nothing that it would multiply
            self.gain.copy_(torch.where(self.mask.any(), mean / self._magnitude, 1.0))

    def alpha(self) -> float:
        """Return the scale of the kept weights; 0 where nothing is kept."""
        return float(self.gain * self._magnitude) if bool(self.mask.any()) else 0.0

    @property
    def _magnitude(self) -> Tensor:
        return self.frozen.abs().reshape(-1)[0]
