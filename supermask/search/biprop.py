"""Biprop: edge-popup over binary weights with one learned scale for each layer (multi-prize tickets).

Diffenderfer, Kailkhura, "Multi-prize lottery ticket hypothesis: finding accurate binary neural networks by pruning a
randomly weighted network", ICLR 2021, algorithm 1. `supermask.models.binary` has the binary activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, SignOf, named
from supermask.random.weights import RandomWeight
from supermask.search.edge_popup import RankedRule
from supermask.search.rule import untold
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class BipropRule(RankedRule):
    """Biprop (Diffenderfer & Kailkhura 2021): edge-popup over the signs of weights, with a scale for each layer.

    The mask is over sign(W) x alpha, alpha the mean of |W| over the kept weights of the layer. The straight-through
    gradient of a score is that of edge-popup over the real weights, dL/dw x W (x sign(s)): alpha is taken for a
    constant (the authors' code). With signed constants, alpha is their magnitude and this is edge-popup. The authors
    ramp the density where it is low.

    Attributes:
        weights: distribution of the real weights, in place of the run's.

    """

    name: ClassVar[str] = "biprop"
    weights: str = untold("kaiming_normal")  # of the command; in Python it may be a Distribution too

    @property
    def distribution(self) -> Distribution:
        """The distribution of the binary weights."""
        return SignOf(named(self.weights))

    def layer(self, state: SearchState, slot: Slot) -> Treated:
        """Return the binary weight, whose gradient is that of the real one."""
        binary = state.network.weights[slot.name]
        real = RandomWeight(slot.shape, named(self.weights), binary.fans, binary.scale).grow(state.seed, slot.name)
        return Treated(slot.parameter.detach().clone(), signed=self.signed, slope=real.to(slot.parameter))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the largest scores, and take the scales of what is kept."""
        state.keep_largest(scores, self.pools(state))
        for layer in state.layers.values():
            assert isinstance(layer, Treated)
            _take_scale(layer)


class Biprop(Search, rule=BipropRule):
    """A mask over sign(W) x alpha: a search by `BipropRule`."""

    def scales(self) -> dict[str, float]:
        """Return alpha of each layer; 0 where nothing is kept."""
        layers = {name: layer for name, layer in self._layers.items() if isinstance(layer, Treated)}
        return {name: float(_mean(layer.slope, layer.mask)) for name, layer in layers.items()}


def _take_scale(layer: Treated) -> None:
    """Let the gain turn the magnitude of the binary weights into alpha."""
    if layer.frozen.numel() and bool(layer.mask.any()):
        layer.gain.copy_(_mean(layer.slope, layer.mask) / layer.frozen.abs().reshape(-1)[0])
    layer.refresh()


def _mean(real: Tensor, mask: Tensor) -> Tensor:
    """Return the mean magnitude of the kept weights, without dimensions."""
    return torch.where(mask, real.abs(), 0.0).sum() / mask.sum().clamp(min=1)
