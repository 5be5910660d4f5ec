"""Canonical Huffman codes: a table of code lengths is all that a reader needs.

Huffman 1952; the canonical assignment as in RFC 1951, section 3.2.2: shorter codes come first, codes of one length in
the order of their symbols. A symbol that stands alone needs no bits: the number of symbols is kept elsewhere.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled
from supermask.errors import SupermaskError

LONGEST = 62
"""Bits of the longest code that fits; a longer one needs more than 10^12 symbols."""

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def code_lengths(counts: Integers) -> Integers:
    """Return the lengths of an optimal prefix code, in bits.

    Args:
        counts: of each symbol, int64 (symbols,); a symbol that does not occur has none and gets no code.

    Returns:
        int64 (symbols,), 0 where there is no code; 1 for a symbol that stands alone. Equal counts give equal lengths.

    """
    lengths = np.zeros(len(counts), np.int64)
    # the symbols below a node; numbers tell equal counts apart, so that the tree is the same everywhere
    heap = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (one, number, left), (two, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (one + two, number, left + right))
    return lengths


def encode(symbols: Integers, lengths: Integers) -> bytes:
    """Return the codes of the symbols one after the other, first bit first; the last byte is filled with zeros.

    Args:
        symbols: int64 (n,), each with a code.
        lengths: of the codes by symbol, as `code_lengths` returns them.

    """
    if np.count_nonzero(lengths) < 2:
        return b""
    data = np.zeros(-(-int(lengths[symbols].sum()) // 8), np.uint8)
    _encode(symbols, _codes(lengths), lengths, data)
    return data.tobytes()


def decode(data: bytes, lengths: Integers, count: int) -> Integers:
    """Return `count` symbols, int64 (count,).

    Raises:
        SupermaskError: the lengths are of no complete code, or the bytes are not those of so many symbols.

    """
    check_complete(lengths, count)
    used = np.flatnonzero(lengths)
    if len(used) < 2:
        _refuse_unless(not data)
        return np.full(count, used[0] if len(used) else 0, np.int64)
    ordered = used[np.argsort(lengths[used], kind="stable")]
    symbols = np.empty(count, np.int64)
    bits = _decode(np.frombuffer(data, np.uint8), np.bincount(lengths[used], minlength=LONGEST + 1), ordered, symbols)
    _refuse_unless(-(-bits // 8) == len(data))
    _refuse_unless(bits % 8 == 0 or data[-1] << bits % 8 & 255 == 0)
    return symbols


def check_complete(lengths: Integers, count: int) -> None:
    """Refuse lengths that leave a bit pattern without a symbol, or give it two.

    Raises:
        SupermaskError: they do, or there are symbols and no code.

    """
    used = lengths[lengths > 0]
    if len(used) == 0:
        sound = count == 0
    elif len(used) == 1:
        sound = bool(used[0] == 1)
    else:
        sound = bool(used.max() <= LONGEST) and sum(1 << LONGEST - int(length) for length in used) == 1 << LONGEST
    if not sound:
        raise SupermaskError("the lengths of its codes are those of no Huffman code.")


def _codes(lengths: Integers) -> Integers:
    """Return the canonical codes by symbol."""
    codes = np.zeros(len(lengths), np.int64)
    following, before = 0, 0
    used = np.flatnonzero(lengths)
    for symbol in used[np.argsort(lengths[used], kind="stable")]:
        following <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[symbol] = following
        following += 1
    return codes


def _refuse_unless(sound: bool) -> None:
    if not sound:
        raise SupermaskError("a stream of its codes does not hold as many symbols as it should.")


@compiled
def _encode(symbols: Integers, codes: Integers, lengths: Integers, data: Bytes) -> None:
    """Write the codes of the symbols into bytes that are zero."""
    place = 0
    for symbol in symbols:
        for bit in range(lengths[symbol] - 1, -1, -1):
            data[place >> 3] |= np.uint8((codes[symbol] >> bit & 1) << (7 - (place & 7)))
            place += 1


@compiled
def _decode(data: Bytes, per_length: Integers, ordered: Integers, symbols: Integers) -> int:
    """Fill the symbols, and return the number of bits read; -8 where they run out."""
    place, bits = 0, 8 * len(data)
    for i in range(len(symbols)):
        code, first, index = 0, 0, 0
        for length in range(1, len(per_length)):
            if place >= bits:
                return -8
            code = code << 1 | (data[place >> 3] >> (7 - (place & 7)) & 1)
            first <<= 1
            place += 1
            if code - first < per_length[length]:
                symbols[i] = ordered[index + code - first]
                break
            index += per_length[length]
            first += per_length[length]
    return place
