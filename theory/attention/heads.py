"""An attention near given sequences: scores, weights and what is read, of one network and between two."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theory.attention.maps import LinearMap, spectral
from theory.attention.parts import Attend, Head, scores, softmax, with_one
from theory.attention.steps import moved_weights
from theory.norms import SLACK
from theory.precision import FLOAT64


@dataclass(frozen=True, eq=False)
class HeadNear:
    """One head of one network near sequences; (n, T, T) is of each query, over keys.

    Attributes:
        weights: (n, T, T), computed, and not below the smallest normal number where a key is read.
        weights_off: by how much those of a run may differ.
        scores: (n, T, T), computed.
        scores_off: by how much those of a run may differ, but for what is the same for all keys.
        scores_rounding: the part of that which is rounding.
        weights_rounding: the same of the weights.
        values: (n, T, units), B x and the offset.
        read: (n, T, units), the mean of the values by the weights.

    """

    weights: Tensor
    weights_off: Tensor
    scores: Tensor
    scores_off: Tensor
    scores_rounding: Tensor
    weights_rounding: Tensor
    values: Tensor
    read: Tensor

    @property
    def highest(self) -> Tensor:
        """The largest that a weight of a run may be."""
        return (self.weights + self.weights_off).clamp(max=1.0)


@dataclass(frozen=True, eq=False)
class Attended:
    """What an attention computes of tokens near sequences.

    Attributes:
        before: the tokens that come in, (n, T, units).
        before_spread: (n, T), how far those of a run may be from them.
        tokens: what comes out.
        spread: (n, T), likewise.
        rounding: (n, T), the part of that which is rounding.
        heads: each head.

    """

    before: Tensor
    before_spread: Tensor
    tokens: Tensor
    spread: Tensor
    rounding: Tensor
    heads: tuple[HeadNear, ...]


def attended(part: Attend, x: Tensor, spread: Tensor) -> Attended:
    """Return what an attention computes of tokens within a spread of some."""
    heads = tuple(_head(part, head, x, spread) for head in part.heads)
    tokens, moved = torch.zeros_like(x), torch.zeros_like(spread)
    rounding = torch.zeros_like(spread)
    for head, near in zip(part.heads, heads, strict=True):
        tokens = tokens + near.read
        off = (near.weights_off * _distances(near)).sum(dim=-1)
        keys = near.highest @ spread[..., None]
        moved = moved + off + head.value.norm * torch.minimum(keys[..., 0], _largest(near, spread))
        rounding = rounding + _rounding(part, head, near, x, spread)
    return Attended(x, spread, tokens, (moved + 2.0 * rounding) * SLACK, rounding, heads)


def attended_apart(one: Attend, other: Attend, apart: Tensor, target: Attended, network: Attended) -> Tensor:
    """Return a bound of the difference of what comes out, (n, T), for tokens that are so far apart (n, T)."""
    missed = sum(b.value.offset - a.value.offset for a, b in zip(one.heads, other.heads, strict=True))
    constant = float(torch.as_tensor(missed).norm())
    total = constant + 3.0 * (target.rounding + network.rounding)
    pairs = zip(one.heads, other.heads, target.heads, network.heads, strict=True)
    for head, found, near, near_found in pairs:
        moves = torch.fmin(
            _scores_apart(head, found, apart, target, network)
            + 4.0 * (near.scores_rounding + near_found.scores_rounding),
            (near_found.scores - near.scores).abs() + near.scores_off + near_found.scores_off,
        )
        changed = torch.fmin(
            moved_weights(near.weights, moves * SLACK, near.highest)
            + near.weights_rounding
            + near_found.weights_rounding,
            (near_found.weights - near.weights).abs() + near.weights_off + near_found.weights_off,
        )
        # about any fixed vector, because both sets of weights add up to 1
        places = _distances(near) + head.value.norm * target.before_spread[:, None, :]
        error = _without_offset(found.value.minus(head.value))
        values = error(network.before).norm(dim=-1) + error.norm * network.before_spread + head.value.norm * apart
        read = torch.minimum((near_found.highest @ values[..., None])[..., 0], _largest(near_found, values))
        total = total + (changed * places).sum(dim=-1) + read
    return total * SLACK


def _head(part: Attend, head: Head, x: Tensor, spread: Tensor) -> HeadNear:
    found = scores(head, x)
    matrix = torch.from_numpy(head.score.matrix)
    norm = spectral(head.score.matrix[:-1])
    of_query = (with_one(x) @ matrix).norm(dim=-1)  # what a key's token is multiplied by
    of_key = (x @ matrix[:-1].T).norm(dim=-1)
    moves = of_key[:, None, :] * spread[:, :, None] + (of_query + norm * spread)[:, :, None] * spread[:, None, :]
    rounding = _score_rounding(head, x, spread)
    off = (moves + 2.0 * rounding) * SLACK
    weights = softmax(found, causal=part.causal)
    is_read = softmax(torch.zeros_like(found), causal=part.causal) > 0.0
    weights = torch.where(is_read, weights.clamp(min=FLOAT64.tiny), 0.0)
    own = FLOAT64.sums(4 * x.shape[1] + 128)
    moved = moved_weights(weights, off)
    values = head.value(x)
    return HeadNear(weights, moved + own * (weights + moved), found, off, rounding, own * (weights + moved),
                    values, weights @ values)  # fmt: skip


def _score_rounding(head: Head, x: Tensor, spread: Tensor) -> Tensor:
    """Return a bound of the rounding of a query's scores, (n, T, 1): that of the largest, which is taken from all."""
    score = head.score
    keys = x.abs() @ torch.from_numpy(score.mass).T + torch.from_numpy(score.offset_mass)
    at = (with_one(x.abs()) @ keys.transpose(-1, -2)).amax(dim=-1)
    further = score.mass_norm * spread.amax(dim=-1, keepdim=True) * (with_one(x).norm(dim=-1) + spread)
    sizes = (at + further + keys.norm(dim=-1).amax(dim=-1, keepdim=True) * spread) * SLACK
    return (FLOAT64.sums(score.terms + 16) * sizes + FLOAT64.tiny * score.terms)[..., None]


def _scores_apart(head: Head, found: Head, apart: Tensor, target: Attended, network: Attended) -> Tensor:
    """Return a bound of the difference of two scores, (n, T, T), but for rounding and for what all keys share.

    (y, 1) (A' - A) y' is what the maps are apart, at tokens y of the network; and (y - x) A y' + (x, 1) A (y' - x').
    """
    matrix, error = torch.from_numpy(head.score.matrix), torch.from_numpy(found.score.matrix - head.score.matrix)
    norm, error_norm = spectral(head.score.matrix[:-1]), spectral(error[:-1].numpy())
    x, y, x_spread, y_spread = target.before, network.before, target.before_spread, network.before_spread
    by_map = (with_one(y) @ error @ y.transpose(-1, -2)).abs()
    by_map = by_map + (y @ error[:-1].T).norm(dim=-1)[:, None, :] * y_spread[:, :, None]
    by_map = by_map + ((with_one(y) @ error).norm(dim=-1) + error_norm * y_spread)[:, :, None] * y_spread[:, None, :]
    of_key = (y @ matrix[:-1].T).norm(dim=-1) + norm * y_spread
    of_query = (with_one(x) @ matrix).norm(dim=-1) + norm * x_spread
    return (by_map + apart[:, :, None] * of_key[:, None, :] + of_query[:, :, None] * apart[:, None, :]) * SLACK


def _distances(near: HeadNear) -> Tensor:
    """Return how far each key's value is from what a query reads, (n, T, T)."""
    return torch.cdist(near.read, near.values, compute_mode="donot_use_mm_for_euclid_dist") * SLACK


def _largest(near: HeadNear, values: Tensor) -> Tensor:
    """Return for each query the largest of (n, T) numbers over the keys that it reads, (n, T)."""
    return torch.where(near.weights > 0.0, values[:, None, :], 0.0).amax(dim=-1)


def _rounding(part: Attend, head: Head, near: HeadNear, x: Tensor, spread: Tensor) -> Tensor:
    """Return a bound of the rounding of what is read, (n, T)."""
    sizes = _largest(near, head.value.sizes(x, spread))
    sums = FLOAT64.sums(4 * x.shape[1] + len(part.heads) * head.value.terms + 64)
    return (sums + FLOAT64.tiny * x.shape[1]) * sizes


def _without_offset(each: LinearMap) -> LinearMap:
    return LinearMap(each.matrix, 0.0 * each.offset, each.mass, each.offset_mass, each.terms)
