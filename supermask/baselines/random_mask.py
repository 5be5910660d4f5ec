"""The random baseline: a random mask of the same density over the same frozen weights, nothing trained."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from supermask.search.edge_popup import SCORES, EdgePopup, RankedRule


@final
@dataclass(frozen=True, kw_only=True)
class RandomMaskRule(RankedRule):
    """Edge-popup before its first step: a random mask over random weights, nothing trained.

    The first scores are independent of the weights and of each other, so that their largest are a mask drawn at random
    among all with the same budget.
    """

    name: ClassVar[str] = "random_mask"
    trains: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """Return what None stands for, by option: the scores are drawn whatever the weights are."""
        return {**super().defaults(), "scores": SCORES}


class RandomMask(EdgePopup, rule=RandomMaskRule):
    """Edge-popup before its first step; the arguments are those of `EdgePopup`."""
