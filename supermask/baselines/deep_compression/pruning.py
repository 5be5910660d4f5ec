"""The first stage of Deep Compression: rounds of pruning and retraining, to the paper's fractions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from supermask.baselines.method import RunContext
from supermask.baselines.rounds import Han
from supermask.baselines.rounds.engine import Again, Tensors, TrainedNetwork
from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.masking.ladder import Ladder
from supermask.ticket import Ticket

Fractions = Mapping[tuple[int, ...], float]
"""Shape of a layer's weight to the fraction that is kept, in the order of the network."""

LENET_300_100: Fractions = MappingProxyType({(300, 784): 0.08, (100, 300): 0.09, (10, 100): 0.26})
"""Han, Mao & Dally 2016, table 2, column "Weights% (P)"."""

LENET5_CAFFE: Fractions = MappingProxyType(
    {(20, 1, 5, 5): 0.66, (50, 20, 5, 5): 0.12, (500, 800): 0.08, (10, 500): 0.19}
)
"""Han, Mao & Dally 2016, table 3, column "Weights% (P)"."""


def density_of(fractions: Fractions) -> float:
    """Return the fraction of all weights that is kept."""
    return sum(fraction * math.prod(shape) for shape, fraction in fractions.items()) / sum(map(math.prod, fractions))


def fractions_of(shapes: Shapes) -> Fractions:
    """Return the published fractions for a network.

    Args:
        shapes: of the prunable weights by name, in the model's order.

    Raises:
        SupermaskError: the network is neither of the two.

    """
    for fractions in (LENET_300_100, LENET5_CAFFE):
        if [tuple(shape) for shape in shapes.values()] == list(fractions):
            return fractions
    raise SupermaskError(
        "deep_compression: layers=published has the paper's tables for lenet_300_100 and lenet5_caffe on images of"
        " 1x28x28 with 10 classes; for another network give layers=deviation or layers=layer."
    )


@dataclass(frozen=True)
class PublishedLadder(Ladder):
    """Rounds in which the layers reach the published fractions together.

    A whole round leaves 1 - `rate` of the weights of a network that is pruned as published; after some rounds a layer
    has a power of its published fraction. The layers of other densities lie on the same path.
    """

    def rates(self, shapes: Shapes) -> dict[str, float]:
        """Return the rate of each layer."""
        fractions = fractions_of(shapes)
        rounds = math.log(density_of(fractions)) / math.log(1.0 - self.rate)
        return {name: 1.0 - fractions[tuple(shape)] ** (1.0 / rounds) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Pruning(Han):
    """The rounds of `Han`, shorter or longer.

    Attributes:
        rate: fraction of the weights left that a round removes.
        slower: the learning rate of retraining over the recipe's.
        threshold: as in `Han`.
        published: whether the layers keep the published fractions, each by magnitude.
        retraining: optimizer steps of each retraining over the recipe's.

    """

    published: bool = False
    retraining: float = 1.0

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        return PublishedLadder(self.rate) if self.published else super().ladder

    def steps(self, context: RunContext) -> int:
        """Return the optimizer steps of each retraining."""
        return round(self.retraining * context.steps)

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from where the weights are, at a smaller learning rate and with less dropout."""
        again = super().again(context, ticket, dense, final)
        assert again.recipe is not None
        return replace(again, recipe=replace(again.recipe, iterations=self.steps(context)))
