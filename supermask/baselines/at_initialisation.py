"""Pruning at initialisation: scores of an untrained network choose its mask, and what is left is trained."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supermask.baselines.method import Found, Method, Work
from supermask.baselines.sample import Sample
from supermask.baselines.sparse import Sparse
from supermask.masking.budget import Global, Scope
from supermask.masking.pruning import prune


@dataclass(frozen=True)
class AtInitialisation(Method):
    """A method that prunes once, before any training.

    What it adds is its `scores`; those that prune step by step have a `choose` of their own.
    """

    scope: ClassVar[Scope] = Global(floor=0)  # a layer may be emptied: that is what the collapse of a layer is

    @abstractmethod
    def scores(self, network: Sparse, sample: Sample) -> Mapping[str, Tensor]:
        """Return a score for each prunable weight, by parameter name; the largest are kept.

        Args:
            network: at its initialisation; left as it was.
            sample: gives training examples.

        """

    def choose(self, network: Sparse, sample: Sample, density: float) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks of this density and the scores that they were chosen by.

        Args:
            network: at its initialisation; its masks are left alone.
            sample: gives training examples.
            density: fraction of the prunable weights that is kept, in [0, 1].

        """
        scores = self.scores(network, sample)
        shapes = {name: tuple(score.shape) for name, score in scores.items()}
        return prune(scores, self.scope.pools(shapes, density)), scores

    def find(self, work: Work) -> Found:
        """Prune the network at its initialisation, and train it."""
        masks, scores = self.choose(work.sparse(), work.sample, work.density)
        network = work.sparse(masks)
        return Found(network, work.train(network), scores)


@dataclass(frozen=True)
class MagnitudeAtInitialisation(AtInitialisation):
    """Keep the weights that are largest by magnitude before any training, over the whole network."""

    name: ClassVar[str] = "magnitude_init"

    def scores(self, network: Sparse, sample: Sample) -> Mapping[str, Tensor]:
        """Return the magnitudes."""
        return {name: weight.abs() for name, weight in network.weights().items()}
