"""Budgets: how many weights are kept, layer by layer or over the whole network, exact to one weight.

A scope turns a density into pools. A pool is a set of layers that compete for one integer number of kept weights: one
pool per layer for `PerLayer`, `ERK` and `SmartRatio`, one for all layers for `Global`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from supermask.errors import SupermaskError
from supermask.parameters.patterns import matching
from supermask.shown import quoted

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Pool:
    """Layers that share `kept` weights; each of them keeps at least `floor`, or all of them where it has fewer.

    With floor None a layer must not be emptied by the others: the selection is refused when that would happen.
    """

    names: tuple[str, ...]
    kept: int
    floor: int | None = 0


class Scope(ABC):
    """How a density becomes pools."""

    name: ClassVar[str]
    competing: ClassVar[bool] = False
    """Whether layers compete for kept weights, so that how many one of them keeps is an outcome."""

    @abstractmethod
    def pools(self, shapes: Shapes, density: float) -> list[Pool]:
        """Return pools that together hold every layer once.

        Args:
            shapes: of the layers, in the order of the model.
            density: fraction kept, in [0, 1].

        """

    def layer_densities(self, shapes: Shapes, density: float) -> dict[str, float]:
        """Return the density that each layer is expected to have, before rounding to whole weights."""
        return dict.fromkeys(shapes, density)


@dataclass(frozen=True)
class PerLayer(Scope):
    """The same density in each layer (Ramanujan et al. 2020): round(density * n) of its n weights, half to even."""

    name: ClassVar[str] = "layer"

    def pools(self, shapes: Shapes, density: float) -> list[Pool]:
        """Return one pool per layer."""
        return [Pool((name,), round(density * math.prod(shape))) for name, shape in shapes.items()]


@dataclass(frozen=True)
class Global(Scope):
    """The largest scores of the whole network.

    Attributes:
        floor: the least that each layer keeps; None refuses a selection that would empty a layer.

    """

    floor: int | None = None
    name: ClassVar[str] = "global"
    competing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.floor is not None and self.floor < 0:
            raise SupermaskError(f"Global(floor={self.floor}) is negative; give 0, a positive number or None.")

    def pools(self, shapes: Shapes, density: float) -> list[Pool]:
        """Return one pool."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        kept = round(density * sum(sizes))
        needed = sum(min(self.floor or 0, size) for size in sizes)
        if 0 < kept < needed:
            raise SupermaskError(
                f"A global budget of {kept} weights cannot keep {self.floor} in each of {len(sizes)} layers; raise the"
                " density or lower the floor."
            )
        return [Pool(tuple(shapes), kept, self.floor if kept else 0)] if shapes else []


class _Shared(Scope):
    """A scope whose layers have densities of their own, rounded to whole weights.

    The integer counts add up to round(density * total): what rounding leaves goes to the largest fractions, first layer
    first.
    """

    def pools(self, shapes: Shapes, density: float) -> list[Pool]:
        """Return one pool per layer."""
        sizes = _sizes(shapes)
        shares = {name: share * sizes[name] for name, share in self.layer_densities(shapes, density).items()}
        kept = round_to_total(shares, sizes, round(density * sum(sizes.values())))
        return [Pool((name,), count) for name, count in kept.items()]


@dataclass(frozen=True)
class ERK(_Shared):
    """Erdos-Renyi-Kernel: the density of a layer goes with sum(shape) / prod(shape) (Evci et al. 2020, section 3).

    Layers that this would make denser than 1 are kept whole and the others share the rest. The integer counts add up
    to round(density * total).
    """

    name: ClassVar[str] = "erk"

    def layer_densities(self, shapes: Shapes, density: float) -> dict[str, float]:
        """Return the density of each layer before rounding to whole weights."""
        sizes = _sizes(shapes)
        # a scalar has no sizes to add up; it counts as (1,)
        ratios = {name: (sum(shape) or 1) / sizes[name] for name, shape in shapes.items() if sizes[name]}
        return _proportional(ratios, sizes, density * sum(sizes.values()))


@dataclass(frozen=True)
class SmartRatio(_Shared):
    """Smart ratios: the density of layer l of L goes with (L - l + 1)^2 + (L - l + 1) (Su et al. 2020, section 5).

    The last layer has density 0.3. Layers that would be denser than 1 are kept whole and the others share the rest; if
    all before the last are whole, the last takes what is over. Where 0.3 of the last layer is more than the whole
    budget, that layer follows the formula too. The integer counts add up to round(density * total).

    The authors' code differs: it divides by l^2 in VGG networks, gives 0.3 to every linear layer, and hands what a
    whole layer cannot take to the next one alone.
    """

    name: ClassVar[str] = "smart_ratio"

    def layer_densities(self, shapes: Shapes, density: float) -> dict[str, float]:
        """Return the density of each layer before rounding to whole weights."""
        sizes = _sizes(shapes)
        ratios = {name: float(n**2 + n) for name, n in zip(shapes, range(len(shapes), 0, -1), strict=True)}
        room = density * sum(sizes.values())
        last = next(reversed(sizes), None)
        if last is None or not sizes[last] or 0.3 * sizes[last] > room:
            return _proportional(ratios, sizes, room)
        before = {name: size for name, size in sizes.items() if name != last}
        own = max(0.3 * sizes[last], room - sum(before.values()))
        return {**_proportional(ratios, before, room - own), last: own / sizes[last]}


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def _proportional(ratios: Mapping[str, float], sizes: Mapping[str, int], room: float) -> dict[str, float]:
    """Return densities in proportion to the ratios that fill the room; what would be above 1 is 1."""
    whole = {name for name, size in sizes.items() if not size}
    while True:
        free = [name for name in sizes if name not in whole]
        left = room - sum(sizes[name] for name in whole)
        factor = left / sum(ratios[name] * sizes[name] for name in free) if free else 0.0
        full = {name for name in free if factor * ratios[name] > 1.0}
        if not full:
            return {name: 1.0 if name in whole else factor * ratios[name] for name in sizes}
        whole |= full


def round_to_total(shares: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Return integers near the shares, none above its size, that add up to the total (largest remainders)."""
    kept = {name: min(math.floor(share), sizes[name]) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: kept[name] - shares[name])
    missing = total - sum(kept.values())
    while missing > 0:
        for name in [name for name in by_remainder if kept[name] < sizes[name]][:missing]:
            kept[name] += 1
            missing -= 1
    return kept


SCOPES: dict[str, type[Scope]] = {kind.name: kind for kind in (PerLayer, Global, ERK, SmartRatio)}


def named_scope(scope: str | Scope) -> Scope:
    """Return the scope of that name with its defaults; a scope is returned as it is."""
    if isinstance(scope, Scope):
        return scope
    if scope not in SCOPES:
        raise SupermaskError(f"Unknown scope {quoted(scope)}; known are {', '.join(SCOPES)}.")
    return SCOPES[scope]()


@dataclass(frozen=True)
class Budget:
    """A scope, with layers that have a density of their own.

    Attributes:
        scope: of all layers without a density of their own; the density given is the fraction of their weights.
        own: parameter name or pattern to density; the first that matches counts.

    """

    scope: Scope
    own: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pattern, density in self.own.items():
            checked_density(density, f"own_density[{pattern!r}]")

    def thinned(self, fraction: float) -> "Budget":
        """Return the budget of a part of the density, for the layers with one of their own too."""
        return Budget(self.scope, {pattern: density * fraction for pattern, density in self.own.items()})

    def pools(self, shapes: Shapes, density: float) -> list[Pool]:
        """Return the pools of all layers at this density."""
        own = self._resolve(shapes)
        shared = {name: shape for name, shape in shapes.items() if name not in own}
        alone = [PerLayer().pools({name: shapes[name]}, own[name])[0] for name in own]
        return self.scope.pools(shared, density) + alone

    def emptied(self, shapes: Shapes, density: float) -> list[str]:
        """Return the layers that keep no weight because their part of the density is less than half of one."""
        sizes, own = _sizes(shapes), self._resolve(shapes)
        alone = [pool for pool in self.pools(shapes, density) if len(pool.names) == 1 and not pool.kept]
        return [name for pool in alone for name in pool.names if sizes[name] and own.get(name, density) > 0.0]

    def fractions(self, shapes: Shapes, density: float) -> dict[str, float]:
        """Return the fraction of its weights that each layer keeps; where layers compete, that of all of them.

        It is that of the whole weights kept, not the density that they were rounded from.
        """
        sizes = _sizes(shapes)
        return {
            name: pool.kept / max(1, sum(sizes[other] for other in pool.names))
            for pool in self.pools(shapes, density)
            for name in pool.names
        }

    def _resolve(self, shapes: Shapes) -> dict[str, float]:
        own: dict[str, float] = {}
        for pattern, density in self.own.items():
            for name in matching([pattern], shapes, "own_density"):
                own.setdefault(name, density)
        return own


def checked_density(density: float, where: str = "density") -> float:
    """Return the density if it is in [0, 1]."""
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0.0 <= density <= 1.0:
        raise SupermaskError(f"{where}={density!r} is out of range; the fraction of weights kept is from 0 to 1.")
    return float(density)
