"""The counted model: entries are draws without replacement from an urn whose content is known.

With k of the n entries kept this takes log2 C(n, k) bits and a few more, and a mask that is drawn from all those with k
kept cannot be coded in fewer. Where each group of so many entries keeps as many (N:M patterns), each is an urn of its
own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding.compiled import compiled
from supermask.ticket.coding.range_coder import START, begin, check_end, finish, get, put

URN = 1 << 24
"""Entries of the largest urn: with more, the division of a span of 40 bits would be felt."""


@compiled
def _encode(bits: Any, group: int, kept: Any, out: Any) -> Any:
    """Write the entries and return the number of bytes."""
    low, span, size = START
    for urn in range(kept.size):
        start = urn * group
        left, ones = min(group, bits.size - start), kept[urn]
        for i in range(start, start + left):
            if ones == 0 or ones == left:
                break
            low, span, size = put(low, span, size, out, span // left * ones, bits[i])
            ones -= bits[i]
            left -= 1
    return finish(low, span, size, out)


@compiled
def _decode(data: Any, group: int, kept: Any, bits: Any) -> Any:
    """Fill `bits`, and return the last state; any data is read without fault."""
    value, span, read = begin(data)
    for urn in range(kept.size):
        start = urn * group
        left, ones = min(group, bits.size - start), kept[urn]
        i = start
        while 0 < ones < left:
            value, span, read, bit = get(value, span, read, data, span // left * ones)
            bits[i] = bit
            ones -= bit
            left -= 1
            i += 1
        bits[i : i + left] = ones > 0
    return value, span, read


def urns(bits: NDArray[np.uint8], group: int) -> NDArray[np.int64]:
    """Return how many entries of each urn are 1, int64 (urns,)."""
    starts = np.arange(0, bits.size, group)
    return np.add.reduceat(bits, starts, dtype=np.int64) if bits.size else np.empty(0, np.int64)


def encode(bits: NDArray[np.uint8], group: int, kept: NDArray[np.int64]) -> bytes:
    """Return the code of entries.

    Args:
        bits: uint8 (n,), 0 or 1.
        group: entries of an urn; the last one may have fewer.
        kept: int64 (urns,), how many entries of each urn are 1.

    """
    # an urn takes at most a bit for each entry and what the rounded divisions cost, far less than another
    out = np.empty(bits.size // 4 + 64, np.uint8)
    return out[: _encode(bits, group, kept, out)].tobytes()


def decode(data: bytes, count: int, group: int, kept: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the `count` entries that `encode` coded with this group and these numbers.

    Raises:
        TicketError: no entries have this code.

    """
    bits = np.empty(count, np.uint8)
    check_end(_decode(np.array(bytearray(data), np.uint8), group, kept, bits), len(data))
    return bits
