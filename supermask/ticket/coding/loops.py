"""All compiled loops of the coder: the range coder, the two models that drive it, and the tables that they read.

They are in one file because the compiler's cache is checked file by file (see `supermask.compiled`). All is done in
integers, so that the bytes are the same on every machine. `counted` and `mixed` describe the models.

The range coder (Martin 1979; carries as in Schindler's) holds an interval [low, low + span) of the fractions in [0, 1),
both with 48 bits. An entry that is 1 takes the first `share` of the span, one that is 0 the rest. Bytes leave at the
top as soon as the span is below 2**40, so that a share is known to at least 40 bits. The decoder reads zeros behind the
end, never fails and never waits; `check_end` compares its last state with what an encoder would have written. States
are passed as plain integers, which the compiler keeps in registers.

The logistic function is a table of probabilities in 1/65536 by logits in 1/256 nats, a line between its knots; its
inverse is that of just this table.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled
from supermask.errors import TicketError

# ---- tables

LOGIT = 3072
"""Logits lie in [-3072, 3072): that is 12 nats, where 1/65536 cannot be told from 0."""
ONE = 1 << 16

# 65536 / (1 + exp(-t / 2)), rounded, for t = 0, ..., 24: written out, since exp differs between maths libraries
_KNOTS = (
    *(32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374),
    *(65438, 65476, 65500, 65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65536),
)
_STEP = 128  # logits from one knot to the next: half a nat


def _squash() -> NDArray[np.int32]:
    upper = np.array(_KNOTS, np.int64)
    knots = np.concatenate([ONE - upper[:0:-1], upper])
    place, part = np.divmod(np.arange(2 * LOGIT), _STEP)
    between = (knots[place] * (_STEP - part) + knots[place + 1] * part + _STEP // 2) // _STEP
    return np.clip(between, 1, ONE - 1).astype(np.int32)


SQUASH = _squash()
"""Probability by logit + LOGIT: int32 (6144,), from 1 to 65535, never falling."""
_STRETCH = (np.searchsorted(SQUASH, 16 * np.arange(4096) + 8) - LOGIT).astype(np.int32)
"""Logit by the highest 12 bits of a probability, so that it stays in the cache: int32 (4096,), never falling."""

# ---- the range coder

_TOP = 48  # bits of the span: share * count stays below 2**63 with the 16 bits of a probability
_WHOLE = 1 << _TOP
_FRACTION = _WHOLE - 1
_LEAST = 1 << (_TOP - 8)
_BELOW = _LEAST - 1
_READ_AHEAD = _TOP // 8  # bytes that the decoder holds beyond those that its interval has used up

_START = (0, _WHOLE, 0)
"""Low, span and number of bytes of an encoder that has written nothing."""


@compiled
def _put(low: int, span: int, size: int, out: Any, share: int, bit: int) -> tuple[int, int, int]:
    """Code one entry, whose 1 takes `share` of the span, 0 < share < span; return the encoder's next state."""
    if bit:
        span = share
    else:
        low += share
        span -= share
    while span < _LEAST:
        if low >= _WHOLE:
            _carry(out, size)
            low &= _FRACTION
        out[size] = low >> (_TOP - 8)
        size += 1
        low = (low & _BELOW) << 8
        span <<= 8
    return low, span, size


@compiled
def _carry(out: Any, size: int) -> None:
    """Add one to the last of the bytes written, a number of base 256."""
    place = size - 1
    while out[place] == 255:
        out[place] = 0
        place -= 1
    out[place] += 1


@compiled
def finish(low: int, span: int, size: int, out: Any) -> int:
    """Write one or two bytes more, so that zeros may follow them; return how many there are in all.

    Nothing is written where nothing was coded.
    """
    if span == _WHOLE:
        return 0
    extra = 1
    value = 0
    while True:
        step = 1 << (_TOP - 8 * extra)
        value = (low + step - 1) // step * step
        if value < low + span:
            break
        extra += 1
    if value >= _WHOLE:
        _carry(out, size)
    for i in range(extra):
        out[size + i] = (value >> (_TOP - 8 * (i + 1))) & 255
    return size + extra


@compiled
def _begin(data: Any) -> tuple[int, int, int]:
    """Return value, span and number of bytes read of a decoder at the start of the data."""
    value = 0
    for i in range(_READ_AHEAD):
        value = value << 8 | (data[i] if i < data.size else 0)
    return value, _WHOLE, _READ_AHEAD


@compiled
def _get(value: int, span: int, read: int, data: Any, share: int) -> tuple[int, int, int, int]:
    """Decode one entry, whose 1 takes `share` of the span; return the decoder's next state and the entry."""
    bit = 0
    if value < share:
        span = share
        bit = 1
    else:
        value -= share
        span -= share
    while span < _LEAST:
        value = value << 8 | (data[read] if read < data.size else 0)
        read += 1
        span <<= 8
    return value, span, read, bit


def check_end(end: tuple[int, int, int], size: int) -> None:
    """Compare the last state of a decoder of so many bytes with what `finish` would have written.

    That is the first fraction of the interval that has one or two bytes more, or nothing where nothing was coded.

    Raises:
        TicketError: no encoder writes these data.

    """
    value, span, read = (int(part) for part in end)
    extra = size - (read - _READ_AHEAD)
    if extra != 0 if span == _WHOLE else not (1 <= extra <= 2 and value < 1 << (_TOP - 8 * extra)):
        raise TicketError(f"its mask bytes are {size:,} that are not the code of any mask of its shape.")


# ---- the counted model


@compiled
def encode_urns(bits: Any, group: int, kept: Any, out: Any) -> Any:
    """Write the entries and return the number of bytes."""
    low, span, size = _START
    for urn in range(kept.size):
        start = urn * group
        left, ones = min(group, bits.size - start), kept[urn]
        for i in range(start, start + left):
            if ones == 0 or ones == left:
                break
            low, span, size = _put(low, span, size, out, span // left * ones, bits[i])
            ones -= bits[i]
            left -= 1
    return finish(low, span, size, out)


@compiled
def decode_urns(data: Any, group: int, kept: Any, bits: Any) -> Any:
    """Fill `bits`, and return the last state; any data is read without fault."""
    value, span, read = _begin(data)
    for urn in range(kept.size):
        start = urn * group
        left, ones = min(group, bits.size - start), kept[urn]
        i = start
        while 0 < ones < left:
            value, span, read, bit = _get(value, span, read, data, span // left * ones)
            bits[i] = bit
            ones -= bit
            left -= 1
            i += 1
        bits[i : i + left] = ones > 0
    return value, span, read


# ---- the mixed model

KINDS = 12
FIRST_WEIGHT = ONE // 7  # more than 1/KINDS each, since few of the counters know much of any one entry

# a counter: 22 bits of probability, then how many entries it has seen, up to 1023
_SEEN = 1023
_RATES = (ONE // (np.arange(_SEEN + 1) + 3)).astype(np.int64)  # nearly the mean of what it has seen, at first bolder
_LEVELS = 48  # of a logit: 2 * LOGIT >> 7
_LOG = np.array([min(i.bit_length(), 7) for i in range(256)])


def counters_of_kinds(rows: int, columns: int) -> tuple[int, ...]:
    """Return how many counters there are of each kind: one for each context that `_look` distinguishes."""
    return (
        *(64, 2 * rows, 2 * columns, 128, 128, 2 * _LEVELS**2, 2 * max(_LEVELS, columns), 512),
        *(256, 128, 4096, 32 * _LEVELS),
    )


@compiled
def run_mixed(
    bits: Any,
    where: Any,
    known: Any,
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

    `known` is the side information, uint16 (n,). `counters`, where each kind of them starts, and `weights` are fresh.
    """
    low, span, size = _START
    if decoding:
        low, span, size = _begin(stream)
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
            _look(bits, known, start, column, columns, kernel, width, fill, counters, starts, places)
            total = 0
            for kind in range(KINDS):
                logits[kind] = _STRETCH[counters[places[kind]] >> 20]
                total += logits[kind] * weights[kind]
            p = SQUASH[min(max(total >> 16, 1 - LOGIT), LOGIT - 1) + LOGIT]
            share = (span >> 16) * p
            if decoding:
                low, span, size, bit = _get(low, span, size, stream, share)
                bits[e] = bit
            else:
                bit = np.int64(bits[e])
                low, span, size = _put(low, span, size, stream, share, bit)
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
    known: Any,
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
    about = np.int64(known[start + column])
    sign = about & 1
    above = _at(bits, start - columns + column)
    higher = _at(bits, start - 2 * columns + column)
    last = _bits_before(bits, start, column)
    near = 0
    for step in (width, width - 1, width + 1):
        near = 2 * near + (bits[start + column - step] if 0 < step <= column else 0)
    wanted, ring, far = _wanted(bits, known, start, column, width)
    places[0] = about >> 1 & 63
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
    places[11] = _LEVELS * (2 * (about >> 7 & 15) + sign) + row_level
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
    return (_STRETCH[np.int64(counter) >> 20] + LOGIT) >> 7


@compiled
def _around(counters: Any, first: int, column: int, columns: int, width: int, sign: int) -> Any:
    """Return the level of the mean logit of the neighbouring columns."""
    total = 0
    count = 0
    for step in (-width, -1, 1, width):
        if 0 <= column + step < columns:
            total += _STRETCH[np.int64(counters[first + 2 * (column + step) + sign]) >> 20]
            count += 1
    return (total // max(1, count) + LOGIT) >> 7


@compiled
def _wanted(bits: Any, known: Any, start: int, column: int, width: int) -> tuple[int, int, int]:
    """Return which signs the neighbours want, as six bits, and sums of them (+-1 each) over two rings of neighbours."""
    e = start + column
    found = 0
    ring = 0
    far = 0
    for step in (1, width, width - 1, width + 1):
        if 0 < step <= column:
            want = _want(bits, known, e - step)
            found = 2 * found + want
            ring += 2 * want - 1
        else:
            found *= 2
    for step in (2, 2 * width):
        found = 2 * found + (_want(bits, known, e - step) if step <= column else 0)
    for step in (2, 2 * width, 2 * width - 1, 2 * width + 1, width + 2, width - 2):
        if 0 < step <= column:
            far += 2 * _want(bits, known, e - step) - 1
    return found, ring, far


@compiled
def _want(bits: Any, known: Any, e: int) -> Any:
    """Return whether an entry wants a positive sign at its place: it keeps one, or prunes a negative one."""
    return 1 ^ (np.int64(known[e]) & 1) ^ np.int64(bits[e])
