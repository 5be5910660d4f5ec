"""Constructions: ways to prune the one random network toward a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from supermask.errors import SupermaskError
from theory.target import Layer


@dataclass(frozen=True)
class Construction:
    """How paths through the random network stand for the target's weights.

    Attributes:
        name: of the construction.
        relu: whether a ReLU stands between the two hops; without it the target must be linear.
        source: paper and place.

    """

    name: str
    relu: bool
    source: str

    def halves(self, layers: list[Layer]) -> list[tuple[int, ...]]:
        """Return, for each layer, the signs of its inputs that need paths of their own.

        Raises:
            SupermaskError: a linear construction was asked of a target with ReLUs.

        """
        if not self.relu:
            if any(layer.relu for layer in layers):
                raise SupermaskError(f"{self.name} is for linear targets, and this one has ReLUs; use relu_diamond.")
            return [(0,)] * len(layers)
        # what follows a ReLU is never negative, and one half is enough there
        signed = [True, *(not layer.relu for layer in layers[:-1])]
        return [(1, -1) if sign else (1,) for sign in signed]


_PAPER = "Pensia et al. 2020"
CONSTRUCTIONS: Mapping[str, Construction] = MappingProxyType(
    {
        "relu_diamond": Construction("relu_diamond", relu=True, source=f"{_PAPER}, theorem 1"),
        "linear_diamond": Construction("linear_diamond", relu=False, source=f"{_PAPER}, linear structure"),
    }
)


def named_construction(name: str) -> Construction:
    """Return the construction of that name."""
    if name not in CONSTRUCTIONS:
        raise SupermaskError(f"Unknown construction {name!r}; known are {', '.join(CONSTRUCTIONS)}.")
    return CONSTRUCTIONS[name]
