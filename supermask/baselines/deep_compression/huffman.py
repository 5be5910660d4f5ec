"""Canonical Huffman codes: a table of code lengths is all that a reader needs.

Huffman 1952; the canonical assignment is that of RFC 1951, section 3.2.2: shorter codes come first, codes of one length
in the order of their symbols. A symbol that stands alone needs no bits: the number of symbols is kept elsewhere.
"""

import heapq
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError

LONGEST = 62
"""Bits of the longest code that fits in int64; a longer one needs more than 10^12 symbols."""

Integers = NDArray[np.int64]

_TABLE = struct.Struct("<BH")  # bits of a length, number of lengths


@dataclass(frozen=True)
class CodedSymbols:
    """Symbols of one kind.

    Attributes:
        lengths: of the codes in bits, by symbol, int64 (symbols,); 0 where a symbol does not occur.
        data: the codes.

    """

    lengths: Integers
    data: bytes

    @classmethod
    def of(cls, symbols: Integers, alphabet: int) -> "CodedSymbols":
        """Return symbols from 0 to alphabet - 1 in the code that is best for them."""
        lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
        return cls(lengths, encode(symbols, lengths))

    @property
    def table(self) -> bytes:
        """The lengths as a file has them: with the bits that the longest needs, up to the last that is not zero."""
        count = int(np.flatnonzero(self.lengths)[-1]) + 1 if self.lengths.any() else 0
        width = int(self.lengths.max(initial=0)).bit_length()
        bits = self.lengths[:count, None] >> np.arange(width) & 1
        return _TABLE.pack(width, count) + np.packbits(bits.astype(np.uint8)).tobytes()

    @staticmethod
    def read_table(data: bytes, alphabet: int) -> tuple[Integers, int]:
        """Return the lengths at the beginning of some bytes, and the number of bytes that they take.

        Raises:
            SupermaskError: they are cut short, or are more than the alphabet has.

        """
        width, count = _TABLE.unpack_from(data) if len(data) >= _TABLE.size else (0, alphabet + 1)
        end = _TABLE.size + -(-width * count // 8)
        if count > alphabet or width > 8 or end > len(data):
            raise SupermaskError("a table of its codes is cut short or longer than its alphabet.")
        bits = np.unpackbits(np.frombuffer(data[_TABLE.size : end], np.uint8), count=width * count)
        lengths = np.zeros(alphabet, np.int64)
        lengths[:count] = bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width))
        return lengths, end


def code_lengths(counts: Integers) -> Integers:
    """Return the lengths of an optimal prefix code, in bits.

    Args:
        counts: of each symbol, int64 (symbols,); a symbol that does not occur gets no code.

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
    places = np.arange(lengths.max() - 1, -1, -1)
    bits = (_codes(lengths)[:, None] >> places & 1).astype(np.uint8)
    return np.packbits(bits[symbols][(places < lengths[:, None])[symbols]]).tobytes()


def decode(data: bytes, lengths: Integers, count: int) -> Integers:
    """Return `count` symbols, int64 (count,).

    Raises:
        SupermaskError: the lengths do not make a complete code, or the bytes do not hold exactly so many symbols.

    """
    _check_complete(lengths, count)
    used = np.flatnonzero(lengths)
    if len(used) < 2:
        _refuse_unless(not data)
        return np.full(count, used[0] if len(used) else 0, np.int64)
    codes = _codes(lengths)
    symbol_of = {1 << int(lengths[symbol]) | int(codes[symbol]): int(symbol) for symbol in used}
    bits, place = np.unpackbits(np.frombuffer(data, np.uint8)).tolist(), 0
    symbols = np.empty(count, np.int64)
    for number in range(count):
        word = 1  # a 1 before each code, so that 0 and 00 are different words
        while word not in symbol_of:
            _refuse_unless(place < len(bits))
            word = word << 1 | bits[place]
            place += 1
        symbols[number] = symbol_of[word]
    _refuse_unless(len(bits) - place < 8 and not any(bits[place:]))
    return symbols


def _check_complete(lengths: Integers, count: int) -> None:
    """Refuse lengths that leave a bit pattern without a symbol or give it two, and symbols without any code."""
    used = lengths[lengths > 0]
    if len(used) < 2:
        sound = bool(used[0] == 1) if len(used) else count == 0
    else:
        sound = bool(used.max() <= LONGEST) and sum(1 << LONGEST - int(length) for length in used) == 1 << LONGEST
    if not sound:
        raise SupermaskError("the lengths of its codes do not make a Huffman code.")


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
