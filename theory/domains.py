"""Where the inputs are: the sets over which a certificate holds.

A search over a domain moves in coordinates of its own, which `place` turns into inputs: the unit ball, or the cube from
-1 to 1 of a box.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.errors import SupermaskError
from theory.norms import SLACK, Norm, grown, scaled

Shape: TypeAlias = tuple[int, ...]
Bound: TypeAlias = float | Sequence[float] | NDArray[np.floating] | Tensor


class Domain(ABC):
    """A set of inputs."""

    @property
    @abstractmethod
    def signed(self) -> bool:
        """Whether some input has a negative entry."""

    @property
    def shape(self) -> Shape | None:
        """Shape of one input, where the domain tells it."""
        return None

    @abstractmethod
    def size(self, shape: Shape, norm: Norm) -> float:
        """Return a bound of the norm of its inputs, which have this shape.

        Raises:
            SupermaskError: the domain is one of inputs of another shape.

        """

    @abstractmethod
    def place(self, x: Tensor) -> Tensor:
        """Return the inputs at coordinates (batch, *shape), float64."""

    @abstractmethod
    def project(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the nearest coordinates (batch, *shape) of inputs that are in the domain."""

    @abstractmethod
    def holds(self, x: Tensor, norm: Norm) -> Tensor:
        """Return which inputs (batch, *shape), float64, are in the domain but for its rounding, bool (batch,)."""

    def ascends_by(self, norm: Norm) -> Norm:
        """Return the norm in which a search takes its steps."""
        return norm


@final
@dataclass(frozen=True)
class Ball(Domain):
    """All inputs whose norm is at most the radius."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        _check_radius(self.radius)

    @property
    def signed(self) -> bool:
        """True."""
        return True

    def size(self, shape: Shape, norm: Norm) -> float:
        """Return the radius."""
        return self.radius

    def place(self, x: Tensor) -> Tensor:
        """Return points of the unit ball, scaled."""
        return x * self.radius

    def project(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the points of the unit ball next to some."""
        return _to_unit_ball(x, norm)

    def holds(self, x: Tensor, norm: Norm) -> Tensor:
        """Return which norms are at most the radius."""
        return _in_unit_ball(x / self.radius, norm)

    def __str__(self) -> str:
        return f"the ball of radius {self.radius:g}"


@final
@dataclass(frozen=True)
class Nonnegative(Domain):
    """All inputs without negative entries whose norm is at most the radius: pixels from 0 on."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        _check_radius(self.radius)

    @property
    def signed(self) -> bool:
        """False."""
        return False

    def size(self, shape: Shape, norm: Norm) -> float:
        """Return the radius."""
        return self.radius

    def place(self, x: Tensor) -> Tensor:
        """Return points of the unit ball, scaled."""
        return x * self.radius

    def project(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the points of the unit ball's nonnegative part next to some."""
        return _to_unit_ball(x.clamp(min=0.0), norm)

    def holds(self, x: Tensor, norm: Norm) -> Tensor:
        """Return which have no negative entry and a norm of at most the radius."""
        return _in_unit_ball(x / self.radius, norm) & (x.flatten(1) >= 0.0).all(dim=1)

    def __str__(self) -> str:
        return f"the nonnegative part of the ball of radius {self.radius:g}"


@final
@dataclass(frozen=True, eq=False)
class Box(Domain):
    """All inputs between two bounds, which are numbers for all entries or have the shape of one input.

    Args:
        low: of each entry.
        high: of each entry, at least `low`.

    """

    low: Bound
    high: Bound
    _low: Tensor = field(init=False, repr=False)
    _high: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        low, high = _tensor("low", self.low), _tensor("high", self.high)
        try:
            low, high = torch.broadcast_tensors(low, high)
        except RuntimeError:
            raise SupermaskError(
                f"The box has a low of shape {tuple(low.shape)} and a high of shape {tuple(high.shape)}; give one."
            ) from None
        if not bool((low <= high).all()):
            raise SupermaskError("The box has a low above its high; give bounds with low <= high.")
        object.__setattr__(self, "_low", low)
        object.__setattr__(self, "_high", high)

    @property
    def signed(self) -> bool:
        """Whether a lower bound is negative."""
        return bool((self._low < 0.0).any())

    @property
    def shape(self) -> Shape | None:
        """That of the bounds, where they are not numbers."""
        return tuple(self._low.shape) or None

    def size(self, shape: Shape, norm: Norm) -> float:
        """Return the norm of the farthest corner."""
        if self.shape not in (None, shape):
            raise SupermaskError(f"The box has bounds of shape {self.shape}, and the target takes inputs of {shape}.")
        farthest = torch.maximum(self._low.abs(), self._high.abs()).expand(shape).numpy()
        if norm == "linf":
            return float(farthest.max())
        exponent, near = scaled(farthest)
        return grown(float(np.linalg.norm(near)), exponent) * SLACK

    def place(self, x: Tensor) -> Tensor:
        """Return the inputs at points of the cube."""
        middle, half = self._low / 2 + self._high / 2, self._high / 2 - self._low / 2
        return torch.minimum(torch.maximum(middle + half * x, self._low), self._high)  # rounding leaves the box

    def project(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the points of the cube next to some."""
        return x.clamp(-1.0, 1.0)

    def holds(self, x: Tensor, norm: Norm) -> Tensor:
        """Return which have no entry outside of the bounds."""
        return ((x >= self._low) & (x <= self._high)).flatten(1).all(dim=1)

    def ascends_by(self, norm: Norm) -> Norm:
        """Return "linf": a box is a cube in its own coordinates."""
        return "linf"

    def __str__(self) -> str:
        low, high = float(self._low.min()), float(self._high.max())
        return f"a box between {low:g} and {high:g}"


@final
@dataclass(frozen=True, eq=False)
class Around(Domain):
    """All inputs whose distance from some of the points is at most the radius, in the norm.

    Args:
        points: (points, *shape of one input), as the target takes them; they are kept in float64.
        radius: at least 0; at 0 the domain is the points themselves.

    """

    points: Tensor
    radius: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.radius < math.inf:
            raise SupermaskError(f"radius={self.radius} must be a number of at least 0.")
        points = _tensor("points", self.points)
        if points.dim() < 2 or not points.numel():
            raise SupermaskError(f"The points have the shape {tuple(points.shape)}; give (points, *shape of an input).")
        object.__setattr__(self, "points", points)

    @property
    def signed(self) -> bool:
        """Whether a point is nearer to a negative entry than the radius."""
        return bool((self.points < self.radius).any())

    @property
    def shape(self) -> Shape | None:
        """That of a point."""
        return tuple(self.points.shape[1:])

    def size(self, shape: Shape, norm: Norm) -> float:
        """Return the largest norm of a point, and the radius."""
        if self.shape != shape:
            raise SupermaskError(f"The points have the shape {self.shape}, and the target takes inputs of {shape}.")
        rows = self.points.flatten(1).numpy()
        if norm == "linf":
            return (float(np.abs(rows).max()) + self.radius) * SLACK
        exponent, near = scaled(rows)
        return (grown(float(np.linalg.norm(near, axis=1).max()), exponent) + self.radius) * SLACK

    def place(self, x: Tensor) -> Tensor:
        """Return the inputs at points of unit balls, each row about a point of its own, in turn."""
        rows = torch.arange(len(x)) % len(self.points)
        return self.points[rows] + self.radius * x

    def project(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the points of the unit ball next to some."""
        return _to_unit_ball(x, norm)

    def holds(self, x: Tensor, norm: Norm) -> Tensor:
        """Return which are near some point."""
        # a sum with a point rounds by the size of the point
        radius = max(self.radius, 2.0**-50 * float(self.points.abs().max()), 1e-300)
        near = [_in_unit_ball((x - point) / radius, norm) for point in self.points]
        return torch.stack(near).any(dim=0)

    def __str__(self) -> str:
        return f"balls of radius {self.radius:g} around {len(self.points):,} points"


def _check_radius(radius: float) -> None:
    if not 0.0 < radius < math.inf:
        raise SupermaskError(f"radius={radius} must be a positive number.")


def _tensor(name: str, values: Bound) -> Tensor:
    found = torch.as_tensor(values).detach().cpu().double()
    if not bool(found.isfinite().all()):
        raise SupermaskError(f"The domain's {name} hold NaN or infinity.")
    return found


def _to_unit_ball(x: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return x.clamp(-1.0, 1.0)
    sizes = x.flatten(1).norm(dim=1).clamp(min=1.0)
    return x / sizes.reshape(-1, *[1] * (x.dim() - 1))


def _in_unit_ball(x: Tensor, norm: Norm) -> Tensor:
    rows = x.flatten(1)
    sizes = rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)
    return sizes <= 1.0 + 2.0**-40
