"""Pensia et al. 2020: a weight of the target becomes a subset sum over the paths of its input's block."""

import math
from collections.abc import Iterator

import numpy as np

from theory.constructions.prune import PathProblem
from theory.constructions.random_pair import Mask
from theory.constructions.signs import smallest
from theory.subset_sum import solve
from theory.target import Matrix, TargetLayer

MOST_ITEMS = 32
"""Items that one subset sum is given at most: 2^16 half-sums."""
MORE_ITEMS = 4
"""Items by which a subset sum grows that misses its share; each four make it about 16 times better."""
SHIFT = 8
"""Paths from one window to the next, for the few weights that the first does not meet."""
LAST = (36, 40, 44)
"""Items for the weights that no window meets: 2^-44 of the scale is near what float64 resolves of it."""
FEW = 16
"""Weights of a column for which the longest of these is tried: each takes a tenth of a second."""


def choose_subsets(problem: PathProblem, tolerance: float) -> tuple[Mask, Matrix]:
    """Meet each weight by a subset of its paths that is good enough, or the best that is found.

    Few paths at first, more of them where a weight misses its share. Where even MOST_ITEMS paths do not meet it, each
    next window of as many is tried, with other paths added so that what is left lies amid the window's subset sums.
    Where none of them does, longer ones are tried last: they take milliseconds a weight. A path that a sparse random
    network does not have contributes 0, and is not chosen.
    """
    items, wanted = problem.items, problem.wanted
    if not items.all():
        order = np.argsort(items == 0.0, axis=1, kind="stable")  # the paths that there are come first
        mask, errors = _choose(np.take_along_axis(items, order, axis=1), wanted, tolerance)
        chosen = np.zeros_like(mask)
        np.put_along_axis(chosen, order, mask, axis=1)
        return chosen & (items != 0.0), errors
    return _choose(items, wanted, tolerance)


def _choose(items: Matrix, wanted: Matrix, tolerance: float) -> tuple[Mask, Matrix]:
    """Return which items to add up for each weight, and by how much it is missed."""
    chosen, errors = np.zeros(items.shape, np.bool_), np.abs(wanted)
    for window in _windows(items, tolerance):
        left = np.flatnonzero(errors > tolerance)  # the others have few paths, and so a small ticket
        if not len(left) or (window.stop - window.start == LAST[-1] and len(left) > FEW):
            break
        tried = items[left]
        mask = _base(tried, wanted[left], window)
        rest = wanted[left]
        if window.start:  # the others have no base
            rest = rest - np.where(mask, tried, 0.0).sum(axis=1)
        solution = solve(tried[:, window], rest, threads=1)  # the columns of a layer already share the cores
        mask[:, window] = solution.mask
        missed = np.abs(np.where(mask, tried, 0.0).sum(axis=1) - wanted[left])
        better = missed < errors[left]  # a later window may do worse than an earlier one
        chosen[left[better]], errors[left[better]] = mask[better], missed[better]
    return chosen, errors


def subset_width(layer: TargetLayer, error: float, halves: int, density: float = 1.0) -> int:
    """Return hidden units per input with which all blocks have items enough with probability 0.99.

    The best of 2^n subset sums misses by about 2^-n, and the worst of N by N times as much (measured: `theory.laws`
    has the law), so n = log2(N / error) + 3 items, but no more than two windows, beyond what float64 resolves. Half of
    a block's units have the sign that is wanted. In a sparse network a weight has the paths whose two hops there are,
    each with the square of the density, which differ from weight to weight.

    Args:
        layer: of the target.
        error: that a weight may have, over the scale.
        halves: signs of the input that are served.
        density: share of the random weights that there are.

    """
    from scipy.stats import binom  # scipy.stats takes a third of a second to import

    items = min(math.ceil(math.log2(max(2.0, layer.kernel.size / error))) + 3, 2 * MOST_ITEMS)
    blocks = layer.inputs * halves + layer.groups if density == 1.0 else layer.kernel.size * halves + layer.outputs
    return smallest(lambda width: bool(binom.cdf(items - 1, width, 0.5 * density**2) <= 0.01 / blocks), items)


def _windows(items: Matrix, tolerance: float) -> Iterator[slice]:
    """Yield which paths to try: first as many as reach the tolerance about every other time, later shifted windows.

    n items reach all sums in question to within about 2^-n of their size.
    """
    units = items.shape[1]
    most = min(MOST_ITEMS, units)
    size = float(np.abs(items).max(initial=0.0))
    first = math.ceil(math.log2(max(2.0, size / tolerance))) + 1
    for count in range(min(first, most), most, MORE_ITEMS):
        yield slice(0, count)
    for start in range(0, units - most + 1 if most else 0, SHIFT):
        yield slice(start, start + most)
    yield from (slice(0, count) for count in LAST if count <= units)


def _base(items: Matrix, wanted: Matrix, window: slice) -> Mask:
    """Return which paths outside of a shifted window to keep, so that the rest is near half of the window's sum."""
    base = np.zeros(items.shape, np.bool_)
    if window.start == 0:
        return base
    rest = wanted - items[:, window].sum(axis=1) / 2
    for unit in [*range(window.start), *range(window.stop, items.shape[1])]:
        nearer = np.abs(rest - items[:, unit]) < np.abs(rest)
        base[:, unit] = nearer
        rest = rest - np.where(nearer, items[:, unit], 0.0)  # greedy: only the window is searched exactly
    return base
