"""The compiled loops of the coder: the range coder, the two models that drive it, and the tables that they read.

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


def _squash() -> NDArray[np.uint16]:
    upper = np.array(_KNOTS, np.int64)
    knots = np.concatenate([ONE - upper[:0:-1], upper])
    place, part = np.divmod(np.arange(2 * LOGIT), _STEP)
    between = (knots[place] * (_STEP - part) + knots[place + 1] * part + _STEP // 2) // _STEP
    return np.clip(between, 1, ONE - 1).astype(np.uint16)


SQUASH = _squash()
"""Probability by logit + LOGIT: uint16 (6144,), from 1 to 65535, never falling."""
_STRETCH = (np.searchsorted(SQUASH, 16 * np.arange(4096) + 8) - LOGIT).astype(np.int16)
"""Logit by the highest 12 bits of a probability, so that it stays in the cache: int16 (4096,), never falling."""

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

# a counter: 22 bits of probability, then how many entries it has seen, up to 1023
_SEEN = 1023
_RATES = ONE // (np.arange(_SEEN + 1) + 3)  # nearly the mean of what it has seen, at first bolder
_LEVELS = 48  # of a logit: 2 * LOGIT >> 7

# Where the counters of each kind start: two for each column, two for each unit, and two for the row that is coded.
_COUNTS = (64, 2, 128, 128, 2 * _LEVELS**2, 512, 256, 128, 4096, 32 * _LEVELS)
_FIRST, _ROW, _LEFT, _WANTED, _CROSS, _RINGS, _LINES, _ABOVE, _INNER, _SIZE, _COLUMN = np.cumsum((0, *_COUNTS)).tolist()

# a weight for each of the twelve kinds: more than 1/12, since few of the counters know much of any one entry
_WEIGHTS = (ONE // 7,) * 12

# What a line (a row or a column) holds so far: 0 is nothing, t is t zeros, 64 + t is t ones, 129 is both. 64 of them
# stand for more.
_MANY = 64
_BOTH = 2 * _MANY + 1


def _after(line: int, bit: int) -> int:
    """Return what a line holds with one entry more."""
    if line == 0:
        return 1 + _MANY * bit
    if line == _BOTH or bit != (line > _MANY):
        return _BOTH
    return line + (line % _MANY > 0)


_AFTER = np.array([_after(line, bit) for line in range(_BOTH + 1) for bit in (0, 1)], np.uint8)
_LOGS = [t.bit_length() for t in range(1, _MANY + 1)]
_FILL = np.array([0, *_LOGS, *(8 + log for log in _LOGS), 8], np.uint8)  # which values a line holds, and how many

# The past of a row is one integer of three parts with a bit for each of eleven places. The places, the lowest first: 1,
# 2 and 3 entries back, then width - 2, ..., width + 2 back, then 2 * width - 1, ..., 2 * width + 1 back; those that are
# not behind the entry stay empty. The parts: which entries are 1, which want a positive sign, which there are.
_WANT, _THERE = 16, 32  # where the second and the third part begin
_MIDDLE, _FAR = 3, 8  # where the second and the third group of places begin
_WITHIN = 0b110_11110_110 * (1 | 1 << _WANT | 1 << _THERE)  # no entry moves on from one group to the next
_PART = (1 << 11) - 1
_INNER_RING, _OUTER_RING = 0b000_01110_001, 0b111_10001_010
_IN_RINGS = np.array(
    [16 * (part & _INNER_RING).bit_count() + (part & _OUTER_RING).bit_count() for part in range(_PART + 1)], np.uint8
)


@compiled
def run_mixed(
    bits: Any,
    where: Any,
    known: Any,
    columns: int,
    kernel: int,
    width: int,
    fresh: int,
    stream: Any,
    most: int,
    decoding: bool,
) -> tuple[int, int, int]:
    """Code the entries into the stream, up to `most` bytes, or decode them from it; return the coder's last state.

    `known` is the side information, uint16 (n,), and `fresh` a counter that has seen nothing.
    """
    low, span, size = _START
    if decoding:
        low, span, size = _begin(stream)
    units = _COLUMN + 2 * columns
    counters = np.full(units + 2 * max(_LEVELS, columns), fresh, np.uint32)
    weights = _WEIGHTS
    width = min(width, columns + 2)  # all beyond is as far: no entry of the row is there
    margin = max(1, width)
    middle_back, far_back = max(0, width - 3), max(0, 2 * width - 2)
    middle_place, far_place = _MIDDLE + max(0, 3 - width), _FAR + max(0, 2 - 2 * width)
    entries = np.zeros(far_back + columns, np.int64)  # of the row, after so many that are not there
    column_lines = np.zeros(columns, np.uint8)
    coded = 0
    for start in range(0, bits.size, columns):
        past, row_line, unit, spot, kept = 0, 0, 0, 0, 0
        counters[_ROW : _ROW + 2] = fresh
        for column in range(columns):
            e = start + column
            about, bit = _at(known, e), 0
            sign = about & 1
            if _at(where, e):
                above = _at(bits, e - columns) if start > 0 else 0
                higher = _at(bits, e - 2 * columns) if start > columns else 0
                wants = past >> _WANT & _PART
                rings = 2 * _at(_IN_RINGS, wants) - _at(_IN_RINGS, past >> _THERE) + 70
                own = _COLUMN + 2 * column + sign
                row_level, column_level = _level(_logit(counters, _ROW + sign)), _level(_logit(counters, own))
                if kernel > 1:
                    alike, inner = unit, 64 * min(kept, 63) + min(spot, 63)
                else:
                    inside = margin <= column < columns - margin  # nearly always, and a division takes long
                    alike = _level(_around(counters, own, width) if inside else _beside(counters, own, width, columns))
                    inner = 2 * (144 * (rings >> 4) + 12 * (row_level >> 2) + (column_level >> 2)) + sign
                places = (
                    _FIRST + (about >> 1 & 63),
                    _ROW + sign,
                    own,
                    _LEFT + (higher << 6 | above << 5 | past >> 2 & 28 | past & 3),
                    _WANTED + ((wants >> 4 & 32 | wants >> 2 & 28 | wants & 3) << 1 | sign),
                    _CROSS + 2 * (_LEVELS * row_level + column_level) + sign,
                    units + 2 * alike + sign,
                    _RINGS + 2 * rings + sign,
                    _LINES + 16 * _at(_FILL, row_line) + _at(_FILL, _at(column_lines, column)),
                    _ABOVE + (32 * (above + higher) | (column & 3) << 3 | past & 7),
                    _INNER + inner,
                    _SIZE + _LEVELS * (2 * (about >> 7 & 15) + sign) + row_level,
                )
                states = _read(counters, places)
                logits = _logits(states)
                p = _at(SQUASH, LOGIT + min(max(_dot(logits, weights) >> 16, 1 - LOGIT), LOGIT - 1))
                share = (span >> 16) * p
                if decoding:
                    low, span, size, bit = _get(low, span, size, stream, share)
                    bits[e] = bit
                else:
                    bit = _at(bits, e)
                    low, span, size = _put(low, span, size, stream, share, bit)
                    if size > most:
                        return low, span, size
                rate = 12 + (12800 // (coded + 100) if coded <= 12700 else 0)
                weights = _moved(weights, logits, ((bit << 16) - p) * rate)
                _learn(counters, places[:4], states[:4], bit)
                _learn(counters, places[4:8], states[4:8], bit)
                _learn(counters, places[8:], states[8:], bit)
                coded += 1
                row_line = _at(_AFTER, 2 * row_line + bit)
                column_lines[column] = _at(_AFTER, 2 * _at(column_lines, column) + bit)
            # it wants a positive sign if it keeps one, or prunes a negative one
            entry = 1 << _THERE | (1 ^ sign ^ bit) << _WANT | bit
            entries[np.uint64(far_back + column)] = entry
            past = past << 1 & _WITHIN | entry
            past |= _at(entries, far_back - middle_back + column) << middle_place | _at(entries, column) << far_place
            kept, spot = kept + bit, spot + 1
            if spot == kernel:
                kept, spot, unit = 0, 0, unit + 1
    return low, span, size


@compiled
def _at(array: Any, place: int) -> Any:
    # unsigned: the compiler would ask of every signed place whether it counts from the end
    return np.int64(array[np.uint64(place)])


@compiled
def _stretch(counter: int) -> Any:
    return _at(_STRETCH, counter >> 20)


@compiled
def _logit(counters: Any, place: int) -> Any:
    return _stretch(_at(counters, place))


@compiled
def _level(logit: int) -> Any:
    return (logit + LOGIT) >> 7


@compiled
def _around(counters: Any, own: int, width: int) -> Any:
    """Return the mean logit of the four neighbouring columns."""
    left = _logit(counters, own - 2 * width) + _logit(counters, own - 2)
    return (left + _logit(counters, own + 2) + _logit(counters, own + 2 * width)) >> 2


@compiled
def _beside(counters: Any, own: int, width: int, columns: int) -> Any:
    """Return the mean logit of those neighbouring columns that there are."""
    total = 0
    count = 0
    for step in (-width, -1, 1, width):
        if _COLUMN <= own + 2 * step < _COLUMN + 2 * columns:
            total += _logit(counters, own + 2 * step)
            count += 1
    return total // max(1, count)


# Twelve numbers are a tuple, which the compiler keeps in registers; a loop over an array would go through memory. What
# is longer than these functions it would not inline.


@compiled
def _read(c: Any, p: Any) -> Any:
    """Return the counters at these places."""
    return (
        *(_at(c, p[0]), _at(c, p[1]), _at(c, p[2]), _at(c, p[3]), _at(c, p[4]), _at(c, p[5])),
        *(_at(c, p[6]), _at(c, p[7]), _at(c, p[8]), _at(c, p[9]), _at(c, p[10]), _at(c, p[11])),
    )


@compiled
def _logits(s: Any) -> Any:
    """Return the logits of counters."""
    return (
        *(_stretch(s[0]), _stretch(s[1]), _stretch(s[2]), _stretch(s[3]), _stretch(s[4]), _stretch(s[5])),
        *(_stretch(s[6]), _stretch(s[7]), _stretch(s[8]), _stretch(s[9]), _stretch(s[10]), _stretch(s[11])),
    )


@compiled
def _dot(x: Any, w: Any) -> Any:
    """Return the sum of the products."""
    first = x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3] + x[4] * w[4] + x[5] * w[5]
    return first + x[6] * w[6] + x[7] * w[7] + x[8] * w[8] + x[9] * w[9] + x[10] * w[10] + x[11] * w[11]


@compiled
def _moved(w: Any, x: Any, step: int) -> Any:
    """Return the weights, moved towards the entry that came."""
    return (
        *(w[0] + (x[0] * step >> 20), w[1] + (x[1] * step >> 20), w[2] + (x[2] * step >> 20)),
        *(w[3] + (x[3] * step >> 20), w[4] + (x[4] * step >> 20), w[5] + (x[5] * step >> 20)),
        *(w[6] + (x[6] * step >> 20), w[7] + (x[7] * step >> 20), w[8] + (x[8] * step >> 20)),
        *(w[9] + (x[9] * step >> 20), w[10] + (x[10] * step >> 20), w[11] + (x[11] * step >> 20)),
    )


@compiled
def _learn(c: Any, p: Any, s: Any, bit: int) -> None:
    """Move four counters towards the entry that came."""
    target = bit * ((1 << 22) - 1)
    c[np.uint64(p[0])], c[np.uint64(p[1])] = _learned(s[0], target), _learned(s[1], target)
    c[np.uint64(p[2])], c[np.uint64(p[3])] = _learned(s[2], target), _learned(s[3], target)


@compiled
def _learned(counter: int, target: int) -> Any:
    seen = counter & _SEEN
    return counter + (((target - (counter >> 10)) * _at(_RATES, seen) >> 16) << 10) + (seen < _SEEN)
