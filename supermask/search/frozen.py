"""Partially frozen networks: of a random part of the mask the seed says what it is, and only the rest is searched for.

Otsuka, Chijiwa, Garcia-Arias, Okoshi, Kawamura, Van Chu, Fujiki, Takeuchi, Motomura, "Partially frozen random networks
contain compact strong lottery tickets", TMLR 2025, section 3.
"""

from collections.abc import Mapping
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import checked_density
from supermask.masking.selection import Selection
from supermask.random.transform import Fixed, Preset
from supermask.search.edge_popup import EdgePopup, PopupChoices


class PartiallyFrozen(EdgePopup):
    """Edge-popup in which a random part of each layer is pruned or kept in any case.

    A layer of n weights has round(frozen x n) entries fixed: of them the share `locked` is kept, the rest pruned. The
    file of the ticket holds the mask of the others alone.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept, those in any case included.
        seed: of all draws.
        frozen: fraction of each layer that the seed fixes, in [0, 1].
        locked: share of that part which is kept, in [0, 1]; None is the density, so that the fixed part is as dense as
            the ticket.
        **choices: see `EdgePopup`.

    Raises:
        SupermaskError: as `EdgePopup`, or a layer is to keep fewer weights than are locked, or more than are not
            pruned in any case.

    """

    name: ClassVar[str] = "partially_frozen"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        frozen: float = 0.5,
        locked: float | None = None,
        **choices: Unpack[PopupChoices],
    ) -> None:
        self.frozen = checked_density(frozen, "frozen")
        self.locked = checked_density(density) if locked is None else checked_density(locked, "locked")
        self._fixed: dict[str, Fixed] = {}
        self._by_rank = Selection(signed=True)
        super().__init__(model, density=density, seed=seed, **choices)
        self.options |= {"frozen": self.frozen, "locked": self.locked}

    def presets(self) -> dict[str, Preset]:
        """Return how many entries of each mask the seed fixes."""
        return {name: self._preset(slot.parameter.numel()) for name, slot in self.network.masked.items()}

    def ranking(self) -> Mapping[str, Tensor]:
        """Return the ranks: those of the scores, with locked weights above all and pruned ones below none."""
        ranks = self._ranks(self.scores())
        return ranks if self._signed else {name: rank.clamp(min=0.0) for name, rank in ranks.items()}

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        self._by_rank.select(
            self._pools(), self._ranks(scores), {name: each.mask for name, each in self._layers.items()}
        )
        for name, layer in self._layers.items():
            free, locked = self._fixed[name]
            if not torch.equal(layer.mask & ~free, locked):
                fixed = self.presets()[name]
                raise SupermaskError(
                    f"{name} keeps {int(layer.mask.sum()):,} of {layer.mask.numel():,} weights, which does not fit"
                    f" {fixed.locked:,} that are kept and {fixed.pruned:,} that are pruned in any case; freeze less, or"
                    " give each layer the same density (scope='layer')."
                )
            layer.refresh()

    def _check(self) -> None:
        self._by_rank.check()

    def _preset(self, count: int) -> Preset:
        fixed = round(self.frozen * count)
        locked = round(self.locked * fixed)
        return Preset(pruned=fixed - locked, locked=locked)

    def _ranks(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ranks = {}
        for name, score in scores.items():
            free, locked = self._fixed_of(name, score)
            rank = score.detach() if self._signed else score.detach().abs()
            # NaN must stay NaN, so that it is found
            ranks[name] = torch.where(free, rank, torch.where(locked, torch.inf, -torch.inf).to(rank.dtype))
        return ranks

    def _fixed_of(self, name: str, like: Tensor) -> Fixed:
        fixed = self._fixed.get(name)
        if fixed is None or fixed.free.device != like.device:
            grown = self._preset(like.numel()).grow(self.seed, name, tuple(like.shape))
            fixed = self._fixed[name] = Fixed(grown.free.to(like.device), grown.locked.to(like.device))
        return fixed
