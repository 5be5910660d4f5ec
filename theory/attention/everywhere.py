"""How far a pruned transformer is from its target over a ball of tokens: a recursion over norms.

Let tokens of the target have norms of at most r, and those of the network be within e of them. The scores of a head
then differ by at most

    s = (r + e) ((r + e) |A' - A| + |a' - a|) + e |A| (r + e) + (r |A| + |a|) e + rounding,

A without its last row a, which belongs to the bias of queries. Scores that are within s of others have weights within
tanh(s / 2) in total variation: for a set of keys they change the odds by e^(2 s) at most, and the probability by
tanh(s / 2), which it does from odds of e^-s. What is read is then moved by at most that times the largest distance
between two values, 2 r |B|, and by (r + e) |B' - B| + |B| e. So a head's error does not depend on the length of
the sequence.

A normalisation multiplies e by 1 / root(eps) at most, and makes tokens of norm root(d). That is why behind one the
difference is never above 2 root(d); and why over a ball the bound of a deep transformer says little (`theory.attention
.near` has a better one near given sequences).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan, sqrt, tanh

import numpy as np
import torch

from theory.attention.maps import LinearMap, spectral
from theory.attention.parts import Activate, Affine, Attend, Embed, Head, Normalise, Part, Residual
from theory.attention.steps import activation_rounding, normalised_rounding, normalised_slope, slope
from theory.norms import SLACK
from theory.precision import FLOAT64
from theory.target import Matrix


@dataclass(frozen=True)
class Reach:
    """Bounds for every token: of the norm of the target's, and of the difference."""

    size: float
    difference: float

    @property
    def both(self) -> float:
        """A bound of the norm of both networks' tokens."""
        return self.size + self.difference


def bound_everywhere(target: Sequence[Part], network: Sequence[Part], radius: float, length: int) -> float:
    """Return a bound of the l2 difference of each token that comes out, the rounding of both networks included.

    Args:
        target: its parts.
        network: the same parts, with the maps that the pruned network computes.
        radius: of the tokens that come in; nothing where the target embeds.
        length: of the sequences at most.

    """
    return _through(target, network, Reach(radius, 0.0), length).difference


def _through(target: Sequence[Part], network: Sequence[Part], reach: Reach, length: int) -> Reach:
    for one, other in zip(target, network, strict=True):
        reach = _behind(one, other, reach, length)
        if isnan(reach.difference):  # infinity times zero
            reach = Reach(reach.size, inf)
    return reach


def _behind(one: Part, other: Part, reach: Reach, length: int) -> Reach:
    match one, other:
        case Embed(), Embed():
            return _embedded(one, other)
        case Normalise(), _:
            return _normalised(one, reach)
        case Attend(), Attend():
            return _attended(one, other, reach, length)
        case Affine(), Affine():
            rounding = _rounding(one.map, reach.size) + _rounding(other.map, reach.both)
            return _affine(one.map, other.map, reach, rounding)
        case Activate(), _:
            rounding = float(activation_rounding(one, torch.tensor(reach.both)))
            steep = slope(one)
            return Reach(steep * reach.size * SLACK + rounding, (steep * reach.difference + 2.0 * rounding) * SLACK)
        case Residual(), Residual():
            inner = _through(one.parts, other.parts, reach, length)
            rounding = 4.0 * FLOAT64.adds * (reach.both + inner.both)
            return Reach(reach.size + inner.size + rounding, (reach.difference + inner.difference + rounding) * SLACK)
    raise AssertionError("the two networks have other parts")


def _embedded(one: Embed, other: Embed) -> Reach:
    size, difference = 0.0, 0.0
    for wanted, found in ((one.tokens, other.tokens), (one.places, other.places)):
        size += _largest_column(wanted.matrix)
        rounding = FLOAT64.sums(found.terms + 4) * _largest_column(wanted.mass + found.mass)
        difference += _largest_column(found.matrix - wanted.matrix) + 2.0 * rounding
    return Reach(size * SLACK, (difference + 4.0 * FLOAT64.adds * (size + difference)) * SLACK)


def _normalised(part: Normalise, reach: Reach) -> Reach:
    nothing = torch.zeros((), dtype=torch.float64)
    rounding = float(normalised_rounding(part, nothing + reach.both, nothing))
    size = sqrt(part.units) * SLACK
    moved = float(normalised_slope(part, nothing)) * reach.difference
    return Reach(size + rounding, (min(moved, 2.0 * size) + 2.0 * rounding) * SLACK)


def _affine(one: LinearMap, other: LinearMap, reach: Reach, rounding: float) -> Reach:
    missed = other.minus(one)
    difference = one.norm * reach.difference + missed.norm * reach.both + _norm(missed.offset) + 2.0 * rounding
    return Reach((one.norm * reach.size + _norm(one.offset) + rounding) * SLACK, difference * SLACK)


def _attended(one: Attend, other: Attend, reach: Reach, length: int) -> Reach:
    offset = sum((b.value.offset - a.value.offset for a, b in zip(one.heads, other.heads, strict=True)), np.zeros(1))
    size, difference = 0.0, _norm(offset)
    for head, found in zip(one.heads, other.heads, strict=True):
        apart = _scores_apart(head, found, reach)
        value, missed = head.value, found.value.minus(head.value)
        of_weights = 2.0 * reach.size * value.norm * tanh(apart / 2.0)
        difference += of_weights + missed.norm * reach.both + value.norm * reach.difference
        size += value.norm * reach.size + _norm(value.offset)
        heads, keys = len(one.heads), 2 * length + 64
        for each, norm in ((value, reach.size), (found.value, reach.both)):
            of_values = each.mass_norm * norm + _norm(each.offset_mass)
            lost = FLOAT64.sums(keys + heads * each.terms) + FLOAT64.tiny * length
            difference += 2.0 * lost * of_values
    return Reach(size * SLACK, difference * SLACK)


def _scores_apart(head: Head, found: Head, reach: Reach) -> float:
    """Return a bound of the difference of two scores, but for what is the same for all keys."""
    missed = found.score.minus(head.score).matrix
    norm, of_bias = spectral(head.score.matrix[:-1]), _norm(head.score.matrix[-1])
    both, moved = reach.both, reach.difference
    by_error = both * (both * spectral(missed[:-1]) + _norm(missed[-1]))
    by_tokens = moved * norm * both + (reach.size * norm + of_bias) * moved
    rounding = sum(
        FLOAT64.sums(each.terms + 16) * sqrt(size * size + 1.0) * (each.mass_norm * size + _norm(each.offset_mass))
        for each, size in ((head.score, reach.size), (found.score, both))
    )
    return (by_error + by_tokens + 4.0 * rounding) * SLACK


def _rounding(each: LinearMap, size: float) -> float:
    return FLOAT64.sums(each.terms + 8) * (each.mass_norm * size + _norm(each.offset_mass)) + FLOAT64.tiny * each.terms


def _largest_column(matrix: Matrix) -> float:
    return float(np.linalg.norm(matrix, axis=0).max(initial=0.0)) * SLACK


def _norm(vector: Matrix) -> float:
    return float(np.linalg.norm(vector)) * SLACK
