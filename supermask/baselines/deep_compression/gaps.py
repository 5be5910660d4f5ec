"""Where the kept weights of a layer lie, as differences: a step of bounded size for each, and fillers between.

Han, Mao & Dally 2016, section 2 and figure 2: a difference that is larger than `b` bits can say is bridged by filler
zeros, entries of value zero at the largest difference. `b` bits say the differences 1 to 2^b.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Gaps:
    """The entries of one layer in row-major order.

    Attributes:
        steps: int64 (entries,), from 0 to 2^bits - 1: one less than the difference to the entry before. The first is
            counted from before the first weight.
        fillers: bool (entries,), True where the entry is a filler zero.

    """

    steps: Integers
    fillers: NDArray[np.bool_]


def to_gaps(places: Integers, bits: int) -> Gaps:
    """Return the entries of kept weights.

    Args:
        places: flat indices of the kept weights, int64 (n,), rising.
        bits: of a difference.

    """
    steps = np.diff(places, prepend=-1) - 1
    bridges = steps >> bits
    counts = bridges + 1
    last = np.cumsum(counts) - 1
    every = np.full(int(counts.sum()), (1 << bits) - 1, np.int64)
    every[last] = steps - (bridges << bits)
    fillers = np.ones(len(every), bool)
    fillers[last] = False
    return Gaps(every, fillers)


def to_places(gaps: Gaps, size: int) -> Integers:
    """Return the flat indices of the kept weights, int64 (n,).

    Args:
        gaps: the entries of a layer.
        size: weights of the layer.

    Raises:
        SupermaskError: the last entry lies outside the layer.

    """
    places = np.cumsum(gaps.steps + 1) - 1
    if len(places) and places[-1] >= size:
        raise SupermaskError(f"its entries reach to weight {int(places[-1]) + 1:,} of a layer of {size:,}.")
    return places[~gaps.fillers]
