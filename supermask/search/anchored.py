"""Edge-popup near the mask that the seed gives: a price on each entry that differs from it.

A ticket's file codes masks given the first scores, which grow from the seed (`supermask.ticket.coding`): what does not
differ from the first mask is nearly free. So this searches by the length of the file as `Coded` does, but by the words
of the code of masks and not by bits that draw them. Minimum description length of Hinton & van Camp 1993, section 2,
with the first mask in place of a prior of weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.search.edge_popup import RankedRule
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class AnchoredRule(RankedRule):
    """Edge-popup whose mask stays near the first one, so that its file is short.

    The loss has a price on each entry of the mask that differs from the mask of the first scores. Straight through, it
    pushes the magnitude of a score up where the weight was kept at first, and down where it was pruned. The density
    stays as it is. With 1.3 times the weights, files of LeNet-300-100 are a tenth shorter at the same accuracy
    (experiments/results/frontier.md); it was compared on no other network.

    Attributes:
        price: of an entry that differs, in nats of the mean loss. A file's bit costs log(2) / n where n examples are
            coded with it, 1.3e-5 at 55,000, and an entry that differs takes a few bits.

    Raises:
        SupermaskError: as `EdgePopup`, or the price is not a number of at least 0.

    """

    name: ClassVar[str] = "anchored"
    price: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.price < float("inf"):
            raise SupermaskError(f"price={self.price} is out of range; give a number of at least 0.")

    def carried(self, state: SearchState) -> "_Anchor":
        """Return the first mask, which is selected by now."""
        return _Anchor({name: mask.clone() for name, mask in state.masks.items()})

    @torch.no_grad()
    def before_step(self, state: SearchState, scores: Mapping[str, nn.Parameter]) -> None:
        """Add the slope of the price to the gradients of the scores."""
        anchor = cast(_Anchor, state.progress.carried)
        for name, score in scores.items():
            slope = torch.where(anchor.of(name, score.device), -self.price, self.price).to(score.dtype)
            slope = slope if self.signed else slope * score.sign()
            score.grad = slope if score.grad is None else score.grad.add_(slope)


@dataclass
class _Anchor:
    """The first masks by name; they come from the seed, so that no state holds them."""

    masks: dict[str, Tensor]

    def of(self, name: str, device: torch.device) -> Tensor:
        """Return a mask on a device."""
        if self.masks[name].device != device:
            self.masks[name] = self.masks[name].to(device)
        return self.masks[name]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what comes from the seed does not change."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up nothing."""


class Anchored(Search, rule=AnchoredRule):
    """Edge-popup whose mask stays near the first one: a search by `AnchoredRule`."""
