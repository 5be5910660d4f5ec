"""Malach et al. 2020: a weight of the target becomes one path, the closest of the random paths of its input's block."""

import math
from collections.abc import Callable

import numpy as np

from theory.bounds import malach_pairs, malach_products
from theory.constructions.prune import PathProblem
from theory.constructions.random_pair import Mask
from theory.target import Matrix, TargetLayer

FAILURE = 0.01
"""Probability that some weight of a layer does not find its path; the other constructions allow the same."""
MOST_DISTANCES = 2**20
"""Distances that a thread holds in memory at a time: 8 MiB, in two or three arrays."""


def choose_closest_pair(problem: PathProblem, tolerance: float) -> tuple[Mask, Matrix]:
    """Meet each weight w by the one path (u, v) whose two hops are closest to (|w|, sign w), as the proof does.

    A weight that is small enough to be left out is met by no path; so is one whose closest path is worse than none.
    """
    size = np.abs(problem.wanted) / problem.scale
    sign = np.where(problem.wanted < 0.0, -1.0, 1.0)

    def distances(rows: slice) -> Matrix:
        hops = np.abs(problem.second[rows] / problem.scale - sign[rows, None])
        return np.maximum(np.abs(problem.strength - size[rows, None]), hops)

    return _closest(problem, tolerance, distances)


def choose_closest_product(problem: PathProblem, tolerance: float) -> tuple[Mask, Matrix]:
    """Meet each weight by the one path whose product is closest to it; no path if none is closer than zero."""

    def distances(rows: slice) -> Matrix:
        return np.abs(problem.second[rows] * problem.strength - problem.wanted[rows, None])

    return _closest(problem, tolerance, distances)


def pair_width(layer: TargetLayer, error: float, halves: int, density: float = 1.0) -> int:
    """Return hidden units per input with which each weight has a close pair, but with probability FAILURE: 1/error^2.

    Args:
        layer: of the target.
        error: that a weight may have, over the scale.
        halves: signs of the input that are served; the bound counts two.
        density: share of the random weights that there are; a path is two of them.

    """
    return math.ceil(malach_pairs(min(error, 1.0), FAILURE / _weights(layer)) / density**2)


def product_width(layer: TargetLayer, error: float, halves: int, density: float = 1.0) -> int:
    """Return the same for products: 1/error."""
    return math.ceil(malach_products(min(error, 0.5), FAILURE / _weights(layer)) / density**2)


def _weights(layer: TargetLayer) -> int:
    return layer.kernel.size + layer.outputs


def _closest(problem: PathProblem, tolerance: float, distances: Callable[[slice], Matrix]) -> tuple[Mask, Matrix]:
    chosen, errors = np.zeros(problem.second.shape, np.bool_), np.abs(problem.wanted)
    units = problem.second.shape[1]
    for start in range(0, len(errors) if units else 0, step := max(1, MOST_DISTANCES // max(1, units))):
        rows = slice(start, start + step)
        nearest = distances(rows).argmin(axis=1)[:, None]
        found = np.take_along_axis(problem.second[rows], nearest, axis=1)[:, 0] * problem.strength[nearest[:, 0]]
        missed = np.abs(found - problem.wanted[rows])
        better = (missed < errors[rows]) & (errors[rows] > tolerance)  # no path is an error of the whole weight
        np.put_along_axis(chosen[rows], nearest, better[:, None], axis=1)
        errors[rows] = np.where(better, missed, errors[rows])
    return chosen, errors
