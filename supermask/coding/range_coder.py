"""A binary range coder in integers (Martin 1979; carries as in Schindler's): the same bytes on every machine.

The coder holds an interval [low, low + span) of the fractions in [0, 1), both with 48 bits. An entry that is 1 takes
the first `share` of the span, one that is 0 the rest. Bytes leave at the top as soon as the span is short of 2**40, so
that a share is known to at least 40 bits. The decoder reads zeros behind the end, never fails and never waits; what it
read is held against what an encoder would have written by `checked`.

States are passed as plain integers, which the compiler keeps in registers.
"""

from typing import Any

from supermask.coding.compiled import compiled
from supermask.errors import TicketError

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
    """Write the fewest bytes that any continuation decodes alike after; return how many there are in all."""
    extra = 0
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


def checked(read: int, size: int) -> None:
    """Hold the bytes that a decoder has read against those that there are.

    An encoder leaves out none of what the decoder reads but the last bytes of what it reads ahead.

    Raises:
        TicketError: the data are longer or shorter than what any encoder writes.

    """
    if not READ_AHEAD - 2 <= read - size <= READ_AHEAD:
        raise TicketError(f"its mask bytes are {size:,}, where {max(0, read - READ_AHEAD):,} or a few more are due.")
