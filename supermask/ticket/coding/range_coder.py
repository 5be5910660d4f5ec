"""A binary range coder in integers (Martin 1979; carries as in Schindler's): the same bytes on every machine.

The coder holds an interval [low, low + span) of the fractions in [0, 1), both with 48 bits. An entry that is 1 takes
the first `share` of the span, one that is 0 the rest. Bytes leave at the top as soon as the span is short of 2**40, so
that a share is known to at least 40 bits. The decoder reads zeros behind the end, never fails and never waits; what it
read is held against what an encoder would have written by `check_end`.

States are passed as plain integers, which the compiler keeps in registers.
"""

from typing import Any

from supermask.errors import TicketError
from supermask.ticket.coding.compiled import compiled

_TOP = 48
_WHOLE = 1 << _TOP
_FRACTION = _WHOLE - 1
_LEAST = 1 << (_TOP - 8)
_BELOW = _LEAST - 1
READ_AHEAD = _TOP // 8

START = (0, _WHOLE, 0)
"""Low, span and number of bytes of an encoder that has written nothing."""


@compiled
def put(low: int, span: int, size: int, out: Any, share: int, bit: int) -> tuple[int, int, int]:
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
def begin(data: Any) -> tuple[int, int, int]:
    """Return value, span and number of bytes read of a decoder at the start of the data."""
    value = 0
    for i in range(READ_AHEAD):
        value = value << 8 | (data[i] if i < data.size else 0)
    return value, _WHOLE, READ_AHEAD


@compiled
def get(value: int, span: int, read: int, data: Any, share: int) -> tuple[int, int, int, int]:
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
    """Hold the last state of a decoder of so many bytes against what `finish` would have written.

    That is the first fraction of the interval that has one or two bytes more, or nothing where nothing was coded.

    Raises:
        TicketError: no encoder writes these data.

    """
    value, span, read = (int(part) for part in end)
    extra = size - (read - READ_AHEAD)
    if extra != 0 if span == _WHOLE else not (1 <= extra <= 2 and value < 1 << (_TOP - 8 * extra)):
        raise TicketError(f"its mask bytes are {size:,} that cannot be the code of any such mask.")
