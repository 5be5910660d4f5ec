"""Exact selection by counting bit patterns, compiled for the CPU.

A float32 and its bits, read as an unsigned integer, are in the same order once the sign is seen to (`_key`). The k-th
largest key is found from its upper and then its lower half by a histogram of each; a last pass writes the mask.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)
_HALF = np.uint32(16)
_LOW = np.uint32(0xFFFF)
_BINS = 1 << 16


def _compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(function)


@_compiled
def _key(bits: np.uint32) -> np.uint32:
    """Return the bits of a float32 mapped so that unsigned order is the order of the numbers; -0 becomes +0."""
    if bits == _SIGN:
        return _SIGN
    if bits & _SIGN:
        return ~bits
    return bits | _SIGN


@_compiled
def _bin_of_kth(histogram: NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return the bin that holds the k-th largest entry (k >= 1), and its rank from the top of that bin."""
    for bin_ in range(_BINS - 1, -1, -1):
        if k <= histogram[bin_]:
            return bin_, k
        k -= histogram[bin_]
    return 0, 0  # not reached: the histogram holds at least k entries


@_compiled
def select(bits: NDArray[np.uint32], k: int, mask: NDArray[np.bool_]) -> int:
    """Write into `mask` which k entries are largest, ties to the lowest index; return how many are NaN.

    With a NaN among them the mask is left unfinished.
    """
    histogram = np.zeros(_BINS, np.int64)
    nans = 0
    for i in range(bits.size):
        nans += (bits[i] & ~_SIGN) > _INFINITY
        histogram[_key(bits[i]) >> _HALF] += 1
    if nans:
        return nans
    if k == 0:
        mask[:] = False
        return 0
    upper, rank = _bin_of_kth(histogram, k)
    histogram[:] = 0
    for i in range(bits.size):
        key = _key(bits[i])
        if key >> _HALF == upper:
            histogram[key & _LOW] += 1
    lower, ties = _bin_of_kth(histogram, rank)
    threshold = (np.uint32(upper) << _HALF) | np.uint32(lower)
    for i in range(bits.size):
        key = _key(bits[i])
        tie = key == threshold and ties > 0
        ties -= tie
        mask[i] = key > threshold or tie
    return 0
