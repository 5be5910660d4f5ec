"""The strong tickets among the methods: a search, the search's ticket trained afterwards, and no search at all."""

from dataclasses import dataclass
from typing import ClassVar

from supermask.baselines.method import Found, Method, Work
from supermask.baselines.random_mask import RandomMask
from supermask.search import EdgePopup


@dataclass(frozen=True)
class Searched(Method):
    """Edge-popup (Ramanujan et al. 2020): scores are trained, weights are not."""

    name: ClassVar[str] = EdgePopup.name
    searches: ClassVar[bool] = True

    def find(self, work: Work) -> Found:
        """Search for a mask."""
        search = work.search(EdgePopup)
        return Found(search, work.train(search), search.scores())


@dataclass(frozen=True)
class SearchedThenTrained(Method):
    """Edge-popup, after which the kept weights of its ticket are trained with the same recipe, biases too."""

    name: ClassVar[str] = "edge_popup_trained"
    searches: ClassVar[bool] = True

    def find(self, work: Work) -> Found:
        """Search for a mask, and train what it keeps."""
        search = work.search(EdgePopup)
        untrained = work.train(search, stage=f"search-density{work.density:g}")
        network = work.sparse(ticket=search.ticket())
        details = {"untrained_accuracy": untrained.test.accuracy}
        return Found(network, work.train(network), search.scores(), details)


@dataclass(frozen=True)
class Unsearched(Method):
    """Edge-popup before its first step: a random mask over random weights, nothing trained."""

    name: ClassVar[str] = RandomMask.name
    searches: ClassVar[bool] = True
    trains: ClassVar[bool] = False

    def find(self, work: Work) -> Found:
        """Draw a mask."""
        search = work.search(RandomMask)
        return Found(search, work.train(search), search.scores())
