"""The loop of the mixed model: the surroundings of each entry, their counters, and how these are mixed and learn."""

from typing import Any

import numpy as np

from supermask.ticket.coding.compiled import compiled
from supermask.ticket.coding.logistic import LOGIT, ONE, SQUASH, STRETCH
from supermask.ticket.coding.range_coder import START, begin, get, put

KINDS = 12
FIRST_WEIGHT = ONE // 7

# a counter: 22 bits of probability, then how many entries it has seen, up to 1023
_SEEN = 1023
_RATES = (ONE // (np.arange(_SEEN + 1) + 3)).astype(np.int64)
_LEVELS = 48
_LOG = np.array([min(i.bit_length(), 7) for i in range(256)])


def sizes(rows: int, columns: int) -> tuple[int, ...]:
    """Return how many counters there are of each kind."""
    return (
        *(64, 2 * rows, 2 * columns, 128, 128, 2 * _LEVELS**2, 2 * max(_LEVELS, columns), 512),
        *(256, 128, 4096, 32 * _LEVELS),
    )


@compiled
def run(
    bits: Any,
    where: Any,
    hints: Any,
    columns: int,
    kernel: int,
    width: int,
    counters: Any,
    starts: Any,
    weights: Any,
    stream: Any,
    most: int,
    decoding: bool,
) -> tuple[int, int, int]:
    """Code the entries into the stream, up to `most` bytes, or decode them from it; return the coder's last state.

    The arguments are those of `mixing.encode`; `counters`, `starts` of their kinds and `weights` are fresh.
    """
    low, span, size = START
    if decoding:
        low, span, size = begin(stream)
    places, logits = np.empty(KINDS, np.int64), np.empty(KINDS, np.int64)
    column_ones, column_seen = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    coded = 0
    for start in range(0, bits.size, columns):
        row_ones, row_seen = 0, 0
        for column in range(columns):
            e = start + column
            if where[e] == 0:
                continue
            fill = 16 * _fill(row_ones, row_seen) + _fill(column_ones[column], column_seen[column])
            _look(bits, hints, start, column, columns, kernel, width, fill, counters, starts, places)
            total = 0
            for kind in range(KINDS):
                logits[kind] = STRETCH[counters[places[kind]] >> 20]
                total += logits[kind] * weights[kind]
            p = SQUASH[min(max(total >> 16, 1 - LOGIT), LOGIT - 1) + LOGIT]
            share = (span >> 16) * p
            if decoding:
                low, span, size, bit = get(low, span, size, stream, share)
                bits[e] = bit
            else:
                bit = np.int64(bits[e])
                low, span, size = put(low, span, size, stream, share, bit)
                if size > most:
                    return low, span, size
            _learn(counters, places, weights, logits, bit, (bit << 16) - p, 12 + 12800 // (coded + 100))
            coded += 1
            row_ones += bit
            row_seen += 1
            column_ones[column] += bit
            column_seen[column] += 1
    return low, span, size


@compiled
def _learn(counters: Any, places: Any, weights: Any, logits: Any, bit: int, error: int, rate: int) -> None:
    """Move counters and weights towards the entry that came."""
    target = bit * ((1 << 22) - 1)
    for kind in range(KINDS):
        weights[kind] += (logits[kind] * error * rate) >> 20
        counter = np.int64(counters[places[kind]])
        p, seen = counter >> 10, counter & _SEEN
        p += ((target - p) * _RATES[seen]) >> 16
        counters[places[kind]] = p << 10 | min(seen + 1, _SEEN)


@compiled
def _look(
    bits: Any,
    hints: Any,
    start: int,
    column: int,
    columns: int,
    kernel: int,
    width: int,
    fill: int,
    counters: Any,
    starts: Any,
    places: Any,
) -> None:
    """Find the counter of each kind for the entry of this column in the row that starts at `start`."""
    hint = np.int64(hints[start + column])
    sign = hint & 1
    above = _at(bits, start - columns + column)
    higher = _at(bits, start - 2 * columns + column)
    last = _bits_before(bits, start, column)
    near = 0
    for step in (width, width - 1, width + 1):
        near = 2 * near + (bits[start + column - step] if 0 < step <= column else 0)
    wanted, ring, far = _wanted(bits, hints, start, column, width)
    places[0] = hint >> 1 & 63
    places[1] = 2 * (start // columns) + sign
    places[2] = 2 * column + sign
    places[3] = (last & 3) + 4 * near + 32 * above + 64 * higher
    places[4] = 2 * wanted + sign
    row_level = _level(counters[starts[1] + places[1]])
    column_level = _level(counters[starts[2] + places[2]])
    places[5] = 2 * (_LEVELS * row_level + column_level) + sign
    places[7] = 2 * (16 * (ring + 4) + far + 6) + sign
    places[8] = fill
    places[9] = 32 * min(above + higher, 2) + 8 * (column & 3) + last
    if kernel > 1:
        places[6] = 2 * (column // kernel) + sign
        spot = column % kernel
        kept = 0
        for e in range(start + column - spot, start + column):
            kept += bits[e]
        places[10] = 64 * min(kept, 63) + min(spot, 63)
    else:
        places[6] = 2 * _around(counters, starts[2], column, columns, width, sign) + sign
        places[10] = 2 * (144 * (ring + 4) + 12 * (row_level >> 2) + (column_level >> 2)) + sign
    places[11] = _LEVELS * (2 * (hint >> 7 & 15) + sign) + row_level
    for kind in range(KINDS):
        places[kind] += starts[kind]


@compiled
def _fill(ones: int, seen: int) -> Any:
    """Say whether all, none or some of the entries seen are 1, and, of all and none, how many there were."""
    if ones == 0:
        return _LOG[min(seen, 255)]
    return 8 + _LOG[min(seen, 255)] if ones == seen else 8


@compiled
def _at(bits: Any, e: int) -> Any:
    return np.int64(bits[e]) if e >= 0 else 0


@compiled
def _bits_before(bits: Any, start: int, column: int) -> int:
    """Return the last three entries of the row as a number, the last one lowest."""
    found = 0
    for step in range(min(3, column), 0, -1):
        found = 2 * found + bits[start + column - step]
    return found


@compiled
def _level(counter: int) -> Any:
    return (STRETCH[np.int64(counter) >> 20] + LOGIT) >> 7


@compiled
def _around(counters: Any, first: int, column: int, columns: int, width: int, sign: int) -> Any:
    """Return the level of the mean logit of the neighbouring columns."""
    total = 0
    count = 0
    for step in (-width, -1, 1, width):
        if 0 <= column + step < columns:
            total += STRETCH[np.int64(counters[first + 2 * (column + step) + sign]) >> 20]
            count += 1
    return (total // max(1, count) + LOGIT) >> 7


@compiled
def _wanted(bits: Any, hints: Any, start: int, column: int, width: int) -> tuple[int, int, int]:
    """Return which signs the neighbours want, as six bits, and sums of them (+-1 each) over two rings of neighbours."""
    e = start + column
    found = 0
    ring = 0
    far = 0
    for step in (1, width, width - 1, width + 1):
        if 0 < step <= column:
            want = _want(bits, hints, e - step)
            found = 2 * found + want
            ring += 2 * want - 1
        else:
            found *= 2
    for step in (2, 2 * width):
        found = 2 * found + (_want(bits, hints, e - step) if step <= column else 0)
    for step in (2, 2 * width, 2 * width - 1, 2 * width + 1, width + 2, width - 2):
        if 0 < step <= column:
            far += 2 * _want(bits, hints, e - step) - 1
    return found, ring, far


@compiled
def _want(bits: Any, hints: Any, e: int) -> Any:
    """Return whether an entry wants a positive sign at its place: it keeps one, or prunes a negative one."""
    return 1 ^ (np.int64(hints[e]) & 1) ^ np.int64(bits[e])
