"""The random baseline: a random mask of the same density over the same frozen weights, nothing trained."""

from typing import ClassVar

from supermask.search.edge_popup import EdgePopup


class RandomMask(EdgePopup):
    """Edge-popup before its first step.

    The first scores are independent of the weights and of each other, so that their largest are a mask drawn at random
    among all with the same budget. The arguments are those of `EdgePopup`.
    """

    name: ClassVar[str] = "random_mask"
