"""Each weight of a layer as a subset sum of random numbers: how they are drawn, and which sum is chosen."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from supermask.random.stream import Floats, philox
from theory.subset_sum import solve

ITEMS, EPSILON = 21, 0.01
"""Numbers per weight and the error allowed, as published."""

Masks = NDArray[np.bool_]


def row_draws(layers: Sequence[Floats], seed: int) -> list[Floats]:
    """Return random numbers (rows, 1, 21) for each layer: one draw per output row, which all its weights share.

    As in the authors' code: uniform on the range of all weights of the network, from NumPy's legacy generator.
    """
    generator = np.random.RandomState(seed)
    low, high = min(layer.min() for layer in layers), max(layer.max() for layer in layers)
    return [generator.uniform(low, high, (len(layer), 1, ITEMS)) for layer in layers]


def fresh_draws(layers: Sequence[Floats], seed: int) -> list[Floats]:
    """Return random numbers (rows, columns, 21) for each layer: a draw of its own for each weight.

    As Lueker's theorem has them: uniform on [-1, 1] in the unit of twice the layer's largest weight, in which no weight
    exceeds 1/2.
    """
    generator = np.random.Generator(philox(seed, "pensia_weights"))
    return [2 * np.abs(layer).max() * generator.uniform(-1, 1, (*layer.shape, ITEMS)) for layer in layers]


def smallest_error(items: Floats, weights: Floats) -> Masks:
    """Return the best masks (rows, columns, n) for items (rows, columns or 1, n) and weights (rows, columns)."""
    each = np.broadcast_to(items, (*weights.shape, items.shape[-1]))
    return solve(each.reshape(weights.size, -1), weights.reshape(-1), threads=1).mask.reshape(each.shape)


def fewest_terms(items: Floats, weights: Floats) -> Masks:
    """Return masks (rows, columns, n) of fewest terms within EPSILON, for items (rows, 1, n); empty where none is."""
    return np.stack([_fewest_of_row(mine, row) for (mine,), row in zip(items, weights, strict=True)])


def _fewest_of_row(items: Floats, weights: Floats) -> Masks:
    """Go through the sums of 0, 1, 2, ... terms, which all weights share; of equally many terms take the closest."""
    mask = np.zeros((len(weights), len(items)), np.bool_)
    left = np.arange(len(weights))
    for terms in range(len(items) + 1):
        subsets = np.array(list(combinations(range(len(items)), terms)), dtype=np.intp)
        sums = items[subsets].sum(1)
        order = np.argsort(sums)
        above = np.searchsorted(sums[order], weights[left]).clip(max=len(sums) - 1)
        near = order[np.stack([above, (above - 1).clip(min=0)])]
        errors = np.abs(sums[near] - weights[left])
        best = near[errors.argmin(0), np.arange(len(left))]
        found = errors.min(0) <= EPSILON
        mask[left[found, None], subsets[best[found]]] = True
        left = left[~found]
        if not len(left):
            break
    return mask


Draw = Callable[[Sequence[Floats], int], list[Floats]]
Choice = Callable[[Floats, Floats], Masks]
METHODS: Mapping[str, tuple[Draw, Choice]] = {
    "smallest error, draws shared by rows": (row_draws, smallest_error),
    "fewest terms, draws shared by rows": (row_draws, fewest_terms),
    "smallest error, fresh draws": (fresh_draws, smallest_error),
}
