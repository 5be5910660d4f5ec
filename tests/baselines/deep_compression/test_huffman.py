"""Huffman codes: optimal against brute force, within a bit of the entropy, and back again bit for bit."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask import SupermaskError
from supermask.baselines.deep_compression import huffman
from supermask.baselines.deep_compression.huffman import CodedSymbols

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=40)


def lengths_of(counts):
    return huffman.code_lengths(np.array(counts, np.int64))


def least_cost(counts):
    """Return the bits of the best prefix code: over all lengths that Kraft's inequality allows."""
    used = sorted((count for count in counts if count), reverse=True)
    if len(used) < 2:
        return sum(used)
    sets = itertools.combinations_with_replacement(range(1, len(used)), len(used))
    allowed = (lengths for lengths in sets if sum(Fraction(1, 2**length) for length in lengths) <= 1)
    return min(sum(map(math.prod, zip(used, lengths, strict=True))) for lengths in allowed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=7))
def test_no_prefix_code_is_shorter(counts):
    lengths = lengths_of(counts)
    assert int(lengths @ counts) == least_cost(counts)
    assert ((lengths == 0) == (np.array(counts) == 0)).all()


@settings(deadline=None)
@given(COUNTS.filter(lambda counts: np.count_nonzero(counts) > 1))
def test_a_symbol_takes_less_than_a_bit_above_the_entropy(counts):
    shares = np.array([count for count in counts if count]) / sum(counts)
    entropy = float(-(shares * np.log2(shares)).sum())
    spent = float(lengths_of(counts) @ counts) / sum(counts)
    assert entropy - 1e-9 <= spent < entropy + 1


@settings(deadline=None)
@given(COUNTS)
def test_codes_are_prefix_free_and_canonical(counts):
    lengths = lengths_of(counts)
    codes = {
        symbol: f"{code:0{lengths[symbol]}b}" for symbol, code in enumerate(huffman._codes(lengths)) if lengths[symbol]
    }
    assert not any(b.startswith(a) for a, b in itertools.permutations(codes.values(), 2))
    assert sorted(codes, key=lambda symbol: codes[symbol]) == sorted(
        codes, key=lambda symbol: (lengths[symbol], symbol)
    )


def test_a_known_code():
    lengths = lengths_of([45, 13, 12, 16, 9, 5])  # Cormen et al., Introduction to Algorithms, figure 16.4
    assert lengths.tolist() == [1, 3, 3, 3, 4, 4]
    # 0, 100, 101, 110, 1110, 1111
    assert huffman.encode(np.array([0, 5, 1, 3]), lengths) == bytes([0b01111100, 0b11000000])


def slow_decode(data, lengths, count):
    """Read bit by bit, with the codes as text."""
    bits = "".join(f"{byte:08b}" for byte in data)
    codes = {f"{code:0{lengths[s]}b}": s for s, code in enumerate(huffman._codes(lengths)) if lengths[s]}
    found, word = [], ""
    for bit in bits:
        word += bit
        if word in codes and len(found) < count:
            found.append(codes[word])
            word = ""
    return found


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=200))
def test_symbols_come_back(symbols):
    symbols = np.array(symbols, np.int64)
    stream = CodedSymbols.of(symbols, 21)
    assert huffman.decode(stream.data, stream.lengths, len(symbols)).tolist() == symbols.tolist()
    if len(set(symbols.tolist())) > 1:
        assert slow_decode(stream.data, stream.lengths, len(symbols)) == symbols.tolist()
        assert len(stream.data) == -(-int(stream.lengths[symbols].sum()) // 8)
    else:
        assert stream.data == b""  # one symbol needs no bits
    lengths, taken = CodedSymbols.read_table(stream.table + b"more", 21)
    assert lengths.tolist() == stream.lengths.tolist()
    assert taken == len(stream.table)


def test_the_longest_codes_come_back():
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(sum(fibonacci[-2:]))
    symbols = np.repeat(np.arange(24), fibonacci)
    stream = CodedSymbols.of(symbols, 24)
    assert stream.lengths.max() == 23
    assert (huffman.decode(stream.data, stream.lengths, len(symbols)) == symbols).all()


@pytest.mark.parametrize(
    ("data", "count"),
    [(b"", 3), (b"\x00", 9), (b"\xff", 3), (b"\x00\x00", 3), (b"\x01", 3), (b"\x40", 1)],
    ids=["empty", "short", "unfinished", "long", "padded with a one", "more symbols"],
)
def test_bytes_of_another_number_of_symbols_are_refused(data, count):
    lengths = np.array([1, 2, 3, 3])
    if (data, count) == (b"\xff", 3):
        lengths = np.array([3, 3, 3, 3, 3, 3, 3, 3])
    with pytest.raises(SupermaskError, match="does not hold as many symbols"):
        huffman.decode(data, lengths, count)


def test_a_lone_symbol_has_no_bytes():
    assert huffman.decode(b"", np.array([0, 1]), 3).tolist() == [1, 1, 1]
    with pytest.raises(SupermaskError, match="does not hold as many symbols"):
        huffman.decode(b"\x00", np.array([0, 1]), 3)


@pytest.mark.parametrize("lengths", [[0, 0], [2], [1, 2], [1, 1, 1], [63] * 3, [2, 2, 2], [200, 1, 1]], ids=str)
def test_lengths_of_no_code_are_refused(lengths):
    with pytest.raises(SupermaskError, match="do not make a Huffman code"):
        huffman.decode(b"\x00" * 9, np.array(lengths), 2)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x03\x16\x00", b"\x03\x01\x00", b"\x09\x00\x00"], ids=str)
def test_a_table_that_is_cut_or_too_large_is_refused(data):
    with pytest.raises(SupermaskError, match="a table of its codes is cut short or longer"):
        CodedSymbols.read_table(data, 21)
