"""How far a pruned transformer is from its target near given sequences: both are followed token by token.

Around a sequence the target's tokens stay within a spread of those that were computed at the sequence, and so do the
network's. So the two are apart by no more than the computed ones are, and both spreads; and by no more than what each
part makes of the difference before it and of its own error there. The smaller of the two is kept behind each part.
A spread holds the rounding of a run and that of what was computed here, in any order of sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from theory.attention.domains import NearSequences
from theory.attention.heads import Attended, attended, attended_apart
from theory.attention.maps import LinearMap
from theory.attention.parts import (
    Activate,
    Affine,
    Attend,
    Embed,
    Normalise,
    Part,
    Residual,
    activated,
    embedded,
    run,
)
from theory.attention.steps import activation_rounding, normalised_rounding, normalised_slope, slope
from theory.norms import SLACK
from theory.precision import FLOAT64

AT_A_TIME = 8
"""Sequences followed at a time: a few matrices of (heads, T, T) numbers for each."""


@dataclass(frozen=True, eq=False)
class Side:
    """The tokens of one network near some sequences.

    Attributes:
        tokens: (sequences, T, units), computed.
        spread: (sequences, T), by how much a run may be off from that, anywhere in the domain.

    """

    tokens: Tensor
    spread: Tensor

    @property
    def reach(self) -> Tensor:
        """A bound of the norm of the tokens of a run, (sequences, T)."""
        return (self.tokens.norm(dim=-1) + self.spread) * SLACK


@dataclass(frozen=True, eq=False)
class Near:
    """Both networks near some sequences, and a bound of how far they are apart, (sequences, T)."""

    target: Side
    network: Side
    difference: Tensor

    def measured(self) -> "Near":
        """Return the same, where the difference is no more than that of what was computed and both spreads."""
        apart = (self.network.tokens - self.target.tokens).norm(dim=-1)
        apart = (apart + self.target.spread + self.network.spread) * SLACK
        # infinity times zero is no number, and no bound
        return replace(self, difference=torch.where(apart.isnan(), torch.inf, torch.fmin(self.difference, apart)))


@dataclass(frozen=True)
class NearBounds:
    """Bounds over a domain: of the l2 difference of a token that comes out, and of that of one of its entries."""

    token: float
    entry: float


@torch.no_grad()
def bound_near(target: Sequence[Part], network: Sequence[Part], domain: NearSequences) -> NearBounds:
    """Return bounds of the difference near sequences, the rounding of both networks included.

    Args:
        target: its parts.
        network: the same parts, with the maps that the pruned network computes.
        domain: the sequences.

    """
    token, entry = 0.0, 0.0
    for sequences in domain.sequences.split(AT_A_TIME):
        near = through(target, network, _start(target, network, sequences, domain.radius))
        spreads = near.target.spread + near.network.spread
        entries = (near.network.tokens - near.target.tokens).abs().amax(dim=-1)
        token = max(token, float(near.difference.max()))
        entry = max(entry, float(torch.fmin((entries + spreads) * SLACK, near.difference).max()))
    return NearBounds(token, entry)


def through(target: Sequence[Part], network: Sequence[Part], near: Near) -> Near:
    """Return both networks behind some parts."""
    for one, other in zip(target, network, strict=True):
        near = _behind(one, other, near).measured()
    return near


def _start(target: Sequence[Part], network: Sequence[Part], sequences: Tensor, radius: float) -> Near:
    """Return the tokens that come in; those of an embedding are moved by the radius behind it."""
    if not isinstance(target[0], Embed):
        spread = torch.full(sequences.shape[:2], radius, dtype=torch.float64)
        return Near(Side(sequences, spread), Side(sequences, spread), torch.zeros_like(spread))
    nothing = torch.full(sequences.shape, radius, dtype=torch.float64)
    return Near(Side(sequences, nothing), Side(sequences, nothing), torch.zeros_like(nothing))


def _behind(one: Part, other: Part, near: Near) -> Near:
    match one, other:
        case Embed(), Embed():
            return _embedded(one, other, near)
        case Normalise(), _:
            return _normalised(one, near)
        case Attend(), Attend():
            return _attended(one, other, near)
        case Affine(), Affine():
            return _affine(one.map, other.map, near)
        case Activate(), _:
            return _activated(one, near)
        case Residual(), Residual():
            return _summed(near, through(one.parts, other.parts, near))
    raise AssertionError("the two networks have other parts")


def _embedded(one: Embed, other: Embed, near: Near) -> Near:
    sides: list[Side] = []
    for part, side in ((one, near.target), (other, near.network)):
        ids, places = side.tokens, torch.arange(side.tokens.shape[1])
        sums = FLOAT64.sums(part.tokens.terms + part.places.terms + 8)
        mass = torch.from_numpy(part.tokens.mass).T[ids] + torch.from_numpy(part.places.mass).T[places]
        sides.append(Side(embedded(part, ids), (side.spread + 2.0 * sums * mass.norm(dim=-1)) * SLACK))
    apart = (sides[1].tokens - sides[0].tokens).norm(dim=-1)
    rounding = sides[0].spread + sides[1].spread - near.target.spread - near.network.spread
    return Near(sides[0], sides[1], (apart + rounding.clamp(min=0.0)) * SLACK + 4.0 * FLOAT64.adds * near.target.spread)


def _normalised(part: Normalise, near: Near) -> Near:
    centred = [each.tokens - each.tokens.mean(dim=-1, keepdim=True) for each in (near.target, near.network)]
    sizes, apart = [each.norm(dim=-1) for each in centred], (centred[1] - centred[0]).norm(dim=-1)
    sides: list[Side] = []
    roundings: list[Tensor] = []
    least_of_all = torch.zeros_like(apart)
    spreads = (near.target.spread, near.network.spread)
    off = 3.0 * FLOAT64.sums(part.units + 16) * torch.maximum(near.target.reach, near.network.reach)  # computed here
    for side, size, other_spread in zip((near.target, near.network), sizes, reversed(spreads), strict=True):
        least = (size / SLACK - side.spread - off).clamp(min=0.0)
        # both runs are in one ball about this one's tokens, and so is all that lies between them
        ball = torch.maximum(side.spread, apart + other_spread) * SLACK + off
        least_of_all = torch.maximum(least_of_all, (size / SLACK - ball).clamp(min=0.0))
        rounding = normalised_rounding(part, side.reach, least)
        tokens = run((part,), side.tokens)
        # nothing that comes out is longer than root(d)
        spread = torch.minimum(normalised_slope(part, least) * side.spread, tokens.norm(dim=-1) + part.units**0.5)
        sides.append(Side(tokens, (spread + 2.0 * rounding) * SLACK))
        roundings.append(rounding)
    difference = normalised_slope(part, least_of_all) * near.difference + 2.0 * (roundings[0] + roundings[1])
    return Near(sides[0], sides[1], difference * SLACK)


def _affine(one: LinearMap, other: LinearMap, near: Near) -> Near:
    missed = other.minus(one)
    roundings = [_rounding(each, side) for each, side in ((one, near.target), (other, near.network))]
    sides = [
        Side(each(side.tokens), (each.norm * side.spread + 2.0 * rounding) * SLACK)
        for each, side, rounding in zip((one, other), (near.target, near.network), roundings, strict=True)
    ]
    added = missed(near.network.tokens).norm(dim=-1) + missed.norm * near.network.spread
    difference = one.norm * near.difference + added + 3.0 * (roundings[0] + roundings[1])
    return Near(sides[0], sides[1], difference * SLACK)


def _rounding(each: LinearMap, side: Side) -> Tensor:
    return FLOAT64.sums(each.terms + 8) * each.sizes(side.tokens, side.spread) + FLOAT64.tiny * each.terms


def _attended(one: Attend, other: Attend, near: Near) -> Near:
    sides: list[Side] = []
    known: list[Attended] = []
    for part, side in ((one, near.target), (other, near.network)):
        found = attended(part, side.tokens, side.spread)
        known.append(found)
        sides.append(Side(found.tokens, found.spread))
    return Near(sides[0], sides[1], attended_apart(one, other, near.difference, *known))


def _activated(part: Activate, near: Near) -> Near:
    sides: list[Side] = []
    roundings = [activation_rounding(part, side.reach) for side in (near.target, near.network)]
    for side, rounding in zip((near.target, near.network), roundings, strict=True):
        sides.append(Side(activated(part, side.tokens), (slope(part) * side.spread + 2.0 * rounding) * SLACK))
    return Near(sides[0], sides[1], (slope(part) * near.difference + 2.0 * (roundings[0] + roundings[1])) * SLACK)


def _summed(near: Near, inner: Near) -> Near:
    sides: list[Side] = []
    rounding = torch.zeros_like(near.difference)
    for side, more in ((near.target, inner.target), (near.network, inner.network)):
        lost = 2.0 * FLOAT64.adds * (side.reach + more.reach)
        sides.append(Side(side.tokens + more.tokens, (side.spread + more.spread + 2.0 * lost) * SLACK))
        rounding = rounding + lost
    return Near(sides[0], sides[1], (near.difference + inner.difference + rounding) * SLACK)
