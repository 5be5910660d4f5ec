"""Symbols of kept weights are read back, and take no more than they must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.ticket.coding import decode_symbols, encode_symbols


def choices_bytes(symbols):
    """Return the bytes that tell all orders of these symbols apart."""
    _, counts = np.unique(symbols, return_counts=True)
    return (math.lgamma(counts.sum() + 1) - sum(map(math.lgamma, counts + 1.0))) / math.log(2) / 8


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=4).map(tuple),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 99),
)
def test_symbols_of_any_shape_are_read_back(shape, values, density, seed):
    dice = np.random.default_rng(seed)
    kept, symbols = dice.random(shape) < density, dice.choice(values, shape)
    code = encode_symbols(symbols, kept)
    read = decode_symbols(code, kept)
    assert read.dtype == np.int32
    assert np.array_equal(read, np.where(kept, symbols, 0))
    assert len(code) <= choices_bytes(symbols[kept]) + 10 + 12 * len(values)


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_symbols_of_pruned_weights_are_not_stored(dtype):
    kept = np.arange(40).reshape(5, 8) % 3 == 0
    symbols = np.random.default_rng(0).integers(-3, 4, kept.shape).astype(dtype)
    assert encode_symbols(symbols, kept) == encode_symbols(np.where(kept, symbols, 9), kept)


@pytest.mark.parametrize("value", [1, -1, 0, 77])
def test_a_symbol_that_all_weights_share_takes_three_bytes(value):
    kept = np.random.default_rng(0).random((300, 784)) < 0.1
    assert len(encode_symbols(np.full(kept.shape, value), kept)) <= 3


@pytest.mark.parametrize("values", [(-1, 1), (1, 2, 3, 4, 5, 6, 7), tuple(range(40))], ids=len)
def test_random_symbols_take_their_entropy(values):
    dice = np.random.default_rng(0)
    kept = dice.random((300, 100)) < 0.5
    symbols = dice.choice(values, kept.shape)
    assert len(encode_symbols(symbols, kept)) <= 1.005 * choices_bytes(symbols[kept]) + 8 * len(values)


def test_symbols_with_structure_take_less():
    dice = np.random.default_rng(0)
    kept = dice.random((300, 100)) < 0.5
    symbols = np.where(dice.random((300, 100)) < 0.9, dice.choice([-1, 1], (300, 1)), dice.choice([-1, 1], kept.shape))
    assert len(encode_symbols(symbols, kept)) <= 0.4 * choices_bytes(symbols[kept])


def test_the_signs_of_the_weights_are_made_use_of():
    dice = np.random.default_rng(0)
    kept = dice.random((60, 50)) < 0.5
    known = dice.integers(0, 2, kept.shape).astype(np.uint16)
    symbols = np.where(known == 1, 1, -1)
    code = encode_symbols(symbols, kept, side_information=lambda: known)
    assert np.array_equal(decode_symbols(code, kept, side_information=lambda: known), np.where(kept, symbols, 0))
    assert len(code) <= 0.2 * choices_bytes(symbols[kept])


def test_too_many_symbols_are_refused():
    with pytest.raises(SupermaskError, match="5,000 different symbols were given; at most 4,096 can be coded"):
        encode_symbols(np.arange(5000), np.ones(5000, bool))
