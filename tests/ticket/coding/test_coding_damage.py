"""Whatever the bytes, a decoder returns what was asked for or refuses in one sentence: no crash, no endless loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import TicketError
from supermask.ticket.coding import (
    counted,
    decode_mask,
    decode_symbols,
    encode_mask,
    encode_symbols,
    loops,
    make_side_information,
)
from supermask.ticket.coding.coder_context import CoderContext
from supermask.ticket.coding.mixed import CoderParameters
from supermask.ticket.coding.varints import Reader, write

KNOWN = make_side_information(
    np.float32([[1, -1, 2, 0.5]] * 6), np.arange(24, dtype=np.uint64).reshape(6, 4) << np.uint64(58)
)
SHAPE = (20, 30)


def read_or_refused(function, *arguments, **options):
    """Return what a decoder returns, None where it refuses in one sentence."""
    try:
        return function(*arguments, **options)
    except TicketError as refusal:
        message = str(refusal)
        assert message.endswith(".")
        assert ". " not in message
        assert "\n" not in message
        return None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([(), (3,), (6, 4), (2, 3, 2, 2), (0, 4)]))
def test_any_bytes_give_a_mask_of_the_shape_or_a_refusal(data, shape):
    mask = read_or_refused(decode_mask, data, shape)
    if mask is not None:
        assert (mask.dtype, mask.shape) == (np.bool_, shape)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([0, 1, 2, 6, 10, 16, 17, 18, 33, 49]),
    st.lists(st.integers(0, 5), max_size=4),
    st.binary(max_size=12),
)
def test_bytes_that_begin_well_give_a_mask_or_a_refusal(head, numbers, data):
    where = np.arange(24).reshape(6, 4) % 3 > 0
    for known in (None, where):
        code = bytes([head, *numbers]) + data
        mask = read_or_refused(decode_mask, code, (6, 4), where=known, side_information=lambda: KNOWN)
        if mask is not None:
            assert mask.shape == (6, 4)
            assert known is None or not mask[~known].any()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_give_symbols_or_a_refusal(data):
    kept = np.arange(24).reshape(6, 4) % 3 > 0
    symbols = read_or_refused(decode_symbols, data, kept)
    if symbols is not None:
        assert (symbols.dtype, symbols.shape) == (np.int32, kept.shape)
        assert not symbols[~kept].any()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 2000))
def test_the_loops_read_any_bytes_to_their_end(data, count):
    kept = np.full(1, count // 3, np.int64)
    bits = read_or_refused(counted.decode, data, count, max(1, count), kept[: count > 0])
    assert bits is None or bits.sum() == count // 3
    bits = read_or_refused(CoderParameters(0, -127, 7).decode, data, CoderContext((1 + count,)))
    assert bits is None or bits.size == 1 + count


def codes():
    dice = np.random.default_rng(0)
    row = dice.random((20, 1)) < 0.5
    return {
        "counted": encode_mask(dice.random(SHAPE) < 0.4),
        "mixed": encode_mask(row & (dice.random(SHAPE) < 0.5)),
        "grouped": encode_mask((dice.random((300, 2)).argsort(1) == 0).reshape(SHAPE)),
        "blocks": encode_mask(np.kron(dice.random((10, 10)) < 0.5, np.ones((2, 3), bool))),
    }


@pytest.mark.parametrize("kind", ["counted", "mixed", "grouped", "blocks"])
def test_a_code_that_was_cut_or_goes_on_is_refused(kind):
    code = codes()[kind]
    assert decode_mask(code, SHAPE).any()
    for length in range(len(code)):
        assert read_or_refused(decode_mask, code[:length], SHAPE) is None
    for more in (b"\0\0\0", b"\xff" * 3, code):
        assert read_or_refused(decode_mask, code + more, SHAPE) is None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (b"", "its mask bytes end 1 bytes too early"),
        (b"\x03", "begin with 3, an unknown mask encoding"),
        (b"\x0e\0\1", "begin with 14, an unknown"),
        (b"\x40\0", "begin with 64, an unknown"),
        (b"\x30\2\1\0", "begin with 32, an unknown"),
        (b"\0\x89\1", "keep more entries than there are"),
        (b"\0\x80\0", "hold no whole number"),
        (b"\0" + b"\xff" * 9, "hold no whole number"),
        (b"\1\7\3", "keep 3 of each 7 entries, which is impossible"),
        (b"\1\4\5", "keep 5 of each 4 entries"),
        (b"\1\1\1", "keep 1 of each 1 entries"),
        (b"\1\0\0", "keep 0 of each 0 entries"),
        (b"\x10\1\1\0\1", "blocks of 1 x 1, which do not tile"),
        (b"\x10\0\3\0\1", "blocks of 0 x 3, which do not tile"),
        (b"\x10\5\1\0\1", "blocks of 5 x 1, which do not tile"),
        (b"\2\x80\1", "give model parameters that do not exist"),
        (b"\2\0\xff\1", "give model parameters that do not exist"),
        (b"\6\0\1", "only be read with the random weights at hand"),
        (b"\0\5" + b"\1" * 30, "are 30 that are not the code"),
        (b"\0\0\0", "are 1 that are not the code"),
    ],
)
def test_an_impossible_code_is_refused_by_what_is_wrong(code, says):
    with pytest.raises(TicketError, match=says):
        decode_mask(code, (6, 4))


@pytest.mark.parametrize("shape", [(1 << 16, 1 << 16), (10**30,), (-1, 3)])
def test_a_shape_that_no_mask_has_is_refused_before_memory_is_taken(shape):
    with pytest.raises(TicketError, match=r"a mask of shape .* cannot be read"):
        decode_mask(b"\0\0", shape)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (write(0), "give 0 values to 4 weights"),
        (write(5, 0, 1, 2, 3, 4), "give 5 values to 4 weights"),
        (write(5000), "give 5,000 values"),
        (write(2, 4, 4), "list a value twice"),
        (write(1, 1 << 32), "hold a value of more than 32 bits"),
        (write(2, 2, 4, 9) + b"\0\1", "end 7 bytes too early"),
        (write(1, 2, 2), "have 1 bytes too many"),
    ],
)
def test_impossible_symbols_are_refused_by_what_is_wrong(code, says):
    with pytest.raises(TicketError, match=says):
        decode_symbols(code, np.ones((2, 2), bool))


def test_symbols_that_were_cut_are_refused():
    kept = np.ones((20, 20), bool)
    code = encode_symbols(np.arange(400).reshape(20, 20) * 7 % 5, kept)
    assert read_or_refused(decode_symbols, code, kept) is not None
    for length in range(len(code)):
        assert read_or_refused(decode_symbols, code[:length], kept) is None


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_integers_are_read_back(values):
    reader = Reader(write(*values), "numbers")
    assert [reader.integer() for _ in values] == values
    reader.end()


def test_a_carry_runs_through_all_bytes_before_it():
    out = np.zeros(20, np.uint8)
    out[:4] = [7, 255, 255, 255]
    size = loops.finish((1 << 48) + (1 << 47), 1 << 40, 4, out)
    assert out[:size].tolist() == [8, 0, 0, 0, 128]
