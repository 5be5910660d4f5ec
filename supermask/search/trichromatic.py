"""Trichromatic supermasks: a mask of connections, one of signs and one of magnitudes, over frozen random weights.

Lopez Garcia-Arias, Okoshi, Otsuka and others, "The trichromatic strong lottery ticket hypothesis" (OpenReview
CfI2KfPb4C). Its abstract was read, not its equations: how one score gives three masks is our reading of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.search.edge_popup import RankedRule, Score
from supermask.search.multicoated import MOST_COATS, count_coats, evenly
from supermask.search.rule import common
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class TrichromaticRule(RankedRule):
    """Trichromatic supermasks (Lopez Garcia-Arias et al. 2024): a kept weight has a trained sign and magnitude.

    A weight is frozen x sign(s) x level x gain. The largest |s| are kept, exactly as many as the density says.
    Level l or more, of the integers from 1 to L, goes to the largest density x (L - l + 1) / L of all, so that each
    level has the same number of weights. Where weights are scaled, the gain of a layer makes up for its levels too,
    so that what is kept has the variance of the distribution. The gradient goes straight through to s, times the
    frozen weight and the gain: signs, levels and mask are one quantizer of s.

    Attributes:
        levels: number of magnitudes; with 1, weights are kept, kept with their sign flipped, or pruned.

    Raises:
        SupermaskError: as `EdgePopup`, or the number of levels is out of range.

    """

    name: ClassVar[str] = "trichromatic"
    score: Score = common("magnitude", fixed=True)
    levels: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_COATS:
            raise SupermaskError(f"levels={self.levels} is out of range; give from 1 to {MOST_COATS}.")
        if self.score != "magnitude":
            raise SupermaskError(f"score={self.score!r} does not fit: the sign of a score is that of its weight.")
        super().__post_init__()

    @property
    def positive(self) -> bool:
        """Return True: the sign of a score is that of its weight."""
        return True

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return {**super().described(), "levels": self.levels}

    def layer(self, state: SearchState, slot: Slot) -> Treated:
        """Return a weight that is multiplied by a signed level; the gradient of its score has no sign of its own."""
        return Treated(slot.parameter.detach().clone(), signed=True, scaled_for=self.scaled_for(state, slot))

    def varies(self, state: SearchState) -> bool:
        """Return True: what is kept counts several times."""
        return True

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the large scores, with their signs and levels."""
        masks, counts = count_coats(self, state, scores, evenly(self.levels))
        for name, layer in state.layers.items():
            assert isinstance(layer, Treated)
            layer.mask.copy_(masks[name])
            layer.factors.copy_(torch.where(scores[name] < 0.0, -counts[name], counts[name]))
            layer.refresh()


class TrichromaticSupermask(Search, rule=TrichromaticRule):
    """Masks of connections, signs and magnitudes: a search by `TrichromaticRule`."""
