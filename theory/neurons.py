"""One ReLU neuron inside of a random layer, by pruning whole hidden units or single weights.

A random network of two inputs computes relu(sum_j v_j relu(u_j . x)), and the target is relu(w . x) with |w| = 1, both
without biases. Ferre et al. 2026 ("Structured vs. unstructured pruning: an exponential gap") prove that to be within
epsilon, pruning hidden units takes of the order of 1 / epsilon of them, and pruning weights of the order of
log(1 / epsilon). (Their abstract alone was read; the floor below is derived here.) Both networks are homogeneous, so
the largest error over the unit disc is that on the circle, and the circle falls into arcs on which all is linear.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError
from theory.subset_sum import solve

Matrix = NDArray[np.float64]
MOST_UNITS = 24
"""The most hidden units for which all subsets are tried, 2^24 of them."""
MOST_ITEMS = 40
"""Paths that are given to one subset sum."""
CHUNK = 1 << 10


def supremum(directions: Matrix, strengths: Matrix, target: Matrix) -> float:
    """Return the largest error over the unit disc, exact but for rounding.

    On an arc without kinks the sum of the hidden units is a . x for some a, so that the error is one of (a - w) . x,
    a . x and w . x: it is largest at an end of the arc, where a . x = 0, or where one of these points.

    Args:
        directions: u, float64 (units, 2); those that were pruned are left out.
        strengths: v, float64 (units,).
        target: w, float64 (2,).

    """
    bends = _turned(np.concatenate([directions, target[None]]))
    bends = _unit(np.concatenate([bends, -bends]))
    angles = np.sort(np.arctan2(bends[:, 1], bends[:, 0]))
    middles = np.array([(low + high) / 2 for low, high in pairwise([*angles, angles[0] + 2 * np.pi])])
    inside = np.stack([np.cos(middles), np.sin(middles)], axis=1)
    sums = ((inside @ directions.T > 0.0) * strengths) @ directions
    tips = np.concatenate([sums, sums - target, _turned(sums), target[None]])
    points = np.concatenate([bends, _unit(tips), _unit(-tips)])
    return float(_errors(points, directions, strengths, target).max())


def best_subset(
    directions: Matrix, strengths: Matrix, target: Matrix, *, points: int = 64
) -> tuple[NDArray[np.bool_], float]:
    """Return the subset of hidden units with the least of the largest errors at points of the circle, and that error.

    No subset has a smaller error over the whole disc. All subsets are tried.

    Args:
        directions: u, float64 (units, 2).
        strengths: v, float64 (units,).
        target: w, float64 (2,).
        points: on the circle, at equal distances from the target's direction on.

    Raises:
        SupermaskError: there are more than MOST_UNITS units.

    """
    units = len(strengths)
    if units > MOST_UNITS:
        raise SupermaskError(f"{units} hidden units have more subsets than are tried; give at most {MOST_UNITS}.")
    outputs, wanted = _on_circle(directions, strengths, target, points)
    half = units // 2
    low, high = _sums(outputs[:half]), _sums(outputs[half:])
    best, where = np.inf, (0, 0)
    for row, rest in enumerate(low):
        for start in range(0, len(high), CHUNK):
            errors = np.abs(np.maximum(high[start : start + CHUNK] + rest, 0.0) - wanted).max(axis=1)
            least = int(errors.argmin())
            if errors[least] < best:
                best, where = float(errors[least]), (row, start + least)
    bits = [(where[0] >> np.arange(half)) & 1, (where[1] >> np.arange(units - half)) & 1]
    return np.concatenate(bits).astype(np.bool_), best


def found_subset(
    directions: Matrix, strengths: Matrix, target: Matrix, *, seed: int, points: int = 128, starts: int = 4
) -> NDArray[np.bool_]:
    """Return a good subset of many hidden units: one or two are added or left out as long as that helps most.

    Args:
        directions: u, float64 (units, 2).
        strengths: v, float64 (units,).
        target: w, float64 (2,).
        seed: of the random subsets that it starts at.
        points: of the circle, at which errors are taken.
        starts: how often it starts.

    """
    outputs, wanted = _on_circle(directions, strengths, target, points)
    random, units = np.random.default_rng(seed), len(strengths)
    pairs = np.array([(i, j) for i in range(units) for j in range(i, units)])  # (i, i) is one alone
    best, chosen = np.inf, np.zeros(units, np.bool_)
    for _ in range(starts):
        mask = random.random(units) < 0.3
        least = np.inf
        while True:
            turns = np.where(mask[:, None], -outputs, outputs)
            moves = turns[pairs[:, 0]] + np.where((pairs[:, 0] != pairs[:, 1])[:, None], turns[pairs[:, 1]], 0.0)
            errors = np.abs(np.maximum(outputs[mask].sum(axis=0) + moves, 0.0) - wanted).max(axis=1)
            move = int(errors.argmin())
            if errors[move] >= least:
                break
            least, mask = float(errors[move]), mask.copy()
            mask[np.unique(pairs[move])] ^= True
        if least < best:
            best, chosen = least, mask
    return chosen


def floor_of_subsets(directions: Matrix, strengths: Matrix, target: Matrix) -> float:
    """Return what no subset of the hidden units is below, by their bends.

    A unit that is kept bends the output where u . x = 0, and one such point t lies where the target is w . x > 0. If
    nothing else bends within an angle d of it, the values of (output - target) at t - d, t and t + d differ from those
    of a linear function by |v| |u| sin d = D(t - d) + D(t + d) - 2 cos d D(t), so that one of them is at least
    |v| |u| tan(d / 2) / 2; or the output is 0 at one of the three, which misses the target by its value there. So a
    subset of error e has units of such floors up to e alone, and these must add up to 1 - e at x = w.

    Args:
        directions: u, float64 (units, 2).
        strengths: v, float64 (units,).
        target: w, float64 (2,), of norm 1.

    """
    bends = _turned(_unit(directions))
    bends = np.where((bends @ target)[:, None] < 0.0, -bends, bends)
    inward = np.arcsin(np.clip(bends @ target, 0.0, 1.0))  # the angle to where the target itself bends
    angles = np.arctan2(bends @ _turned(target[None])[0], bends @ target)
    order = np.argsort(angles)
    gaps = np.diff(angles[order], prepend=-np.inf, append=np.inf)
    room = np.empty(len(angles))
    room[order] = np.minimum(gaps[:-1], gaps[1:])
    room = np.minimum(room, inward / 2)
    bent = np.abs(strengths) * np.linalg.norm(directions, axis=1) * np.tan(room / 2) / 2
    floors = np.minimum(bent, np.sin(inward - room))
    lift = np.maximum(strengths, 0.0) * np.maximum(directions @ target, 0.0)
    order = np.argsort(floors)
    missing = 1.0 - np.concatenate([[0.0], np.cumsum(lift[order])])
    return float(np.maximum(np.concatenate([[0.0], floors[order]]), missing).min())


def by_weights(directions: Matrix, strengths: Matrix, target: Matrix) -> tuple[Matrix, Matrix]:
    """Return the directions and strengths that pruning single weights leaves: paths of each input meet its weight.

    Each unit keeps one of its two weights, in turn; those of one input and sign are a subset sum for w (Pensia et al.
    2020, lemma 2).

    Args:
        directions: u, float64 (units, 2).
        strengths: v, float64 (units,).
        target: w, float64 (2,).

    """
    units, kept = np.arange(len(strengths)), np.zeros(len(strengths), np.bool_)
    for column, sign in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)):
        own = units[(units % 2 == column) & (directions[:, column] * sign > 0.0)][:MOST_ITEMS]
        if len(own):
            items = strengths[own] * np.abs(directions[own, column])
            kept[own] = solve(items[None], np.array([sign * target[column]]), threads=1).mask[0]
    read = directions * (units[:, None] % 2 == np.arange(2))
    return read[kept], strengths[kept]


def _errors(points: Matrix, directions: Matrix, strengths: Matrix, target: Matrix) -> Matrix:
    output = np.maximum(np.maximum(points @ directions.T, 0.0) @ strengths, 0.0)
    found: Matrix = np.abs(output - np.maximum(points @ target, 0.0))
    return found


def _on_circle(directions: Matrix, strengths: Matrix, target: Matrix, points: int) -> tuple[Matrix, Matrix]:
    """Return what each hidden unit adds at points of the circle, (units, points), and the target there."""
    angles = np.arctan2(target[1], target[0]) + 2 * np.pi * np.arange(points) / points
    circle = np.stack([np.cos(angles), np.sin(angles)])
    return strengths[:, None] * np.maximum(directions @ circle, 0.0), np.maximum(target @ circle, 0.0)


def _sums(rows: Matrix) -> Matrix:
    """Return the sums of all subsets of rows, in the order of the binary numbers whose bits say which."""
    sums = np.zeros((1, rows.shape[1]))
    for row in rows:
        sums = np.concatenate([sums, sums + row])
    return sums


def _turned(vectors: Matrix) -> Matrix:
    """Return vectors (count, 2) turned by a quarter."""
    return np.stack([-vectors[:, 1], vectors[:, 0]], axis=1)


def _unit(vectors: Matrix) -> Matrix:
    """Return vectors (count, 2) of length 1; a zero stays zero."""
    found: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return found
