"""Multicoated supermasks: several nested masks of one set of scores, added up.

Okoshi, Garcia-Arias, Hirose, Ando, Kawamura, Van Chu, Motomura, Yu, "Multicoated supermasks enhance hidden networks",
ICML 2022.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.transform import Treatment
from supermask.search.edge_popup import EdgePopup, PopupChoices

MOST_COATS = 127
"""A count of coats is stored in a signed byte."""


class MulticoatedSupermask(EdgePopup):
    """Edge-popup whose kept weights are multiplied by the number of coats that keep them.

    Coat i of N keeps the largest density x (N - i + 1) / N of the scores, so each coat lies within the one before, and
    the first is the mask. That spacing is our reading of the paper; its public configuration has densities of its own,
    which `coats` takes. The straight-through gradient of the sum is that of each coat, N times.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that the first coat keeps.
        seed: of the random weights and of the first scores.
        coats: their number, or the fraction of the first coat that each of them keeps: (1, ...), falling.
        **choices: see `EdgePopup`.

    Raises:
        SupermaskError: as `EdgePopup`, or the coats are out of range.

    """

    name: ClassVar[str] = "multicoated"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        coats: int | tuple[float, ...] = 3,
        **choices: Unpack[PopupChoices],
    ) -> None:
        self.coats = _checked(coats)
        self._coats = list[list[Pool]]()
        super().__init__(model, density=density, seed=seed, **choices)
        self.options["coats"] = list(self.coats)

    def treatments(self) -> dict[str, Treatment]:
        """Return the coats of the kept weights."""
        return {name: layer.treatment() for name, layer in self._layers.items() if isinstance(layer, Treated)}

    def _layer(self, slot: Slot) -> Treated:
        frozen = slot.parameter.detach().clone()
        return Treated(frozen, signed=self._signed, slope=frozen * len(self.coats))

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        density = self.schedule.density(self.steps, self.density)
        if self._made != density:
            self._made = density
            self._coats = [self.budget.thinned(coat).pools(self.network.shapes, density * coat) for coat in self.coats]
        masks = {name: torch.empty_like(layer.mask) for name, layer in self._layers.items()}
        counts = {name: torch.zeros_like(layer.mask, dtype=torch.int8) for name, layer in self._layers.items()}
        for pools in reversed(self._coats):  # the first coat comes last: its masks stay, and its faults are looked at
            self._selection.select(pools, scores, masks)
            for name, mask in masks.items():
                counts[name] += mask
        for name, layer in self._layers.items():
            assert isinstance(layer, Treated)
            layer.mask.copy_(masks[name])
            layer.factors.copy_(counts[name])
            layer.refresh()


def _checked(coats: int | tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(coats, int):
        if not 1 <= coats <= MOST_COATS:
            raise SupermaskError(f"coats={coats} is out of range; give from 1 to {MOST_COATS}.")
        return tuple((coats - coat) / coats for coat in range(coats))
    fractions = tuple(map(float, coats))
    falling = all(0.0 < after <= before for before, after in pairwise(fractions))
    if not (0 < len(fractions) <= MOST_COATS and fractions[0] == 1.0 and falling):
        raise SupermaskError(f"coats={coats} do not fit: the first is 1, each further one a part of the one before.")
    return fractions
