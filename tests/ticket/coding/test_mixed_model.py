"""The mixed model's registers hold what the slow decoder looks up entry by entry, whatever the shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from supermask.ticket.coding import decode_mask, make_side_information, mixed, tiling
from supermask.ticket.coding.coder_context import LEVELS, CoderContext
from supermask.ticket.coding.mixed import CoderParameters
from supermask.ticket.coding.varints import write
from supermask.ticket.plain import decode as slowly

SIZES = st.integers(1, 12)
KERNELS = [(1, 1), (3, 3), (5, 5), (1, 4), (4, 1), (2,), (9, 9), (2, 3, 2)]
SHAPES = st.one_of(
    st.just(()),
    st.just((1,)),
    st.tuples(st.integers(1, 300)),
    st.tuples(SIZES, SIZES),
    st.tuples(st.integers(1, 4), st.integers(60, 150)),
    st.tuples(st.integers(100, 200), st.integers(1, 3)),
    *(st.tuples(st.integers(1, 5), st.integers(1, 5), *map(st.just, kernel)) for kernel in KERNELS),
)
LONG = [(40, 33), (1200, 1), (1, 1200), (4, 300), (12, 10, 3, 3), (3, 2, 15, 15)]
"""With enough entries for a counter that has seen all it can, and for rows that are wider than two images of 64."""


def side_information(shape, seed):
    dice = np.random.default_rng(seed)
    words = dice.integers(0, 2**64, shape, np.uint64)
    return make_side_information(dice.normal(size=shape).astype(np.float32), words)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.sampled_from([0.0, 2.0**-60, 1.0]),
    st.integers(0, 2**32),
)
def test_side_information_is_the_sign_six_bits_of_the_word_and_the_magnitude_in_steps(weights, factor, seed):
    weights = weights * np.float32(factor)
    words = np.random.default_rng(seed).integers(0, 2**64, weights.shape, np.uint64)
    largest = np.abs(weights).max(initial=np.float32(0))
    expected = []
    for weight, word in zip(weights, words.tolist(), strict=True):
        step = min(int(abs(weight) / largest * np.float32(16)), 15) if largest else 0
        expected.append(int(weight > 0) + 2 * (word >> 58) + 128 * step)
    assert make_side_information(weights, words).tolist() == expected


def agree(shape, level, prior, width, seed, free):
    """Decode noise, which draws a mask from the model, by both decoders, and encode that mask again."""
    dice = np.random.default_rng(seed)
    count = math.prod(shape)
    known, where = side_information(shape, seed), dice.random(shape) < free
    noise = dice.bytes(count // 4 + 9)
    parameters = CoderParameters(level, prior, min(width, max(1, count)))
    code = bytes([2 | level << 2, prior & 255]) + write(parameters.width) + noise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed, "check_end", lambda *_: None)
        mask = decode_mask(code, shape, where=where, side_information=lambda: known)
    flat = [part.reshape(-1).astype(int).tolist() for part in (where, known)]
    assert mask.reshape(-1).astype(int).tolist() == slowly(code, shape, *flat)
    context = CoderContext(shape, where.reshape(-1).astype(np.uint8), known.reshape(-1))
    bits = mask.reshape(-1).astype(np.uint8)
    written = parameters.encode(bits, context, bits.size + 99)
    assert np.array_equal(parameters.decode(written, context), bits)
    return mask


@settings(max_examples=100, deadline=None)
@given(
    SHAPES,
    st.integers(0, LEVELS - 1),
    st.integers(-20, 20),
    st.integers(0, 80),
    st.integers(0, 99),
    st.sampled_from([0.5, 1]),
)
def test_any_bytes_are_read_as_the_slow_decoder_reads_them(shape, level, prior, width, seed, free):
    agree(shape, level, prior, width, seed, free)


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("shape", LONG, ids=str)
def test_long_masks_are_read_as_the_slow_decoder_reads_them(shape, level):
    for width in (1, 28, 64, 140):
        agree(shape, level, -4, width, width, 1)


def test_the_drawn_masks_are_of_both_values():
    """So that the tests above look at contexts of kept and of pruned neighbours."""
    kept = [agree((20, 30), 1, prior, 5, seed, 1).mean() for prior in (-4, 0, 4) for seed in range(9)]
    assert sum(0.05 < part < 0.95 for part in kept) > len(kept) / 3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 99))
def test_the_width_of_images_is_where_columns_agree_most(rows, columns, seed):
    wanted = (np.random.default_rng(seed).random((rows, columns)) < 0.6).astype(np.uint8)
    signs = 2 * wanted.astype(int) - 1
    steps = range(8, columns // 2 + 1)
    means = [int((signs[:, step:] * signs[:, :-step]).sum()) * 2**20 // (rows * (columns - step)) for step in steps]
    expected = steps[means.index(max(means))] if means else 1
    assert tiling.image_width(wanted.reshape(-1), columns) == expected
