"""The searches for strong tickets as methods of the comparison: scores are trained, weights are not.

Each is a search of `supermask.search` with those of its options that are not shared by all; those of the network and
the budget come from the run.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from supermask.baselines.method import Found, Method, Work
from supermask.baselines.random_mask import RandomMask
from supermask.masking.granularity import Blocks, Channels, NofM, Structure
from supermask.search import (
    Biprop,
    EdgePopup,
    GemMiner,
    IteRand,
    LearnedSupermask,
    MulticoatedSupermask,
    PartiallyFrozen,
    Search,
    SignedSupermask,
    StructuredPopup,
)
from supermask.training import Recipe


@dataclass(frozen=True)
class SearchMethod(Method):
    """A search whose network is measured as it is found."""

    @property
    @abstractmethod
    def kind(self) -> type[Search]:
        """The search."""

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options, for a recipe of so many optimizer steps."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return how the scores are trained, given how the run trains."""
        return recipe

    def find(self, work: Work) -> Found:
        """Search for a mask."""
        search = work.search(self.kind, self.own(work.steps))
        return Found(search, work.train(search, recipe=self.recipe(work.recipe)), search.ranking())


@dataclass(frozen=True)
class Searched(SearchMethod):
    """Edge-popup (Ramanujan et al. 2020): scores are trained, weights are not."""

    name: ClassVar[str] = EdgePopup.name
    kind = EdgePopup


@dataclass(frozen=True)
class SearchDetails:
    """What a search adds to the result of the training that follows it: its own test accuracy, a fraction."""

    untrained_accuracy: float


@dataclass(frozen=True)
class SearchedThenTrained(SearchMethod):
    """Edge-popup, after which the kept weights of its ticket are trained with the same recipe, biases too."""

    name: ClassVar[str] = "edge_popup_trained"
    details_kind: ClassVar[type] = SearchDetails
    kind = EdgePopup

    def find(self, work: Work) -> Found:
        """Search for a mask, and train what it keeps."""
        search = work.search(EdgePopup)
        untrained = work.train(search, stage=f"search-density{work.density:g}")
        network = work.sparse(ticket=search.ticket())
        details = SearchDetails(untrained.test.accuracy)
        return Found(network, work.train(network), search.ranking(), details)


@dataclass(frozen=True)
class Unsearched(SearchMethod):
    """Edge-popup before its first step: a random mask over random weights, nothing trained."""

    name: ClassVar[str] = RandomMask.name
    trains: ClassVar[bool] = False
    kind = RandomMask


@dataclass(frozen=True)
class Learned(SearchMethod):
    """The learned supermask (Zhou et al. 2019, section 5): the chance of each weight to be kept is trained.

    Attributes:
        logit: that all scores start from; sigmoid(logit) is the chance of a weight to be kept.
        rescaled: multiply the weights of a layer by n / (number kept) in every step.
        evaluated: measure a sample, as published ("sampled"), or keep what has a chance above one half ("rounded").
        learning_rate: of the scores, without weight decay, in place of the recipe's (100 in the authors' notes).

    """

    name: ClassVar[str] = LearnedSupermask.name
    by_density: ClassVar[bool] = False
    kind = LearnedSupermask
    logit: float = 0.0
    rescaled: bool = True
    evaluated: Literal["sampled", "rounded"] = "sampled"
    learning_rate: float = 100.0

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options."""
        return {"logit": self.logit, "rescaled": self.rescaled, "evaluated": self.evaluated}

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the rate of its own."""
        return replace(recipe, learning_rate=self.learning_rate, weight_decay=0.0)


@dataclass(frozen=True)
class GemMined(SearchMethod):
    """Gem-Miner (Sreenivasan et al. 2022): scores are rounded and penalised, the lowest frozen out by periods.

    Attributes:
        freeze_every: optimizer steps of a period; 0 is a thirtieth of all.
        penalty: L2 penalty on the scores, in place of the recipe's weight decay.

    """

    name: ClassVar[str] = GemMiner.name
    kind = GemMiner
    freeze_every: int = 0
    penalty: float = 1e-4

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options."""
        return {**super().own(steps), "steps": max(1, steps)}

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe without weight decay, of which the penalty takes the place."""
        return replace(recipe, weight_decay=0.0)


@dataclass(frozen=True)
class IteRanded(SearchMethod):
    """IteRand (Chijiwa et al. 2021): edge-popup by signed scores, with pruned weights drawn anew again and again.

    Attributes:
        every: optimizer steps between redraws.
        rate: chance of each pruned weight to be redrawn.

    """

    name: ClassVar[str] = IteRand.name
    kind = IteRand
    every: int = 300
    rate: float = 0.1

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options; its scores are signed, as in the authors' code."""
        return {**super().own(steps), "score": "signed"}


@dataclass(frozen=True)
class Binarised(SearchMethod):
    """Biprop (Diffenderfer & Kailkhura 2021): edge-popup over the signs of weights, with a scale for each layer.

    Attributes:
        weights: distribution of the real weights, in place of the run's.

    """

    name: ClassVar[str] = Biprop.name
    kind = Biprop
    weights: str = "kaiming_normal"


@dataclass(frozen=True)
class Signed(SearchMethod):
    """Signed supermasks (Koster et al. 2022): weights are kept, kept with their sign flipped, or pruned.

    Attributes:
        threshold: keep what has a score of larger magnitude, as published, and not the density that is asked for; 0
            keeps exactly the density.

    """

    name: ClassVar[str] = SignedSupermask.name
    kind = SignedSupermask
    threshold: float = 0.0

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options."""
        return {"density": None, "threshold": self.threshold} if self.threshold else {}


@dataclass(frozen=True)
class Multicoated(SearchMethod):
    """Multicoated supermasks (Okoshi et al. 2022): nested masks of one set of scores, added up.

    Attributes:
        coats: their number.

    """

    name: ClassVar[str] = MulticoatedSupermask.name
    kind = MulticoatedSupermask
    coats: int = 3


@dataclass(frozen=True)
class Frozen(SearchMethod):
    """Partially frozen networks (Otsuka et al. 2025): edge-popup where the seed fixes a part of the mask.

    Attributes:
        frozen: fraction of each layer that is fixed.
        locked: share of that part which is kept; None is the density.

    """

    name: ClassVar[str] = PartiallyFrozen.name
    kind = PartiallyFrozen
    frozen: float = 0.5
    locked: float | None = None


@dataclass(frozen=True)
class Structured(SearchMethod):
    """Edge-popup that keeps whole channels, blocks, or n of every m weights of a random network.

    Attributes:
        structure: what is kept together.
        side: of channels: those that a layer reads ("in") or makes ("out").
        rows: of a block, in output units.
        columns: of a block, in weights of a unit.
        n: weights kept of every m; the density is then n / m whatever is asked for.
        m: weights of which n are kept.

    """

    name: ClassVar[str] = StructuredPopup.name
    kind = StructuredPopup
    structure: Literal["channels", "blocks", "n_of_m"] = "blocks"
    side: Literal["in", "out"] = "in"
    rows: int = 4
    columns: int = 4
    n: int = 2
    m: int = 4

    def own(self, steps: int) -> dict[str, Any]:
        """Return the search's own options."""
        return {"structure": self._structure(), **({"density": None} if self.structure == "n_of_m" else {})}

    def _structure(self) -> Structure:
        kinds: Mapping[str, Structure] = {
            "channels": Channels(self.side),
            "blocks": Blocks(self.rows, self.columns),
            "n_of_m": NofM(self.n, self.m),
        }
        return kinds[self.structure]
