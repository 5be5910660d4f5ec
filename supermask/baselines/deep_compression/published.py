"""The fraction of its weights that each layer keeps in the paper's tables, for the two networks on MNIST."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.masking.ladder import Ladder

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
    """Rounds by which the layers come to the published fractions together.

    After some rounds, of which a whole one leaves 1 - `rate` of the weights of a network that is pruned as published, a
    layer has a power of its published fraction. Other densities than the published lie on the same way.
    """

    def rates(self, shapes: Shapes) -> dict[str, float]:
        """Return the rate of each layer."""
        fractions = fractions_of(shapes)
        rounds = math.log(density_of(fractions)) / math.log(1.0 - self.rate)
        return {name: 1.0 - fractions[tuple(shape)] ** (1.0 / rounds) for name, shape in shapes.items()}
