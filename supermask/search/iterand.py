"""IteRand: edge-popup whose pruned weights are drawn anew, again and again.

Chijiwa, Yamaguchi, Ida, Umakoshi, Inoue, "Pruning randomly initialized neural networks with iterative randomization",
NeurIPS 2021, algorithm 1.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import checked_density
from supermask.masking.parametrization import Masked
from supermask.parameters.parameters import Slot
from supermask.random.distributions import KaimingUniform
from supermask.random.stream import Stream
from supermask.random.transform import Treatment
from supermask.search.edge_popup import EdgePopup, PopupChoices

_REDRAWS = "redraws"


class IteRand(EdgePopup):
    """Edge-popup (by signed scores, as the authors' code has it) in which pruned weights are replaced on a schedule.

    The g-th replacement draws from (seed, parameter name, g), and which weights it replaces from the same, so that the
    ticket needs of each kept weight no more than which draw it is of. A kept weight never changes.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept.
        seed: of all draws.
        every: optimizer steps between replacements (K_per; 300 on CIFAR-10, 1000 on ImageNet).
        rate: chance of each pruned weight to be replaced (r; 0.1).
        **choices: see `EdgePopup`; here the scores are signed, and start as He uniform, unless given otherwise.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range.

    """

    name: ClassVar[str] = "iterand"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        every: int = 300,
        rate: float = 0.1,
        **choices: Unpack[PopupChoices],
    ) -> None:
        if every < 1:
            raise SupermaskError(f"every={every} is too small; give a number of optimizer steps.")
        self.every, self.rate = every, checked_density(rate, "rate")
        asked: PopupChoices = {"score": "signed", "scores": KaimingUniform(), **choices}
        super().__init__(model, density=density, seed=seed, **asked)
        self.options |= {"every": every, "rate": self.rate}

    def treatments(self) -> dict[str, Treatment]:
        """Return which draw each kept weight is of."""
        redraws = {name: torch.where(layer.mask, _redraws(layer), 0).cpu() for name, layer in self._layers.items()}
        return {name: Treatment(redraws=draws) for name, draws in redraws.items() if bool(draws.any())}

    def step(self) -> None:
        """Select the masks anew and, every so many steps, replace pruned weights."""
        super().step()
        if self.steps % self.every == 0:
            self._replace(self.steps // self.every)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` returned, and regrow the weights that were replaced."""
        super().load_state_dict(state)
        for name, layer in self._layers.items():
            self._regrow(name, layer)

    def _layer(self, slot: Slot) -> Masked:
        layer = super()._layer(slot)
        layer.register_buffer(_REDRAWS, torch.zeros_like(layer.mask, dtype=torch.int32))
        return layer

    @torch.no_grad()
    def _replace(self, draw: int) -> None:
        for name, layer in self._layers.items():
            chosen = torch.from_numpy(
                Stream(self.seed, name, f"replace {draw}").uniform(layer.mask.numel()) < self.rate
            )
            replaced = chosen.reshape(layer.mask.shape).to(layer.mask.device) & ~layer.mask
            _redraws(layer)[replaced] = draw
            layer.frozen[replaced] = self._grow(name, layer, draw)[replaced]

    @torch.no_grad()
    def _regrow(self, name: str, layer: Masked) -> None:
        redraws = _redraws(layer)
        for draw in redraws.unique().tolist():
            layer.frozen.copy_(torch.where(redraws == draw, self._grow(name, layer, draw), layer.frozen))
        layer.refresh()

    def _grow(self, name: str, layer: Masked, draw: int) -> Tensor:
        return self.network.weights[name].grow(self.seed, name, draw=draw).to(layer.frozen)


def _redraws(layer: Masked) -> Tensor:
    return layer.get_buffer(_REDRAWS)
