"""Compiled loops over the bit patterns of float32 scores, for the CPU.

A float32 and its bits are in the same order once the sign is seen to: the key of a score is an integer, in the order in
which scores are ranked (`_key`). Arrays are given by their addresses, in a table that is made once, because to unwrap a
dozen of them at every step would take as long as the loops. What is on the way of each step is written so that the
compiler can turn it into vector instructions: Numba makes 64-bit integers of every sum of narrower ones, which leaves
fewer lanes of a vector, so that each result is cast back at once. Every loop is exact.

The threshold of a problem, the key of its last kept entry, is found in one pass when it lies near the one of the step
before: the keys in a window around that are counted one by one, those above it together. The window is as wide as the
threshold has lately moved, twice over. Where it misses, three passes find the threshold digit by digit.
"""

from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from supermask.compiled import compiled

# columns of the table of tensors
SCORES, SIZE, MASK, FROZEN, VALUE, ROW_MAJOR, KEPT, COLUMNS = range(8)
# columns of the table of what scores are trained with, and of what a step of SGD counts for a problem
GRADIENT, SLOPE, MOMENTUM, WITHOUT_SIGN, TRAINED = range(5)
COUNTED, ABOVE, COUNTS = range(3)
MEMORY = 3
# what became of a problem
DONE, HAS_NAN, SCATTERED_TIES = range(3)

WIDEST = 1 << 17  # keys from the middle of a window to its end
_FIRST, _NARROWEST = 1 << 13, 1 << 11
_LEAST = 1 << 13  # fewer entries are counted by digits faster than a window is cleared

_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_ABOVE_ALL = 0x7F800001  # no number has this key
_SIGN = np.int32(31)
_OFFSET = 0x80000000  # makes keys positive
_CHUNK = 512  # entries that are counted before a look at whether any of them lies in the window
_PIECE = 64  # entries that are compared before a look at whether any of them has changed, or lies in the window


def _from_address(context: Any, address: Any) -> Any:
    """Say how the compiler makes a pointer of an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_from_address)


@compiled
def _bits(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.int32)


@compiled
def _bools(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.uint8)


@compiled
def _floats(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.float32)


@compiled
def _key(bits: np.int32, signed: bool) -> np.int32:
    """Return the rank of a score as an integer: greater is better; -0 equals +0."""
    if not signed:
        return np.int32(bits & _MAGNITUDE)
    flipped = np.int32(bits ^ np.int32(np.int32(bits >> _SIGN) & _MAGNITUDE))
    return np.int32(flipped + np.int32(flipped == np.int32(-1)))


@compiled
def _largest_magnitude(bits: Any) -> Any:
    """Return the largest |score| as bits; above those of infinity it is a NaN."""
    largest = np.int32(0)
    for i in range(bits.size):
        largest = np.int32(max(largest, np.int32(bits[i] & _MAGNITUDE)))
    return largest


@compiled
def _count_window(bits: Any, signed: bool, start: int, histogram: Any) -> Any:
    """Add to a histogram the keys from `start` on, one to a bin; return how many lie above, and the largest |score|.

    Few entries lie in the window, so that most chunks are only counted.
    """
    low, high = np.int32(start), np.int32(start + histogram.size - 1)
    above: Any = 0
    largest = np.int32(0)
    whole = bits.size // _CHUNK * _CHUNK
    for first in range(0, whole, _CHUNK):
        over, reached = np.int32(0), np.int32(0)
        for i in range(_CHUNK):  # a constant count: the compiler unrolls it
            key = _key(bits[first + i], signed)
            over = np.int32(over + np.int32(key > high))
            reached = np.int32(reached + np.int32(key >= low))
            largest = np.int32(max(largest, np.int32(bits[first + i] & _MAGNITUDE)))
        above += over
        if over != reached:
            _add_window(bits[first : first + _CHUNK], signed, low, high, histogram)
    for i in range(whole, bits.size):
        above += _key(bits[i], signed) > high
        largest = max(largest, bits[i] & _MAGNITUDE)
    _add_window(bits[whole:], signed, low, high, histogram)
    return above, largest


@compiled
def _add_window(bits: Any, signed: bool, low: np.int32, high: np.int32, histogram: Any) -> None:
    """Add the keys in the window to its histogram; they are few, so that most pieces are only read."""
    whole = bits.size // _PIECE * _PIECE
    for first in range(0, whole, _PIECE):
        inside = np.int32(0)
        for i in range(_PIECE):
            key = _key(bits[first + i], signed)
            inside = np.int32(inside | np.int32(key >= low) ^ np.int32(key > high))
        if inside:
            _add_each(bits[first : first + _PIECE], signed, low, high, histogram)
    _add_each(bits[whole:], signed, low, high, histogram)


@compiled
def _add_each(bits: Any, signed: bool, low: np.int32, high: np.int32, histogram: Any) -> None:
    for i in range(bits.size):
        key = _key(bits[i], signed)
        if low <= key and key <= high:
            histogram[key - low] += 1


@compiled
def _count_digit(bits: Any, signed: bool, prefix: int, shift: int, width: int, histogram: Any) -> None:
    """Add to a histogram one digit of the keys whose higher digits are `prefix`.

    The digit has `width` bits and lies `shift` bits from the end.
    """
    largest = (1 << width) - 1
    for i in range(bits.size):
        key = (np.int64(_key(bits[i], signed)) + _OFFSET) >> shift
        if key >> width == prefix:
            histogram[key & largest] += 1


@compiled
def _pick(histogram: Any, rank: int) -> tuple[int, int]:
    """Return the bin that holds the entry of this rank from the top (1 is the first), and its rank within the bin.

    The bin is -1 when there are fewer entries.
    """
    for bin_ in range(histogram.size - 1, -1, -1):
        if rank <= histogram[bin_]:
            return bin_, rank
        rank -= histogram[bin_]
    return -1, rank


@compiled
def _count_rows(rows: Any, signed: bool, low: int, histogram: Any) -> int:
    """Fill a histogram with the keys from `low` on; return how many of a problem lie above, or -1 if one is a NaN."""
    histogram[:] = 0
    above = 0
    for row in rows:
        more, largest = _count_window(_bits(row[SCORES], row[SIZE]), signed, low, histogram)
        if largest > _INFINITY:
            return -1
        above += more
    return above


@compiled
def _by_window(histogram: Any, low: int, above: int, kept: int) -> tuple[int, int, int]:
    """Return the threshold's key, its rank among its equals and their number; rank 0 if it is not found."""
    if above < 0 or kept <= above:
        return 0, 0, 0
    bin_, rank = _pick(histogram, kept - above)
    if bin_ < 0:
        return 0, 0, 0
    return low + bin_, rank, histogram[bin_]


@compiled
def _by_digits(rows: Any, signed: bool, kept: int, histogram: Any) -> tuple[int, int, int]:
    """Return the same, found in any case."""
    prefix, rank, equal = 0, kept, 0
    for shift, width in ((21, 11), (10, 11), (0, 10)):
        bins = histogram[: 1 << width]
        bins[:] = 0
        for row in rows:
            _count_digit(_bits(row[SCORES], row[SIZE]), signed, prefix, shift, width, bins)
        bin_, rank = _pick(bins, rank)
        prefix, equal = prefix << width | bin_, bins[bin_]
    return prefix - _OFFSET, rank, equal


@compiled
def _index_after(bits: Any, signed: bool, key: int, rank: int) -> tuple[int, int]:
    """Return the index after the entry that is the rank-th with this key, and the ranks that are left at the end."""
    for i in range(bits.size):
        if rank == 0:
            return i, 0
        rank -= _key(bits[i], signed) == key
    return bits.size, rank


@compiled
def _write(row: Any, signed: bool, start: int, stop: int, bound: int) -> int:
    """Keep, from `start` to `stop`, what has a greater key than `bound`; return how many entries that are.

    The masked weight follows where there is one.

    From one step to the next few entries of a mask change, so that most pieces are only read.
    """
    bits, mask = _bits(row[SCORES], row[SIZE])[start:stop], _bools(row[MASK], row[SIZE])[start:stop]
    limit = np.int32(bound)
    total: Any = 0
    whole = bits.size // _PIECE * _PIECE
    for first in range(0, whole, _PIECE):  # from 0 and a constant count of each, else the compiler makes no vectors
        changed, kept = np.uint8(0), np.uint8(0)
        for i in range(_PIECE):
            keep = np.uint8(_key(bits[first + i], signed) > limit)
            changed = np.uint8(changed | np.uint8(keep ^ mask[first + i]))
            kept = np.uint8(kept + keep)
        total += kept
        if changed:
            _write_piece(row, signed, start + first, start + first + _PIECE, limit)
    return total + _write_piece(row, signed, start + whole, stop, limit)


@compiled
def _write_piece(row: Any, signed: bool, start: int, stop: int, limit: np.int32) -> int:
    bits, mask = _bits(row[SCORES], row[SIZE])[start:stop], _bools(row[MASK], row[SIZE])[start:stop]
    kept = 0
    for i in range(bits.size):
        mask[i] = _key(bits[i], signed) > limit
        kept += mask[i]
    if row[VALUE]:
        frozen, value = _bits(row[FROZEN], row[SIZE])[start:stop], _bits(row[VALUE], row[SIZE])[start:stop]
        for i in range(bits.size):
            value[i] = frozen[i] if mask[i] else 0
    return kept


@compiled
def _write_all(rows: Any, signed: bool, key: int, rank: int, equal: int) -> int:
    """Write the masks of a problem; return how many entries they keep, or -1 where ties lie scattered."""
    if rank < equal:
        for row in rows:
            if not row[ROW_MAJOR]:
                return -1
    total = 0
    for row in rows:
        cut = row[SIZE] if rank else 0
        if rank and rank < equal:
            cut, rank = _index_after(_bits(row[SCORES], row[SIZE]), signed, key, rank)
        row[KEPT] = _write(row, signed, 0, cut, key - 1) + _write(row, signed, cut, row[SIZE], key)
        total += row[KEPT]
    return total


@compiled
def _reach(rows: Any, memory: Any) -> int:
    """Return how far from the last key the threshold is looked for, or 0 where digits find it faster."""
    return memory[1] if rows[:, SIZE].sum() >= _LEAST else 0


@compiled
def _select(rows: Any, signed: bool, kept: int, memory: Any, count: Any, window: Any) -> int:
    """Write the masks of one problem; return what became of it.

    `memory` is its last key, how far from it this one is looked for, or 0, and whether the last one was found there.
    """
    last, reach = memory[0], _reach(rows, memory)
    key, rank, equal = 0, 0, 0
    if reach:
        low, histogram = last - reach, window[: 2 * reach]
        above = count[ABOVE] if count[COUNTED] else _count_rows(rows, signed, low, histogram)
        key, rank, equal = _by_window(histogram, low, above, kept)
    found = rank > 0
    if found:
        written = _write_all(rows, signed, key, rank, equal)
        # scores that were changed after they had been counted, which torch was not told, keep another number
        found = written == kept or (written < 0 and not count[COUNTED])
    if not found:
        for row in rows:
            if _largest_magnitude(_bits(row[SCORES], row[SIZE])) > _INFINITY:
                return HAS_NAN
        if kept:
            key, rank, equal = _by_digits(rows, signed, kept, window)
        else:
            key = _ABOVE_ALL
        written = _write_all(rows, signed, key, rank, equal)
    memory[2] = found
    if reach:  # one great move alone only doubles the reach, which then shrinks step by step
        reach = max(min(2 * abs(key - last), 2 * reach), reach * 9 // 10)
        memory[1] = min(max(reach, _NARROWEST), WIDEST)
    else:
        memory[1] = _FIRST
    memory[0] = key
    return SCATTERED_TIES if written < 0 else DONE


@compiled
def select(
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    kept: NDArray[np.int64],
    signed: bool,
    memories: NDArray[np.int64],
    counts: NDArray[np.int64],
    windows: NDArray[np.int32],
    outcomes: NDArray[np.int64],
) -> bool:
    """Write the masks of all problems, and the masked weights that follow them; return whether all are DONE.

    Args:
        rows: (tensors, COLUMNS), problem by problem: addresses of float32 scores, of the mask, and of the float32
            frozen and masked weights, or 0, with their common size; whether their common order is row-major; the
            number of entries that the mask keeps, which is written.
        ends: (problems,), the row after the last of each.
        kept: (problems,), how many entries each keeps.
        signed: whether scores are ranked with their sign or by magnitude.
        memories: (problems, MEMORY), zero at first.
        counts: (problems, COUNTS), what `update` has counted since the scores last changed; 0 is nothing.
        windows: (1 or problems, 2 WIDEST), scratch; what `update` has written where it has counted.
        outcomes: (problems,), written: DONE; HAS_NAN or SCATTERED_TIES, which leave the masks as they were.

    """
    first, done = 0, True
    for i in range(ends.size):
        window = windows[min(i, len(windows) - 1)]
        outcomes[i] = _select(rows[first : ends[i]], signed, kept[i], memories[i], counts[i], window)
        done = done and outcomes[i] == DONE
        first = ends[i]
    return done


@compiled
def _descend(
    score: Any, gradient: Any, slope: Any, velocity: Any, plain: bool, rate: Any, momentum: Any, decay: Any, ahead: Any
) -> None:
    """Take a step of SGD in place; the gradient of a score is gradient x slope, x its sign unless that is `plain`."""
    for i in range(score.size):
        old = score[i]
        sign = np.float32(1) if plain else np.float32(old > 0) - np.float32(old < 0)
        move = gradient[i] * slope[i] * sign + decay * old
        velocity[i] = momentum * velocity[i] + move
        # ahead is 0 without Nesterov's momentum: the velocity alone
        score[i] = old - rate * (move + momentum * velocity[i] if ahead else velocity[i])


@compiled
def update(
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    trained: NDArray[np.int64],
    signed: bool,
    rate: float,
    momentum: float,
    decay: float,
    ahead: bool,
    memories: NDArray[np.int64],
    counts: NDArray[np.int64],
    windows: NDArray[np.int32],
) -> None:
    """Take a step of SGD on the scores of all problems, and count for the selection that follows.

    Args:
        rows: as `select` has them.
        ends: as `select` has them.
        trained: (tensors, TRAINED): addresses of the gradient of the masked weight, of the slope, which the gradient
            is multiplied with on its way to the score, and of the momentum, which all lie as the scores do; and
            whether the slope is without the sign of the score.
        signed: whether scores are ranked with their sign or by magnitude.
        rate: the learning rate.
        momentum: of SGD.
        decay: what of a score is added to its gradient.
        ahead: whether the momentum is Nesterov's.
        memories: as `select` has them.
        counts: (problems, COUNTS), written.
        windows: (problems, 2 WIDEST), written.

    """
    numbers = np.float32(rate), np.float32(momentum), np.float32(decay), ahead
    first = 0
    for i in range(ends.size):
        reach = _reach(rows[first : ends[i]], memories[i])
        low, histogram = memories[i, 0] - reach, windows[i, : 2 * reach]
        histogram[:] = 0
        above, sound = 0, True
        for place in range(first, ends[i]):
            row, other = rows[place], trained[place]
            size = row[SIZE]
            bits, score = _bits(row[SCORES], size), _floats(row[SCORES], size)
            gradient, slope = _floats(other[GRADIENT], size), _floats(other[SLOPE], size)
            velocity = _floats(other[MOMENTUM], size)
            for start in range(0, size, _CHUNK):  # counted while they are in the nearest cache
                part = slice(start, min(start + _CHUNK, size))
                own = score[part], gradient[part], slope[part], velocity[part], other[WITHOUT_SIGN] != 0
                _descend(*own, *numbers)
                if reach:
                    more, largest = _count_window(bits[part], signed, low, histogram)
                    above += more
                    sound = sound and largest <= _INFINITY
        counts[i, COUNTED], counts[i, ABOVE] = reach > 0, above if sound else -1
        first = ends[i]


@compiled
def write_masked(frozen: NDArray[Any], mask: NDArray[np.bool_], out: NDArray[Any]) -> None:
    """Write the bits of floats where the mask is True, and those of +0 elsewhere."""
    for i in range(frozen.size):
        out[i] = frozen[i] if mask[i] else 0


@compiled
def write_signed_products(gradient: int, frozen: int, scores: int, out: int, size: int) -> None:
    """Write gradient x frozen x sign(scores), the sign of 0 being 0; float32, given by their addresses."""
    slope, weight, score, product = (
        _floats(gradient, size),
        _floats(frozen, size),
        _floats(scores, size),
        _floats(out, size),
    )
    for i in range(size):
        sign = np.float32(score[i] > 0) - np.float32(score[i] < 0)
        product[i] = slope[i] * weight[i] * sign


@compiled
def write_signs(bits: NDArray[np.uint8], magnitude: np.float32, out: NDArray[np.float32]) -> None:
    """Write plus the magnitude where the bit is set, lowest bit of a byte first, and minus the magnitude elsewhere."""
    for i in range(out.size):
        out[i] = magnitude if (bits[i >> 3] >> (i & 7)) & 1 else -magnitude
