"""Compiled loops over the bit patterns of float32 scores, for the CPU.

A float32 and its bits are in the same order once the sign is seen to: the key of a score is an int32, in the order in
which scores are ranked (`_key`). Every loop below is exact; those that are on the way of each step are written so that
the compiler can turn them into vector instructions.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.int32]
Histogram = NDArray[np.int32]

_MAGNITUDE = np.int32(0x7FFFFFFF)
_SIGN = np.int32(31)
_CHUNK = 512
"""Entries that are counted before a look at whether any of them lies in the window."""


def compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)


@compiled
def _key(bits: np.int32, signed: bool) -> np.int32:
    """Return the rank of a score as an integer: greater is better; -0 equals +0."""
    if not signed:
        return bits & _MAGNITUDE
    flipped = bits ^ ((bits >> _SIGN) & _MAGNITUDE)
    return flipped + np.int32(flipped == np.int32(-1))


@compiled
def largest_magnitude(bits: Bits) -> Any:
    """Return the largest |score| as bits; above those of infinity it is a NaN."""
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & _MAGNITUDE)
    return largest


@compiled
def count_window(bits: Bits, signed: bool, low: Any, histogram: Histogram) -> Any:
    """Add to a histogram the keys from `low` on, one to a bin; return how many lie above, and the largest |score|.

    Few entries lie in the window, so that most chunks are only counted.
    """
    low, high = np.int32(low), np.int32(low + histogram.size - 1)
    above: Any = 0
    largest = np.int32(0)
    whole = bits.size // _CHUNK * _CHUNK
    for start in range(0, whole, _CHUNK):
        over, reached = np.int32(0), np.int32(0)
        for i in range(_CHUNK):  # a constant count: the compiler unrolls it
            key = _key(bits[start + i], signed)
            over += np.int32(key > high)
            reached += np.int32(key >= low)
            largest = max(largest, bits[start + i] & _MAGNITUDE)
        above += over
        if over != reached:
            _add_window(bits[start : start + _CHUNK], signed, low, high, histogram)
    for i in range(whole, bits.size):
        above += _key(bits[i], signed) > high
        largest = max(largest, bits[i] & _MAGNITUDE)
    _add_window(bits[whole:], signed, low, high, histogram)
    return above, largest


@compiled
def _add_window(bits: Bits, signed: bool, low: np.int32, high: np.int32, histogram: Histogram) -> None:
    for i in range(bits.size):
        key = _key(bits[i], signed)
        if low <= key and key <= high:
            histogram[key - low] += 1


@compiled
def count_digit(bits: Bits, signed: bool, prefix: int, shift: int, width: int, histogram: Histogram) -> None:
    """Add to a histogram one digit of the keys whose higher digits are `prefix`; 2^31 is added to a key first.

    The digit has `width` bits and lies `shift` bits from the end.
    """
    largest = (1 << width) - 1
    for i in range(bits.size):
        key = (np.int64(_key(bits[i], signed)) + 0x80000000) >> shift
        if key >> width == prefix:
            histogram[key & largest] += 1


@compiled
def pick(histogram: Histogram, rank: int) -> tuple[int, int]:
    """Return the bin that holds the entry of this rank from the top (1 is the first), and its rank within the bin.

    The bin is -1 when there are fewer entries.
    """
    for bin_ in range(histogram.size - 1, -1, -1):
        if rank <= histogram[bin_]:
            return bin_, rank
        rank -= histogram[bin_]
    return -1, rank


@compiled
def index_after(bits: Bits, signed: bool, key: int, rank: int) -> tuple[int, int]:
    """Return the index after the entry that is the rank-th with this key, and the ranks that are left at the end."""
    for i in range(bits.size):
        if rank == 0:
            return i, 0
        rank -= _key(bits[i], signed) == key
    return bits.size, rank


@compiled
def write_mask(bits: Bits, signed: bool, key: Any, cut: int, mask: NDArray[np.bool_]) -> None:
    """Keep what lies above a key, and what equals it at an index below `cut`."""
    key = np.int32(key)
    for i in range(cut):
        mask[i] = _key(bits[i], signed) >= key
    for i in range(cut, bits.size):
        mask[i] = _key(bits[i], signed) > key


@compiled
def write_masked(frozen: NDArray[Any], mask: NDArray[np.bool_], out: NDArray[Any]) -> None:
    """Write the bits of floats where the mask is True, and those of +0 elsewhere."""
    for i in range(frozen.size):
        out[i] = frozen[i] if mask[i] else 0


@compiled
def write_signed_products(
    gradient: NDArray[Any], frozen: NDArray[Any], scores: NDArray[Any], out: NDArray[Any]
) -> None:
    """Write gradient x frozen x sign(scores), the sign of 0 being 0."""
    for i in range(gradient.size):
        sign = np.float32(scores[i] > 0) - np.float32(scores[i] < 0)
        out[i] = gradient[i] * frozen[i] * sign


@compiled
def write_signs(bits: NDArray[np.uint8], magnitude: np.float32, out: NDArray[np.float32]) -> None:
    """Write plus the magnitude where the bit is set, lowest bit of a byte first, and minus the magnitude elsewhere."""
    for i in range(out.size):
        out[i] = magnitude if (bits[i >> 3] >> (i & 7)) & 1 else -magnitude
