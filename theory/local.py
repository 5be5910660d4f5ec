"""How far a pruned network is from its target near given inputs: hidden tensors and ReLU states that are known there.

Around a point, the target's tensors stay within a spread of those at the point, and so do the network's. In the words
of `theory.certificate`, what layer i adds to the difference is

    a_i(x) = (P - W) * x+ + (W - N) * x- + c - b + rounding

of the network's own tensor x. Let D_i be the slopes of the ReLUs behind it, between the two networks' arguments: 0 or 1
where both have one sign over the whole ball, and else between. Then the difference of the outputs is exactly

    sum over i of D_l W_l ... D_(i+1) W_(i+1) D_i a_i.

So it is at most the norm of that sum at the point, with every slope in the middle of what it can be, plus what slopes
(their products are intervals, a middle and a radius) and tensors (by their spread) can change of it. In a graph, what
stands before D_i is the sum over all ways from there to the output. Up to a pooling by the largest value, products of
norms bound the difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from supermask.models.wired import Add, Concatenate
from theory.ascent import norms
from theory.constructions.effective import Effective, both_signs
from theory.domains import Around
from theory.norms import (
    SLACK,
    Norm,
    both_halves,
    joined,
    operator_norm,
    row_norms,
    schur_norm,
    step_norm,
    step_rounding,
)
from theory.precision import FLOAT64, Precision
from theory.rounding import algebra_rounding, rounding_of_sums
from theory.tails import Tail, Total
from theory.target import FixedStep, Node, Target, TargetLayer

WORTH = 1.1
"""How much unknown slopes must add to a bound for their products to be followed as intervals too, at twice the cost."""
SENSIBLE = 100.0
"""How much more a bound by intervals may be than what the middles of the slopes give, for a plan to follow it."""
RECTIFIERS = (nn.ReLU, nn.LeakyReLU)
MOST = 2**22
"""Numbers of a matrix from hidden units to outputs, for all points at a time: 32 MiB, in some dozens of arrays.

With 2^24, a process that certified a ResNet-20 around 1,000 images took 14 GB.
"""


@dataclass(frozen=True, eq=False)
class Near:
    """Two networks near some points, and how far both may be from that: a row for each point.

    Attributes:
        target: its tensor at each point.
        network: that of the network's algebra.
        target_spread: (points,), a bound of how far the target's tensor is from it.
        network_spread: the same of the network.
        difference: (points,), a bound of how far the two networks' tensors are apart.
        target_margin: bounds of how far each entry of the target's tensor is from it, to be broadcast.
        network_margin: the same of the network.

    """

    target: Tensor
    network: Tensor
    target_spread: Tensor
    network_spread: Tensor
    difference: Tensor
    target_margin: Tensor
    network_margin: Tensor

    def reach(self, norm: Norm) -> Tensor:
        """Return a bound of the norm of both tensors, (points,)."""
        of_target = norms(self.target, norm) + self.target_spread
        return torch.maximum(of_target, norms(self.network, norm) + self.network_spread) * SLACK

    def measured(self, norm: Norm) -> "Near":
        """Return the same, where the difference is no more than that at the point and both spreads."""
        apart = (norms(self.network - self.target, norm) + self.target_spread + self.network_spread) * SLACK
        return replace(self, difference=torch.fmin(self.difference, apart))

    def apart(self) -> Tensor:
        """Return bounds of how far entries of the two networks' tensors are apart."""
        of_entries = (self.network - self.target).abs() + self.target_margin + self.network_margin
        return torch.fmin(of_entries, _column(self.difference, self.target)) * SLACK

    def signs(self) -> Tensor:
        """Return where both are positive (1), both negative (0) and where that is not known (1/2)."""
        low = torch.minimum(self.target - self.target_margin, self.network - self.network_margin)
        high = torch.maximum(self.target + self.target_margin, self.network + self.network_margin)
        return torch.where(low > 0.0, 1.0, torch.where(high < 0.0, 0.0, 0.5)).double()


@dataclass(frozen=True, eq=False)
class Passage:
    """What one node does near some points: in the words above, the a_i of a layer, or the slopes of a ReLU.

    Attributes:
        added: a_i at the points, of a layer.
        spread: (points,), how far it may be from that; of a step, what its rounding adds behind it.
        slopes: of a ReLU, where its inputs are positive, negative, or of unknown sign: 1, 0, 1/2.

    """

    spread: Tensor
    added: Tensor | None = None
    slopes: Tensor | None = None


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
    """Both networks, followed node by node near points."""

    def __init__(self, target: Target, found: Sequence[Effective], norm: Norm, precision: Precision) -> None:
        self.target, self.norm, self.precision = target, norm, precision
        self.known = [_Operators(layer, pair, norm) for layer, pair in zip(target.layers, found, strict=True)]
        places = (n for n, node in enumerate(target.nodes, start=1) if isinstance(node.operation, TargetLayer))
        self.factors = {number: known.weight for number, known in zip(places, self.known, strict=True)}

    def points_at_a_time(self) -> int:
        """Return how many points are followed at a time."""
        outputs = math.prod(self.target.output_shape)
        largest = max(max(map(math.prod, (layer.output_shape, layer.input_shape))) for layer in self.target.layers)
        return max(1, MOST // (outputs * largest))

    def bounds(self, points: Tensor, radius: float) -> Tensor:
        """Return a bound for the ball around each point, (points,)."""
        nears, passages = self._forward(points, radius)
        total, _ = self._backward(nears, passages, intervals=False)
        bounds = torch.fmin(nears[-1].difference, total.bound())
        if bool((bounds > WORTH * total.known()).any()):
            total, _ = self._backward(nears, passages, intervals=True)
            bounds = torch.fmin(bounds, total.bound())
        return bounds

    def _forward(self, points: Tensor, radius: float) -> tuple[list[Near], list[Passage]]:
        """Return the two networks near points, at the input and behind each node, and what each node does."""
        zero = torch.zeros(len(points), dtype=torch.float64)
        spread, known = zero + radius, iter(self.known)
        passages: list[Passage] = []

        def through(node: Node, *before: Near) -> Near:
            if isinstance(node.operation, FixedStep):
                behind, passage = self._through_step(node.operation, before)
            else:
                behind, passage = self._through_layer(next(known), *before)
            passages.append(passage)
            return behind

        margin = _column(spread, points)
        start = Near(points, points, spread, spread, zero, margin, margin)
        return self.target.follow(start, through), passages

    def _backward(
        self, nears: Sequence[Near], passages: Sequence[Passage], *, intervals: bool
    ) -> tuple[Total, dict[int, float]]:
        """Return the sum above, over all nodes back to the input or to a pooling by the largest value.

        What slopes may be off their middles is in the intervals of the products before them, or is added where it is.
        With it comes, for each of these nodes, how much a change behind it grows at most on its way to the output.
        """
        nodes, points = self.target.nodes, len(nears[0].target)
        grown: dict[int, float] = {}
        tails: list[Tail | None] = [None] * len(nears)
        tails[-1] = Tail.of_outputs(points, self.target.output_shape, self.norm, intervals=intervals)
        total = Total.of_nothing(points, math.prod(self.target.output_shape), self.norm)
        for number, (node, passage) in reversed(list(enumerate(zip(nodes, passages, strict=True), start=1))):
            tail, tails[number] = tails[number], None
            if tail is None:  # nothing of it comes to the output but through a pooling
                continue
            grown[number] = float(tail.norms().max())
            self._add(total, tail, node, passage, nears[number])
            if passage.slopes is not None and not intervals:
                assert isinstance(node.operation, FixedStep)
                _, radii = _slopes(node.operation.module, passage.slopes)
                before = nears[node.sources[0]]
                total.add_slopes(tail, radii, before.apart(), before.difference)
            if not _picks(node):
                for source, incoming in zip(
                    node.sources, self._tails_before(tail, number, passage, nears), strict=True
                ):
                    if bool(nears[source].difference.any()):  # before the first layer there is none
                        there = tails[source]
                        tails[source] = incoming if there is None else there + incoming
        return total, grown

    def sensitivities(self, points: Tensor, radius: float) -> list[tuple[float, float]]:
        """Return for each layer a bound of the norm of what it reads, and about how much a change behind it grows.

        The second is infinite in front of a pooling by the largest value. It is a bound, but where intervals grow so
        much that they say nothing: there all slopes are taken in their middles.
        """
        nears, passages = self._forward(points, radius)
        (_, middles), (_, grown) = (self._backward(nears, passages, intervals=each) for each in (False, True))
        grown = {
            number: most if most <= SENSIBLE * middles[number] else middles[number] for number, most in grown.items()
        }
        return [
            (float(nears[node.sources[0]].reach(self.norm).max()), grown.get(number, math.inf))
            for number, node in enumerate(self.target.nodes, start=1)
            if isinstance(node.operation, TargetLayer)
        ]

    def _add(self, total: Total, tail: Tail, node: Node, passage: Passage, behind: Near) -> None:
        """Add what a node adds to the difference."""
        if passage.added is not None:
            total.add(tail, passage.added, passage.spread)
        else:
            total.add_norm(tail, behind.difference if _picks(node) else passage.spread)

    def _tails_before(self, tail: Tail, number: int, passage: Passage, nears: Sequence[Near]) -> list[Tail]:
        """Return the tail at each tensor that a node reads."""
        node = self.target.nodes[number - 1]
        operation = node.operation
        if isinstance(operation, TargetLayer):
            return [tail.through_layer(operation, self.factors[number])]
        if passage.slopes is not None:
            return [tail.through_slopes(*_slopes(operation.module, passage.slopes))]
        if isinstance(operation.module, Add):
            return [tail] * len(node.sources)
        if isinstance(operation.module, Concatenate):
            ends = list(accumulate((nears[source].target.shape[1] for source in node.sources), initial=0))
            return [tail.channels(*pair) for pair in pairwise(ends)]
        return [tail.through_step(operation)]

    def _through_layer(self, known: "_Operators", near: Near) -> tuple[Near, Passage]:
        """Return the two networks behind a layer, and what the layer added."""
        layer, pair, norm = known.layer, known.pair, self.norm
        of_target, of_network = known.rounding(near, norm, self.precision)
        added = known.added(near.network)
        # twice: as both networks round it and as it was computed here; and once more as it was computed here
        spread = (known.error * near.network_spread + 2.0 * (of_target + of_network)) * SLACK
        margins = (
            (_rows(rows, layer) * _column(moved, added) + _column(rounding, added)) * SLACK
            for rows, moved, rounding in (
                (known.rows, near.target_spread, of_target),
                (known.network_rows, near.network_spread, of_network),
            )
        )
        behind = Near(
            layer(near.target),
            pair(layer, near.network),
            (known.weight * near.target_spread + of_target) * SLACK,
            (known.network * near.network_spread + of_network) * SLACK,
            (known.weight * near.difference + norms(added, norm) + spread) * SLACK,
            *margins,
        ).measured(norm)
        return behind, Passage(spread, added)

    def _through_step(self, step: FixedStep, nears: Sequence[Near]) -> tuple[Near, Passage]:
        """Return the two networks behind a step, and what it does to their difference."""
        norm, factor = self.norm, step_norm(step, self.norm) * SLACK
        spreads = [
            joined(step, [getattr(near, name) for near in nears], norm)
            for name in ("target_spread", "network_spread", "difference")
        ]
        target, network = (step.module(*(getattr(near, name) for near in nears)) for name in ("target", "network"))
        reach = joined(step, [near.reach(norm) for near in nears], norm)
        rounded = 2.0 * step_rounding(step, self.precision) * reach
        of_target, of_network, difference = ((spread + rounded) * factor for spread in spreads)
        same = not any(bool(near.difference.any()) for near in nears)  # so far, and both round alike
        margins = (
            _margin(step, nears, name, rounded, _column(spread, target))
            for name, spread in (("target", of_target), ("network", of_network))
        )
        if same:
            difference = torch.zeros_like(difference)
        behind = Near(target, network, of_target, of_network, difference, *margins)
        slopes = nears[0].signs() if isinstance(step.module, RECTIFIERS) else None
        return behind if same else behind.measured(norm), Passage(rounded * factor, slopes=slopes)


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
        self.mass, self.sizes = (schur_norm(layer, each, norm) for each in (pair.mass, np.abs(layer.kernel)))
        self.rows, self.network_rows = (torch.from_numpy(row_norms(each, norm)) for each in (layer.kernel, network))

    def rounding(self, near: Near, norm: Norm, precision: Precision) -> tuple[Tensor, Tensor]:
        """Return bounds of how far what the target and the network run to is from what is computed of them here.

        That is for the same inputs, and comes from the sizes that are added up at the points.
        """
        layer, pair = self.layer, self.pair
        of_network = norms(layer.affine(near.network.abs(), pair.mass, pair.offset_mass), norm)
        of_target = norms(layer.affine(near.target.abs(), np.abs(layer.kernel), layer.offset_mass), norm)
        of_network = (of_network + self.mass * near.network_spread) * SLACK
        of_target = (of_target + self.sizes * near.target_spread) * SLACK
        none, reach = torch.zeros_like(of_target), near.reach(norm)
        target_here, network_here = algebra_rounding(layer, of_network, of_target)
        return (
            rounding_of_sums(layer, pair, none, of_target, reach, norm, precision) + target_here,
            rounding_of_sums(layer, pair, of_network, none, reach, norm, precision) + network_here,
        )

    def added(self, x: Tensor) -> Tensor:
        """Return what the layer adds to the difference for tensors of the network."""
        if self.pair.negative is not None:
            x = both_signs(x, self.layer.groups)
        return self.layer.affine(x, self.kernel, self.offset)


def _slopes(module: nn.Module, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middles and the radii of the slopes of a ReLU, from 1, 0 and 1/2 for its inputs' signs."""
    least = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
    middles = least + (1.0 - least) * signs if least else signs
    rounding = 2.0**-50 if least else 0.0  # 1, 1/2 and 0 are exact
    return middles, torch.where(signs == 0.5, 0.5 * (1.0 - least), 0.0) + rounding


def _margin(step: FixedStep, nears: Sequence[Near], name: str, rounded: Tensor, spread: Tensor) -> Tensor:
    """Return bounds of how far each entry behind a step is from that at the point: no more than the whole tensor."""
    own = [getattr(near, f"{name}_margin") for near in nears]
    tensors = [getattr(near, name) for near in nears]
    if isinstance(step.module, RECTIFIERS):  # it moves no entry further than it was moved
        return (own[0] + _column(rounded, tensors[0])) * SLACK
    if isinstance(step.module, Add):
        return (sum(own[1:], start=own[0]) + _column(rounded, tensors[0])) * SLACK
    return spread


def _picks(node: Node) -> bool:
    return isinstance(node.operation, FixedStep) and node.operation.picks


def _rows(values: Tensor, layer: TargetLayer) -> Tensor:
    """Return a value per channel in a shape that multiplies a batch of the layer's outputs."""
    return values.reshape(1, -1, *[1] * (len(layer.output_shape) - 1))


def _column(values: Tensor, batch: Tensor) -> Tensor:
    """Return a value per point in a shape that multiplies a batch."""
    return values.reshape(-1, *[1] * (batch.dim() - 1))
