"""Pensia et al. 2020: a weight of the target becomes a subset sum over the paths of its input's block."""

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import binom

from theory.constructions.layout import Mask
from theory.constructions.prune import Choices
from theory.subset_sum import solve
from theory.target import Layer, Matrix

MOST_ITEMS = 32
"""Items that one subset sum is given at most: 2^16 half-sums."""
MORE_ITEMS = 4
"""Items by which a subset sum grows that misses its share; each four make it about 16 times better."""


def choose_subsets(choices: Choices, tolerance: float) -> tuple[Mask, Matrix]:
    """Meet each weight by the best subset of its paths: few paths first, more of them where it misses its share."""
    items, wanted = choices.items, choices.wanted
    chosen, errors = np.zeros(items.shape, np.bool_), np.abs(wanted)
    left = np.flatnonzero(errors > tolerance)
    for count in _counts(items, tolerance):
        if not len(left):
            break
        solution = solve(items[left, :count], wanted[left])
        better = solution.error < errors[left]
        chosen[left[better]] = False
        chosen[left[better], :count] = solution.mask[better]
        errors[left[better]] = solution.error[better]
        left = left[errors[left] > tolerance]
    return chosen, errors


def subset_width(layer: Layer, error: float, halves: int) -> int:
    """Return hidden units per input with which all blocks have items enough with probability 0.99.

    The best of 2^n subset sums misses by about 2^-n, and the worst of N by N times as much (measured: `theory.laws`
    has the law), so n = log2(N / error) + 3 items. Half of a block's units have the sign that is wanted.

    Args:
        layer: of the target.
        error: that a weight may have, over the scale.
        halves: signs of the input that are served.

    """
    items = math.ceil(math.log2(max(2.0, layer.kernel.size / error))) + 3
    blocks = layer.inputs * halves + 1
    width = items
    while binom.cdf(items - 1, width, 0.5) > 0.01 / blocks:
        width += 1
    return width


def _counts(items: Matrix, tolerance: float) -> Iterator[int]:
    """Yield how many items to try: first as many as reach the tolerance about every other time.

    n items reach all sums in question to within about 2^-n of their size.
    """
    most = min(MOST_ITEMS, items.shape[1])
    size = float(np.abs(items).max(initial=0.0))
    first = math.ceil(math.log2(max(2.0, size / tolerance))) + 1
    yield from range(min(first, most), most, MORE_ITEMS)
    if most:
        yield most
