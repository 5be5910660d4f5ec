"""Pensia's diamonds: every weight of the target becomes a subset sum over the paths of its input's block.

Pensia, Rajput, Nagle, Vishwakarma, Papailiopoulos, "Optimal lottery tickets via subset sum", NeurIPS 2020: the linear
structure and the ReLU structure of the proof of theorem 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.constructions.layout import RandomPair
from theory.subset_sum import solve
from theory.target import Layer, Matrix

Mask = NDArray[np.bool_]

MOST_ITEMS = 32
"""Items that one subset sum is given at most: 2^16 half-sums."""

MORE_ITEMS = 4
"""Items by which a subset sum grows that misses its share; each four make it about 16 times better."""


@dataclass(frozen=True, eq=False)
class PairMasks:
    """Which weights of a pair of random layers stay, and how far each weight of the target is missed.

    Attributes:
        first: bool (hidden, inputs).
        offset: bool (hidden,), None without a bias.
        second: bool (outputs, hidden).
        errors: float64 (outputs, inputs + 1 with a bias): the larger of the two halves' errors.

    """

    first: Mask
    offset: Mask | None
    second: Mask
    errors: Matrix


def prune_pair(layer: Layer, pair: RandomPair, *, halves: Sequence[int], tolerance: float) -> PairMasks:
    """Choose the paths of one layer.

    Args:
        layer: of the target.
        pair: its two random layers.
        halves: signs of the input that are served: (1, -1) for any input, (1,) where inputs are not negative, (0,) in
            a linear network, where one path serves both.
        tolerance: error of a weight above which more items are spent on it.

    """
    first, second = np.zeros(pair.first.shape, np.bool_), np.zeros(pair.second.shape, np.bool_)
    offset = None if pair.offset is None else np.zeros(pair.offset.shape, np.bool_)
    columns = np.concatenate([layer.weight, layer.offset[:, None]], axis=1) if offset is not None else layer.weight
    errors = np.zeros(columns.shape)
    for column in range(columns.shape[1]):
        for half in _halves(column, layer, halves):
            units, items = _items(pair, column, layer.inputs, half)
            wanted = columns[:, column] * (half or 1)
            chosen, missed = _choose(items, wanted, tolerance)
            second[:, units] |= chosen
            errors[:, column] = np.maximum(errors[:, column], missed)
            used = units[chosen.any(axis=0)]
            if offset is not None and column == layer.inputs:
                offset[used] = True
            else:
                first[used, column] = True
    return PairMasks(first, offset, second, errors)


def _halves(column: int, layer: Layer, halves: Sequence[int]) -> Iterator[int]:
    """Yield the signs that a column needs: the bias's input is the constant 1."""
    if column < layer.inputs or 0 in halves:
        yield from halves
    else:
        yield 1


def _items(pair: RandomPair, column: int, inputs: int, half: int) -> tuple[NDArray[np.int64], Matrix]:
    """Return the hidden units of a block that serve a half, and the products of their paths, (outputs, units).

    A unit with first hop u > 0 is active for x > 0 and gives u v x; one with u < 0 for x < 0 and gives |u| v |x|.
    """
    block = pair.block(column)
    hop = pair.offset[block] if column == inputs and pair.offset is not None else pair.first[block, column]
    serves = np.flatnonzero(hop * half > 0) if half else np.arange(len(hop))
    units = np.arange(block.start, block.stop)[serves]
    strength = np.abs(hop[serves]) if half else hop[serves]
    return units, pair.second[:, units] * strength


def _choose(items: Matrix, wanted: Matrix, tolerance: float) -> tuple[Mask, Matrix]:
    """Return which items each output keeps, (outputs, units), and its error: few items first, more where they miss."""
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
