"""Constructions: ways to prune the one random network toward a target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.constructions.malach import choose_closest_pair, choose_closest_product, pair_width, product_width
from theory.constructions.prune import PathChooser
from theory.constructions.subset_sums import choose_subsets, subset_width
from theory.target import Target, TargetLayer


@dataclass(frozen=True)
class Construction:
    """How paths through the random network stand for the target's weights.

    Attributes:
        name: of the construction.
        source: paper and place.
        choose: how a weight is met by paths.
        width: hidden units per input for a layer, an error of a weight over the scale, and halves.
        relu: whether a ReLU stands between the two hops; without it the target must be linear.
        convolutions: whether the target may have them.

    """

    name: str
    source: str
    choose: PathChooser = choose_subsets
    width: Callable[[TargetLayer, float, int], int] = subset_width
    relu: bool = True
    convolutions: bool = False

    def check(self, target: Target) -> None:
        """Refuse a target that the construction is not for.

        Raises:
            SupermaskError: it has ReLUs, or convolutions.

        """
        # a convolution over single pixels is what scales the units of a vector
        if not self.convolutions and any(layer.places > 1 or layer.taps > 1 for layer in target.layers):
            raise SupermaskError(
                f"{self.name} is for fully connected targets, and this one has convolutions; use convolution."
            )
        if not self.relu and any(isinstance(step.module, nn.ReLU | nn.LeakyReLU) for step in target.steps):
            raise SupermaskError(f"{self.name} is for linear targets, and this one has ReLUs; use relu_diamond.")

    def halves(self, layer: TargetLayer, *, both: bool) -> tuple[int, ...]:
        """Return the signs of a layer's inputs that have paths of their own, 0 where one path serves both.

        Args:
            layer: of the target.
            both: serve negative inputs also where there are none, as the theorem does.

        """
        if not self.relu:
            return (0,)
        return (1, -1) if layer.signed or both else (1,)


_ALL = (
    Construction("relu_diamond", "Pensia et al. 2020, theorem 1"),
    Construction("linear_diamond", "Pensia et al. 2020, linear structure", relu=False),
    Construction("convolution", "da Cunha et al. 2022, main theorem", convolutions=True),
    Construction("malach", "Malach et al. 2020, theorem 2.1", choose_closest_pair, pair_width),
    Construction(
        "malach_products", "Malach et al. 2020, with products for pairs", choose_closest_product, product_width
    ),
)
CONSTRUCTIONS: Mapping[str, Construction] = MappingProxyType({construction.name: construction for construction in _ALL})
"""Every construction by name: a new one is a line here."""
assert len(CONSTRUCTIONS) == len(_ALL), "two constructions have one name"


def named_construction(name: str) -> Construction:
    """Return the construction of that name.

    Raises:
        SupermaskError: there is none.

    """
    if name not in CONSTRUCTIONS:
        raise SupermaskError(f"Unknown construction {quoted(name)}; known are {', '.join(CONSTRUCTIONS)}.")
    return CONSTRUCTIONS[name]
