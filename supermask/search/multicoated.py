"""Multicoated supermasks: several nested masks of one set of scores, added up.

Okoshi, Garcia-Arias, Hirose, Ando, Kawamura, Van Chu, Motomura, Yu, "Multicoated supermasks enhance hidden networks",
ICML 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.search.edge_popup import RankedRule
from supermask.search.search import Search
from supermask.search.state import SearchState

MOST_COATS = 127
"""A count of coats is stored in a signed byte."""


@final
@dataclass(frozen=True, kw_only=True)
class MulticoatedRule(RankedRule):
    """Multicoated supermasks (Okoshi et al. 2022): nested masks of one set of scores, added up.

    A kept weight is multiplied by the number of coats that keep it. Coat i of N keeps the largest
    density x (N - i + 1) / N of the scores, so each coat lies within the one before, and the first is the mask. That
    spacing is our reading of the paper; its public configuration has densities of its own, which `coats` takes. The
    straight-through gradient of the sum is that of each coat, N times.

    Scaled weights are divided by the root mean square of the counts too, so that what is kept has the variance of the
    distribution; the authors' layers are followed by batch norm, which does the same to their outputs. Their first
    scores are Kaiming normal by fan_out; ours are those of edge-popup.

    Attributes:
        coats: their number, or the fraction of the first coat that each of them keeps: 1 ..., falling.

    Raises:
        SupermaskError: as `EdgePopup`, or the coats are out of range.

    """

    name: ClassVar[str] = "multicoated"
    coats: int | tuple[float, ...] = 3

    def __post_init__(self) -> None:
        _ = self.shares
        super().__post_init__()

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The fraction of the first coat that each coat keeps."""
        return _checked(self.coats)

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return {**super().described(), "coats": list(self.shares)}

    def layer(self, state: SearchState, slot: Slot) -> Treated:
        """Return a weight that is multiplied by a count of coats."""
        frozen = slot.parameter.detach().clone()
        slope = frozen * len(self.shares)
        return Treated(frozen, signed=self.signed, slope=slope, scaled_for=self.scaled_for(state, slot))

    def varies(self, state: SearchState) -> bool:
        """Return True: what is kept counts several times."""
        return True

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Select the masks of all coats, and count them."""
        masks, counts = count_coats(self, state, scores, self.shares)
        for name, layer in state.layers.items():
            assert isinstance(layer, Treated)
            layer.mask.copy_(masks[name])
            layer.factors.copy_(counts[name])
            layer.refresh()


class MulticoatedSupermask(Search, rule=MulticoatedRule):
    """Nested masks added up: a search by `MulticoatedRule`."""

    @property
    def coats(self) -> tuple[float, ...]:
        """The fraction of the first coat that each coat keeps."""
        assert isinstance(self.rule, MulticoatedRule)
        return self.rule.shares


def count_coats(
    rule: RankedRule, state: SearchState, scores: Mapping[str, Tensor], fractions: tuple[float, ...]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the masks of the first coat, and how many coats keep each weight; int8, by parameter name.

    Args:
        rule: gives the density of the present step, and how it is shared out.
        state: of the search.
        scores: that rank the weights.
        fractions: of the density that each coat keeps: 1 ..., falling.

    """
    density, shapes, budget = rule.density_at(state.steps), state.shapes, rule.budget
    coats = state.at_density(
        density, lambda: [budget.thinned(part).pools(shapes, density * part) for part in fractions]
    )
    masks = {name: torch.empty_like(mask) for name, mask in state.masks.items()}
    counts = {name: torch.zeros_like(mask, dtype=torch.int8) for name, mask in state.masks.items()}
    for pools in reversed(coats):  # the first coat comes last: its masks stay, and its faults are seen
        state.select(scores, pools, masks)
        for name, mask in masks.items():
            counts[name] += mask
    return masks, counts


def evenly(coats: int) -> tuple[float, ...]:
    """Return the fractions of so many coats that are evenly spaced."""
    return tuple((coats - coat) / coats for coat in range(coats))


def _checked(coats: int | tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(coats, int):
        if not 1 <= coats <= MOST_COATS:
            raise SupermaskError(f"coats={coats} is out of range; give from 1 to {MOST_COATS}.")
        return evenly(coats)
    fractions = tuple(map(float, coats))
    falling = all(0.0 < after <= before for before, after in pairwise(fractions))
    if not (0 < len(fractions) <= MOST_COATS and fractions[0] == 1.0 and falling):
        raise SupermaskError(f"coats={coats} do not fit: the first is 1, each further one a part of the one before.")
    return fractions
