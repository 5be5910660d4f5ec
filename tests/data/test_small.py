"""Fewer examples and fewer pixels."""

from dataclasses import replace

import pytest
import torch

from supermask.data.small import few, pooled
from supermask.data.split import hold_out
from supermask.data.synthetic import read_synthetic
from supermask.errors import DataError


def data(shape=(1, 8, 8), train=60, test=30, validation=20):
    return hold_out(read_synthetic(input_shape=shape, train=train + validation, test=test), validation, seed=0)


def test_a_pooled_image_has_the_mean_of_each_block():
    own = data((2, 6, 4))
    changed = pooled(own, 2)
    assert changed.input_shape == (2, 2, 2)
    for before, after in zip(
        (own.train, own.validation, own.test()), (changed.train, changed.validation, changed.test()), strict=True
    ):
        assert after.images.shape == (len(before), 2, 2, 2)
        for row in range(2):
            for column in range(2):
                block = before.images[:, :, 3 * row : 3 * row + 3, 2 * column : 2 * column + 2]
                expected = block.double().mean((2, 3))
                assert (after.images[:, :, row, column] - expected).abs().max() <= 0.5
        assert torch.equal(before.labels, after.labels)
    pixels = changed.train.images.double() / own.scale
    assert changed.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert changed.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    # an empty part has images of the new shape too
    assert pooled(replace(own, validation=own.validation.select(torch.arange(0))), 2).input_shape == (2, 2, 2)


def test_few_examples_are_drawn_by_seed_in_their_order():
    own = data((1, 8, 8))
    small = few(own, train=25, test=7)
    for before, after, count in ((own.train, small.train, 25), (own.test(), small.test(), 7)):
        rows = [row.tolist() for row in before.images.flatten(1)]
        places = [rows.index(row.tolist()) for row in after.images.flatten(1)]
        assert len(places) == count
        assert places == sorted(set(places))
        assert torch.equal(before.labels[places], after.labels)
    assert small.validation is own.validation
    assert not torch.equal(small.train.images, few(own, train=25, test=7, seed=1).train.images)
    with pytest.raises(DataError, match="31 test examples of synthetic are not there; give 1 to 30"):
        few(own, train=25, test=31).test()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda own: pooled(own, 3), "Images of 8x8 pixels do not divide into 3x3 blocks"),
        (lambda own: pooled(own, 0), "do not divide into 0x0"),
        (lambda own: few(own, train=0, test=1), "0 training examples of synthetic are not there"),
        (lambda own: few(own, train=61, test=1), "61 training examples of synthetic are not there; give 1 to 60"),
    ],
)
def test_what_cannot_be_made_smaller_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make(data())
