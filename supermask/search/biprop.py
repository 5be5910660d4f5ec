"""Biprop: edge-popup over binary weights with one learned scale for each layer (multi-prize tickets).

Diffenderfer, Kailkhura, "Multi-prize lottery ticket hypothesis: finding accurate binary neural networks by pruning a
randomly weighted network", ICLR 2021, algorithm 1. `supermask.models.binary` has the binary activations.
"""

from collections.abc import Mapping
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.distributions import SignOf, named
from supermask.random.transform import Treatment
from supermask.random.weights import RandomWeight
from supermask.search.edge_popup import EdgePopup, PopupChoices


class Biprop(EdgePopup):
    """A mask over sign(W) x alpha, alpha the mean of |W| over the kept weights of the layer.

    The straight-through gradient of a score is that of edge-popup over the real weights, dL/dw x W (x sign(s)): alpha
    is taken for a constant (the authors' code). With signed constants, alpha is their magnitude and this is
    edge-popup.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept.
        seed: of the random weights and of the first scores.
        **choices: see `EdgePopup`; here the weights W are He normal unless given otherwise. The authors ramp the
            density (`schedule`) where it is low.

    Raises:
        SupermaskError: as `EdgePopup`.

    """

    name: ClassVar[str] = "biprop"

    def __init__(self, model: nn.Module, *, density: float, seed: int = 0, **choices: Unpack[PopupChoices]) -> None:
        self._real = named(choices.get("weights", "kaiming_normal"))
        asked: PopupChoices = {**choices, "weights": SignOf(self._real)}
        super().__init__(model, density=density, seed=seed, **asked)

    def treatments(self) -> dict[str, Treatment]:
        """Return the scales of the layers, over the magnitude of their binary weights."""
        return {name: layer.treatment() for name, layer in self._layers.items() if isinstance(layer, Treated)}

    def scales(self) -> dict[str, float]:
        """Return alpha of each layer; 0 where nothing is kept."""
        means = {
            name: _mean(layer.slope, layer.mask) for name, layer in self._layers.items() if isinstance(layer, Treated)
        }
        return {name: float(mean) for name, mean in means.items()}

    def _layer(self, slot: Slot) -> Treated:
        binary = self.network.weights[slot.name]
        real = RandomWeight(slot.shape, self._real, binary.fans, binary.scale).grow(self.seed, slot.name)
        return Treated(slot.parameter.detach().clone(), signed=self._signed, slope=real.to(slot.parameter))

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        super()._select(scores)
        for layer in self._layers.values():
            assert isinstance(layer, Treated)
            _take_scale(layer)


def _take_scale(layer: Treated) -> None:
    """Let the gain turn the magnitude of the binary weights into alpha."""
    if layer.frozen.numel() and bool(layer.mask.any()):
        layer.gain.copy_(_mean(layer.slope, layer.mask) / layer.frozen.abs().reshape(-1)[0])
    layer.refresh()


def _mean(real: Tensor, mask: Tensor) -> Tensor:
    """Return the mean magnitude of the kept weights, without dimensions."""
    return torch.where(mask, real.abs(), 0.0).sum() / mask.sum().clamp(min=1)
