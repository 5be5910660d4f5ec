"""A strong ticket that is trained after all: edge-popup chooses the mask, then the kept weights learn."""

from dataclasses import dataclass
from typing import ClassVar

from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.search.edge_popup import EdgePopupRule


@dataclass(frozen=True)
class SearchDetails:
    """What a search adds to the result of the training that follows it: its own test accuracy, a fraction."""

    untrained_accuracy: float


@dataclass(frozen=True)
class SearchedThenTrained(Method):
    """Edge-popup, after which the kept weights of its ticket are trained with the same recipe, biases too.

    What the recipe leaves open is of the search's own setting in the search, and the default in the training.
    """

    name: ClassVar[str] = "edge_popup_trained"
    details_kind: ClassVar[type] = SearchDetails

    @property
    def rule(self) -> EdgePopupRule:
        """The rule of the search."""
        return EdgePopupRule()

    def run(self, context: RunContext) -> MethodResult:
        """Search for a mask, and train what it keeps."""
        search = context.search(self.rule)
        recipe = context.search_recipe or context.recipe
        untrained = context.train(search, stage=f"search-density{context.density:g}", recipe=recipe)
        network = context.sparse(ticket=search.ticket())
        details = SearchDetails(untrained.test.accuracy)
        return MethodResult(network, context.train(network), search.ranking(), details)
