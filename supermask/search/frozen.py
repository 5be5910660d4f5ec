"""Partially frozen networks: the seed fixes a random part of the mask, and only the rest is searched for.

Otsuka, Chijiwa, Garcia-Arias, Okoshi, Kawamura, Van Chu, Fujiki, Takeuchi, Motomura, "Partially frozen random networks
contain compact strong lottery tickets", TMLR 2025, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import checked_density
from supermask.masking.parametrization import Masked
from supermask.parameters.parameters import Slot
from supermask.random.transform import Preset
from supermask.search.edge_popup import RankedRule
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class PartiallyFrozenRule(RankedRule):
    """Partially frozen networks (Otsuka et al. 2025): edge-popup where the seed fixes a part of the mask.

    A layer of n weights has round(frozen x n) fixed entries: the share `locked` of them is kept, the rest pruned. The
    density counts the locked weights too. The file of the ticket holds the mask of the others alone.

    The authors freeze another fraction in each layer (by ERK, or the same number of edges), rank globally, and draw
    Kaiming normal scores; their weights are not scaled on CIFAR-10, and by what is kept at each step on ImageNet.

    Attributes:
        frozen: fraction of each layer that is fixed.
        locked: share of that part which is kept; None is the density.

    Raises:
        SupermaskError: as `EdgePopup`, or a layer is to keep fewer weights than are locked, or more than are not fixed
            as pruned.

    """

    name: ClassVar[str] = "partially_frozen"
    frozen: float = 0.5
    locked: float | None = None  # so that the fixed part is as dense as the ticket

    def __post_init__(self) -> None:
        checked_density(self.frozen, "frozen")
        if self.locked is not None:
            checked_density(self.locked, "locked")
        super().__post_init__()

    @property
    def signed(self) -> bool:
        """Ranks have infinities of both signs, whatever the scores are ranked by."""
        return True

    @property
    def share(self) -> float:
        """Share of the fixed part that is kept."""
        share = self.kept if self.locked is None else self.locked
        assert share is not None
        return float(share)

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return {**super().described(), "frozen": float(self.frozen), "locked": self.share}

    def presets(self, state: SearchState) -> dict[str, Preset]:
        """Return how many entries of each mask the seed fixes."""
        return {name: self._preset(slot.parameter.numel()) for name, slot in state.network.masked.items()}

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the ranks: those of the scores, with locked weights above all and pruned ones below all."""
        ranks = self._ranks(state, scores)
        return ranks if self.score == "signed" else {name: rank.clamp(min=0.0) for name, rank in ranks.items()}

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight with what the seed fixes of its mask."""
        layer = super().layer(state, slot)
        fixed = self._preset(slot.parameter.numel()).grow(state.seed, slot.name, slot.shape)
        for name, places in fixed._asdict().items():  # regrown from the seed, so not part of the state
            layer.register_buffer(name, places.to(layer.mask.device), persistent=False)
        return layer

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the locked weights and the largest scores of the free ones."""
        state.keep_largest(self._ranks(state, scores), self.pools(state))
        for name, layer in state.layers.items():
            if not torch.equal(layer.mask & ~layer.get_buffer("free"), layer.get_buffer("locked")):
                fixed = self._preset(layer.mask.numel())
                raise SupermaskError(
                    f"{name} keeps {int(layer.mask.sum()):,} of {layer.mask.numel():,} weights, which does not fit"
                    f" {fixed.locked:,} that are kept and {fixed.pruned:,} that are pruned in any case; freeze less, or"
                    " give each layer the same density (scope='layer')."
                )

    def _preset(self, count: int) -> Preset:
        fixed = round(self.frozen * count)
        locked = round(self.share * fixed)
        return Preset(pruned=fixed - locked, locked=locked)

    def _ranks(self, state: SearchState, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ranks = {}
        for name, score in scores.items():
            free, locked = (state.layers[name].get_buffer(part) for part in ("free", "locked"))
            rank = score.detach() if self.score == "signed" else score.detach().abs()
            # NaN must stay NaN, so that it is found
            ranks[name] = torch.where(free, rank, torch.where(locked, torch.inf, -torch.inf).to(rank.dtype))
        return ranks


class PartiallyFrozen(Search, rule=PartiallyFrozenRule):
    """Edge-popup in which the seed fixes a random part of each mask: a search by `PartiallyFrozenRule`."""

    @property
    def locked(self) -> float:
        """Share of the fixed part that is kept."""
        assert isinstance(self.rule, PartiallyFrozenRule)
        return self.rule.share
