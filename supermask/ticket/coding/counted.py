"""The counted model: entries are draws without replacement from an urn whose content is known.

With k of the n entries kept this takes log2 C(n, k) bits and a few more, and a mask that is drawn from all those with k
kept cannot be coded in fewer. Where each group of entries keeps the same number (N:M patterns), each is an urn of its
own.
"""

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding.loops import check_end, decode_urns, encode_urns

URN = 1 << 24
"""Entries of the largest urn. An entry's share is a whole multiple of span / entries, and the span may be as small as
2**40: with 2**24 entries that division is exact to 2**-16, and in a larger urn its rounding would cost bytes."""


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
    return out[: encode_urns(bits, group, kept, out)].tobytes()


def decode(data: bytes, count: int, group: int, kept: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the `count` entries, uint8, that `encode` coded with this group and these numbers.

    Raises:
        TicketError: no entries have this code.

    """
    bits = np.empty(count, np.uint8)
    check_end(decode_urns(np.array(bytearray(data), np.uint8), group, kept, bits), len(data))
    return bits
