"""Constructions: ways to prune the one random network toward a target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch import nn

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.constructions.malach import choose_closest_pair, choose_closest_product, pair_width, product_width
from theory.constructions.prune import PathChooser
from theory.constructions.random_pair import Widths
from theory.constructions.signs import choose_signs, sign_step, sign_width
from theory.constructions.subset_sums import choose_subsets, subset_width
from theory.target import Target, TargetLayer

LARGEST_WEIGHT = 1e37
"""The largest weight of a target: random weights reach twice its size, and float32 ends at 3.4e38."""
LEAK = 0.125
"""Slope of the leaky ReLU in "leaky_diamond": a power of two, by which nothing is rounded."""


@dataclass(frozen=True)
class Construction:
    """How paths through the random network stand for the target's weights.

    Attributes:
        name: of the construction.
        source: paper and place.
        choose: how a weight is met by paths.
        width: hidden units per input for a layer, an error of a weight over the scale, halves, and the share of the
            random weights that there are.
        slope: of negative numbers between the two hops: 0 of a ReLU, and 1 where nothing stands there, for which the
            target must be linear.
        signs: whether the random weights have random signs alone.
        convolutions: whether the target may have them.

    """

    name: str
    source: str
    choose: PathChooser = choose_subsets
    width: Callable[[TargetLayer, float, int, float], int] = subset_width
    slope: float = 0.0
    signs: bool = False
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
        if self.slope == 1.0 and any(isinstance(step.module, nn.ReLU | nn.LeakyReLU) for step in target.steps):
            raise SupermaskError(f"{self.name} is for linear targets, and this one has ReLUs; use relu_diamond.")

    def halves(self, layer: TargetLayer, *, both: bool) -> tuple[int, ...]:
        """Return the signs of a layer's inputs that have paths of their own, 0 where one path serves both.

        Args:
            layer: of the target.
            both: serve negative inputs also where there are none, as the theorem does.

        """
        if self.slope == 1.0:
            return (0,)
        return (1, -1) if layer.signed or both else (1,)

    @property
    def leaks(self) -> bool:
        """Whether a leaky ReLU stands between the hops, by which paths serve inputs of both signs."""
        return 0.0 < self.slope < 1.0

    def served(self, halves: Sequence[int]) -> float:
        """Return which part of a weight the paths of one half make.

        Paths for positive inputs leak into negative ones where the ReLU is leaky, and the other way round: sums A and
        -B of the two halves make A + slope B of x > 0 and B + slope A of x < 0, so both are the weight over 1 + slope.
        """
        return 1.0 / (1.0 + self.slope) if len(halves) > 1 else 1.0

    def widths(
        self, layer: TargetLayer, error: float, halves: Sequence[int], width: int | None, density: float
    ) -> Widths:
        """Return the width of a layer's blocks and the law of its weights.

        Args:
            layer: of the target.
            error: that a weight may have.
            halves: signs of the input that are served.
            width: that was asked for; None chooses it.
            density: share of the random weights that there are.

        """
        # not 0: a scale
        largest = max(float(np.abs(layer.kernel).max()), float(np.abs(layer.offset).max()), 1e-300)
        if largest > LARGEST_WEIGHT:
            raise SupermaskError(
                f"A layer of the target has weights of up to {largest:.3g}; random weights are float32 and reach"
                f" {LARGEST_WEIGHT:.0e}."
            )
        scale = 2.0 * largest  # each weight is then at most half of the scale, where Lueker's theorem holds
        width = width or self.width(layer, error / scale, len(halves), density)
        if self.signs:
            scale = sign_step(largest, error, width, density)
        return Widths(width, scale, self.signs)


_ALL = (
    Construction("relu_diamond", "Pensia et al. 2020, theorem 1"),
    Construction("linear_diamond", "Pensia et al. 2020, linear structure", slope=1.0),
    Construction("leaky_diamond", "Burkholz 2022, with two layers for each of the target's", slope=LEAK),
    Construction("sign_diamond", "signs in the place of uniform weights", choose_signs, sign_width, signs=True),
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
