"""Coded masks are read back bit for bit, by our decoder and by a slow one, and take no more than they must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.ticket.coding import decode_mask, encode_mask, make_side_information
from supermask.ticket.plain import decode as slowly

SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
DENSITIES = st.sampled_from([0.0, 0.03, 0.3, 0.5, 0.9, 1.0])


def drawn(shape, density, seed):
    return np.random.default_rng(seed).random(shape) < density


def drawn_side_information(shape, seed):
    dice = np.random.default_rng(seed)
    return make_side_information(dice.normal(size=shape).astype(np.float32), dice.integers(0, 2**64, shape, np.uint64))


def entropy_bytes(mask):
    n, k = mask.size, int(mask.sum())
    return 0.0 if k in (0, n) else -(k * math.log2(k / n) + (n - k) * math.log2(1 - k / n)) / 8


def choices_bytes(mask):
    n, k = mask.size, int(mask.sum())
    return math.log2(math.comb(n, k)) / 8


def both(mask, where=None, known=None):
    """Return the code of a mask after both decoders have read it back."""
    given = None if known is None else lambda: known
    code = encode_mask(mask, where=where, side_information=given)
    read = decode_mask(code, mask.shape, where=where, side_information=given)
    assert read.dtype == np.bool_
    assert read.shape == mask.shape
    assert np.array_equal(read, mask)
    flat = [None if part is None else part.reshape(-1).astype(int).tolist() for part in (where, known)]
    assert slowly(code, mask.shape, *flat) == mask.reshape(-1).astype(int).tolist()
    return code


# ---- round trips


@settings(max_examples=100, deadline=None)
@given(SHAPES, DENSITIES, st.integers(0, 99))
def test_masks_of_any_shape_and_density_are_read_back(shape, density, seed):
    mask = drawn(shape, density, seed)
    assert both(mask) == encode_mask(mask)


@settings(max_examples=100, deadline=None)
@given(SHAPES, DENSITIES, DENSITIES, st.integers(0, 99))
def test_masks_of_which_a_part_is_known_are_read_back(shape, density, free, seed):
    where = drawn(shape, free, seed + 100)
    both(drawn(shape, density, seed) & where, where)


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(20, 30), st.integers(20, 30)), st.sampled_from([1, 4]), st.integers(0, 99))
def test_masks_that_the_seed_says_much_of_are_read_back(shape, kernel, seed):
    known = drawn_side_information((*shape, 1, kernel) if kernel > 1 else shape, seed)
    code = both((known >> 1 & 63 > 40) & drawn(known.shape, 0.9, seed), known=known)
    assert code[0] >> 2 == 2


@pytest.mark.parametrize("batch", [0, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 2, 3))])
def test_ten_thousand_random_masks_are_read_back(batch):
    dice = np.random.default_rng(batch)
    for _ in range(2_500):
        shape = tuple(dice.integers(0, 8, dice.integers(0, 4)))
        mask = dice.random(shape) < dice.choice([0, 0.04, 0.5, 1])
        assert np.array_equal(decode_mask(encode_mask(mask), shape), mask)


def test_masks_of_any_memory_layout_are_read_back():
    mask = drawn((12, 30), 0.3, 0)
    for view in (mask.T, mask[::2], mask[:, ::-3], np.asfortranarray(mask)):
        assert encode_mask(view) == encode_mask(np.ascontiguousarray(view))
        assert np.array_equal(decode_mask(encode_mask(view), view.shape), view)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.5, 1.0])
def test_several_urns_are_read_back(monkeypatch, density):
    monkeypatch.setattr("supermask.ticket.coding.counted.URN", 1000)
    monkeypatch.setattr("supermask.ticket.coding.masks._mixed", lambda *_: None)
    mask = drawn((3, 1111), density, 0)
    mask[0, 0], mask[2, 5] = True, False
    code = encode_mask(mask)
    assert code[0] == 0
    assert np.array_equal(decode_mask(code, mask.shape), mask)
    assert len(code) < entropy_bytes(mask) + 16


# ---- each way of coding


def structured(kind):
    dice = np.random.default_rng(1)
    two_of_four = dice.random((30 * 9 * 2, 4)).argsort(1).argsort(1) < 2
    image = np.zeros((20, 6, 6), bool)
    image[:, 2:5, 1:5] = dice.random((20, 3, 4)) < 0.5
    return {
        "random": lambda: dice.random((50, 40)) < 0.3,
        "rows": lambda: np.broadcast_to(dice.random((30, 1, 1, 1)) < 0.4, (30, 8, 3, 3)),
        "inputs": lambda: np.broadcast_to(dice.random((1, 8, 1, 1)) < 0.4, (30, 8, 3, 3)),
        "kernels": lambda: np.broadcast_to(dice.random((30, 8, 1, 1)) < 0.4, (30, 8, 3, 3)),
        "blocks": lambda: np.kron(dice.random((9, 7)) < 0.4, np.ones((3, 5), bool)),
        "2:4": lambda: two_of_four.reshape(60, 36),
        "2:4 of input channels": lambda: two_of_four.reshape(30, 3, 3, 8).transpose(0, 3, 1, 2),
        "rows and inputs": lambda: (dice.random((30, 1)) < 0.5) & (dice.random((1, 30)) < 0.5),
        "border": lambda: image.reshape(20, 36),
        "channels": lambda: (dice.random((30, 1, 1, 1)) < 0.4) & (dice.random((30, 8, 3, 3)) < 0.5),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "head", "most"),
    [
        ("random", 0, 1.02),
        ("rows", 16, 0.04),
        ("inputs", 16, 0.03),
        ("kernels", 16, 0.16),
        ("blocks", 16, 0.12),
        ("2:4", 1, 0.66),
        ("2:4 of input channels", 33, 0.66),
        ("rows and inputs", 2, 0.4),
        ("border", 2, 0.9),
        ("channels", 2, 0.65),
    ],
)
def test_structure_is_found_and_saves_what_it_should(kind, head, most):
    mask = structured(kind)
    code = both(mask)
    assert code[0] == head
    assert len(code) <= most * entropy_bytes(mask)


def test_the_mixed_model_finds_the_width_of_images():
    dice = np.random.default_rng(3)
    pixels = dice.random((40, 12, 14))
    smooth = pixels + np.roll(pixels, 1, 1) + np.roll(pixels, 1, 2) + np.roll(pixels, 2, 1)
    mask = (smooth > 2.3).reshape(40, 168)
    code = both(mask)
    assert (code[0], code[2]) == (2, 14)


def test_the_signs_that_neighbours_want_are_made_use_of():
    dice = np.random.default_rng(3)
    known = drawn_side_information((60, 144), 3)
    wanted = np.repeat(np.repeat(dice.integers(0, 2, (60, 3, 3)), 4, 1), 4, 2).reshape(60, 144)
    mask = (known & 1) == wanted
    with_signs, without = (len(encode_mask(mask, side_information=given)) for given in (lambda: known, None))
    assert without > 0.99 * entropy_bytes(mask)
    assert with_signs < 0.6 * entropy_bytes(mask)


def test_side_information_that_is_worth_nothing_is_not_asked_for_again():
    code = encode_mask(drawn((50, 60), 0.5, 0), side_information=lambda: drawn_side_information((50, 60), 1))
    assert np.array_equal(decode_mask(code, (50, 60)), drawn((50, 60), 0.5, 0))


# ---- size


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.floats(0, 1), st.integers(0, 99))
def test_small_masks_take_the_choices_and_a_few_bytes(count, density, seed):
    mask = drawn((count,), density, seed)
    assert len(encode_mask(mask)) <= choices_bytes(mask) + 5


@pytest.mark.parametrize("density", [0.001, 0.01, 0.04, 0.1, 0.3, 0.5, 0.7, 0.96, 0.999])
@pytest.mark.parametrize("shape", [(100, 100), (300, 784), (32, 32, 5, 5)], ids=str)
def test_random_masks_take_their_entropy(shape, density):
    mask = drawn(shape, density, 7)
    size = len(encode_mask(mask))
    assert size <= choices_bytes(mask) + 7 if mask.size <= 10_000 else size <= entropy_bytes(mask) + 7
    if entropy_bytes(mask) > 350:
        assert size <= 1.02 * entropy_bytes(mask)


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(), (1,), (10_000,), (300, 784), (512, 512, 3, 3)], ids=str)
def test_masks_that_keep_nothing_or_all_take_next_to_nothing(shape, density):
    assert len(encode_mask(np.full(shape, bool(density)))) <= 9
    assert len(encode_mask(np.zeros((0, 3), bool))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("density", [1e-6, 0.04, 0.5])
def test_a_layer_of_25_million_takes_its_entropy(density):
    mask = drawn((5000, 5000), density, 0)
    code = encode_mask(mask)
    assert len(code) <= 1.001 * entropy_bytes(mask) + 8
    assert np.array_equal(decode_mask(code, mask.shape), mask)


def test_too_large_a_mask_is_refused(monkeypatch):
    monkeypatch.setattr("supermask.ticket.coding.masks.LARGEST", 99)
    with pytest.raises(SupermaskError, match="A mask has 100 entries; at most 99 can be coded"):
        encode_mask(np.zeros(100, bool))


# ---- the same bytes for good


def test_the_format_does_not_change():
    """Codes written by the first version of the format; a change must be a new format."""
    places = np.arange(99).reshape(9, 11)
    known = (places * places * 37 % 2048).astype(np.uint16)
    assert encode_mask(places * places * 7 % 13 < 6).hex() == COUNTED
    assert encode_mask((known >> 1 & 63) > 32, side_information=lambda: known).hex() == MIXED


COUNTED = "00273a7def7f690dd9e6cd35d465"
MIXED = "0a0001ddf23f304b98449d27"
