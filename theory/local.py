"""How far a pruned network is from its target near given inputs: hidden tensors and ReLU states that are known there.

Around a point, the target's tensors stay within a spread of those at the point, and so do the network's. In the words
of `theory.certificate`, what layer i adds to the difference is

    a_i(x) = (P - W) * x+ + (W - N) * x- + c - b + rounding

of the network's own tensor x. Let D_i be the slopes of the ReLUs behind it, between the two networks' arguments: 0 or 1
where both have one sign over the whole ball, and else between. Then the difference of the outputs is exactly

    sum over i of D_l W_l ... D_(i+1) W_(i+1) D_i a_i.

So it is at most the norm of that sum at the point, with every slope in the middle of what it can be, plus what slopes
(their products are intervals, a middle and a radius) and tensors (by their spread) can change of it. Up to the last
pooling by the largest value, products of norms bound the difference.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from theory.ascent import norms
from theory.constructions.effective import Effective
from theory.domains import Around
from theory.norms import SLACK, Norm, both_halves, operator_norm, row_norms, step_norm, step_rounding
from theory.precision import FLOAT64, Precision
from theory.rounding import layer_rounding
from theory.tails import Tail
from theory.target import FixedStep, Target, TargetLayer

MOST = 2**24
"""Numbers of a matrix from hidden units to outputs, for all points at a time: 128 MiB, in a few arrays."""


@dataclass(frozen=True, eq=False)
class Near:
    """Two networks near some points, and how far both may be from that: a row for each point.

    Attributes:
        target: its tensor at each point.
        network: that of the network's algebra.
        target_spread: (points,), a bound of how far the target's tensor is from it.
        network_spread: the same of the network.
        difference: (points,), a bound of how far the two networks' tensors are apart.

    """

    target: Tensor
    network: Tensor
    target_spread: Tensor
    network_spread: Tensor
    difference: Tensor

    def reach(self, norm: Norm) -> Tensor:
        """Return a bound of the norm of both tensors, (points,)."""
        of_target = norms(self.target, norm) + self.target_spread
        return torch.maximum(of_target, norms(self.network, norm) + self.network_spread) * SLACK

    def measured(self, norm: Norm) -> "Near":
        """Return the same, where the difference is no more than that at the point and both spreads."""
        apart = (norms(self.network - self.target, norm) + self.target_spread + self.network_spread) * SLACK
        return replace(self, difference=torch.fmin(self.difference, apart))

    def signs(self, target_margin: Tensor, network_margin: Tensor) -> Tensor:
        """Return where both are positive (1), both negative (0) and where that is not known (1/2)."""
        low = torch.minimum(self.target - target_margin, self.network - network_margin)
        high = torch.maximum(self.target + target_margin, self.network + network_margin)
        return torch.where(low > 0.0, 1.0, torch.where(high < 0.0, 0.0, 0.5)).double()


@dataclass(frozen=True, eq=False)
class Passage:
    """What one layer adds near some points: in the words above, a_i and what it meets in the steps behind it.

    Attributes:
        layer: of the target.
        added: a_i at the points.
        added_spread: (points,), how far it may be from that.
        slopes: for each step, the middles of a ReLU's slopes, 0, 1/2 or 1; None for other steps.
        rounded: for each step, (points,), what its rounding adds behind it.

    """

    layer: TargetLayer
    added: Tensor
    added_spread: Tensor
    slopes: list[Tensor | None] = field(default_factory=list)
    rounded: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def bound_around(
    target: Target, found: Sequence[Effective], domain: Around, norm: Norm, precision: Precision = FLOAT64
) -> float:
    """Return a bound of the difference over balls around points, the rounding of both networks included.

    Args:
        target: whose layers the network's pairs stand for.
        found: what the pairs compute.
        domain: the balls.
        norm: of inputs and outputs.
        precision: in which both networks are run.

    """
    walk = Walk(target, found, norm, precision)
    chunks = domain.points.split(walk.points_at_a_time())
    return max(float(walk.bounds(points, domain.radius).max()) for points in chunks)


class Walk:
    """Both networks, followed layer by layer near points."""

    def __init__(self, target: Target, found: Sequence[Effective], norm: Norm, precision: Precision) -> None:
        self.target, self.found, self.norm, self.precision = target, found, norm, precision
        self.known = [_Operators(layer, pair, norm) for layer, pair in zip(target.layers, found, strict=True)]

    def points_at_a_time(self) -> int:
        """Return how many points are followed at a time."""
        outputs = math.prod(self.target.layers[-1].output_shape)
        largest = max(max(math.prod(layer.output_shape), layer.inputs * math.prod(layer.size))
                      for layer in self.target.layers)  # fmt: skip
        return max(1, MOST // (outputs * largest))

    def bounds(self, points: Tensor, radius: float) -> Tensor:
        """Return a bound for the ball around each point, (points,)."""
        zero = torch.zeros(len(points), dtype=torch.float64)
        near = Near(points, points, zero + radius, zero + radius, zero)
        for step in self.target.before:  # both networks take the same steps here, and round alike
            near = self._behind(near, step)
            near = replace(near, difference=zero)
        passages: list[Passage] = []
        differences = [zero]
        for known in self.known:
            near, passage = self._through(near, known)
            passages.append(passage)
            differences.append(near.difference)
        first = _first_of_tail(self.target.layers)
        by_slopes = self._by_slopes(passages[first:], differences[first])
        return torch.fmin(near.difference, by_slopes) if first < len(passages) else near.difference

    def _through(self, near: Near, known: "_Operators") -> tuple[Near, Passage]:
        """Return the two networks behind a layer and its steps, and what the layer added."""
        layer, pair, norm = known.layer, known.pair, self.norm
        rounding = layer_rounding(layer, pair, near.reach(norm), norm, self.precision)
        added = known.added(near.network)
        # three times: as both networks round it, as it was computed here, and as the layer's own tensor was
        spread = (known.error * near.network_spread + 3.0 * rounding) * SLACK
        margins = [
            (_rows(rows, layer) * _column(moved, added) + _column(2.0 * rounding, added)) * SLACK
            for rows, moved in ((known.rows, near.target_spread), (known.network_rows, near.network_spread))
        ]
        behind = Near(
            layer.affine(near.target, layer.kernel, layer.offset),
            pair(layer, near.network),
            (known.weight * near.target_spread + 2.0 * rounding) * SLACK,
            (known.network * near.network_spread + 2.0 * rounding) * SLACK,
            (known.weight * near.difference + norms(added, norm) + spread) * SLACK,
        ).measured(norm)
        passage = Passage(layer, added, spread)
        for number, step in enumerate(layer.after):
            if number:  # entries of what is behind a step move by no more than the whole
                margins = [_column(behind.target_spread, behind.target), _column(behind.network_spread, behind.target)]
            passage.slopes.append(behind.signs(*margins) if isinstance(step.module, nn.ReLU) else None)
            passage.rounded.append(self._rounded(behind, step) * step_norm(step, norm) * SLACK)
            behind = self._behind(behind, step)
        return behind, passage

    def _rounded(self, near: Near, step: FixedStep) -> Tensor:
        return 2.0 * step_rounding(step, self.precision) * near.reach(self.norm)

    def _behind(self, near: Near, step: FixedStep) -> Near:
        """Return the two networks behind a step."""
        factor, rounded = step_norm(step, self.norm) * SLACK, self._rounded(near, step)
        target, network = step.module(near.target), step.module(near.network)
        moved = [(size + rounded) * factor for size in (near.target_spread, near.network_spread, near.difference)]
        return Near(target, network, *moved).measured(self.norm)

    def _by_slopes(self, passages: Sequence[Passage], incoming: Tensor) -> Tensor:
        """Return a bound by the sum above over some last layers, for a difference that comes into the first."""
        if not passages:
            return incoming
        tail = Tail.of_outputs(len(incoming), passages[-1].layer, self.norm)
        for number, passage in reversed(list(enumerate(passages))):
            steps = list(zip(passage.layer.after, passage.slopes, passage.rounded, strict=True))
            for step, slopes, rounded in reversed(steps):
                tail.add_norm(rounded)
                tail.through_slopes(slopes) if slopes is not None else tail.through_step(step)
            tail.add(passage.added, passage.added_spread)
            if number or bool(incoming.any()):
                tail.through_layer(passage.layer)
        if bool(incoming.any()):
            tail.add_norm(incoming)
        return tail.bound()


class _Operators:
    """What is the same of a layer for all points: the norms of its operators."""

    def __init__(self, layer: TargetLayer, pair: Effective, norm: Norm) -> None:
        self.layer, self.pair = layer, pair
        positive, negative = pair.missed(layer)
        network = both_halves(pair.positive, pair.negative, norm)
        self.kernel = positive if negative is None else np.concatenate([positive, negative], axis=1)
        self.offset = pair.offset - layer.offset
        self.weight = operator_norm(layer, layer.kernel, norm)
        self.network = operator_norm(layer, network, norm)
        self.error = operator_norm(layer, both_halves(positive, negative, norm), norm)
        self.rows, self.network_rows = (torch.from_numpy(row_norms(each, norm)) for each in (layer.kernel, network))

    def added(self, x: Tensor) -> Tensor:
        """Return what the layer adds to the difference for tensors of the network."""
        if self.pair.negative is not None:
            x = torch.cat([x.relu(), (-x).relu()], dim=1)
        return self.layer.affine(x, self.kernel, self.offset)


def _first_of_tail(layers: Sequence[TargetLayer]) -> int:
    """Return the number of the first layer behind the last pooling by the largest value."""
    return max((number + 1 for number, layer in enumerate(layers) if any(_picks(layer.after))), default=0)


def _picks(steps: Sequence[FixedStep]) -> Iterator[bool]:
    return (isinstance(step.module, nn.MaxPool2d | nn.AdaptiveMaxPool2d) for step in steps)


def _rows(values: Tensor, layer: TargetLayer) -> Tensor:
    """Return a value per channel in a shape that multiplies a batch of the layer's outputs."""
    return values.reshape(1, -1, *[1] * (len(layer.output_shape) - 1))


def _column(values: Tensor, batch: Tensor) -> Tensor:
    """Return a value per point in a shape that multiplies a batch."""
    return values.reshape(-1, *[1] * (batch.dim() - 1))
