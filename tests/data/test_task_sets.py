"""Tasks made of a data set, pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.data.synthetic import read_synthetic
from supermask.data.tasks import class_groups, permuted, rotated, split, without_test
from supermask.errors import DataError
from supermask.random.keyed import keyed_permutation


def data(shape=(2, 5, 4), classes=10):
    return read_synthetic(classes=classes, input_shape=shape, train=60, test=30)


def test_every_image_of_a_task_has_its_pixels_in_the_same_order():
    own = data()
    order = keyed_permutation(20, 3, "pixels of task", 7)
    changed = permuted(own, 7, seed=3)
    for before, after in ((own.train, changed.train), (own.test(), changed.test())):
        assert torch.equal(before.labels, after.labels)
        for image, moved in zip(before.images, after.images, strict=True):
            for channel in range(2):
                flat = image[channel].flatten().tolist()
                assert moved[channel].flatten().tolist() == [flat[place] for place in order]
    assert changed.mean == own.mean
    assert changed.name != own.name


def test_tasks_and_seeds_have_orders_of_their_own():
    own = data((1, 8, 8))
    first = permuted(own, 0).train.images
    assert torch.equal(first, permuted(own, 0).train.images)
    for other in (own, permuted(own, 1), permuted(own, 0, seed=1)):
        assert not torch.equal(first, other.train.images)


def test_reading_the_test_examples_of_a_task_counts():
    own = data()
    permuted(own, 0).test()
    rotated(own, 10).test()
    assert own.test_reads == 2
    assert len(without_test(permuted(own, 0)).test()) == 0


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4, -1])
def test_quarter_turns_are_exact(quarters):
    own = data((1, 7, 7)) if quarters % 2 else data((1, 7, 4))
    turned = rotated(own, 90.0 * quarters)
    assert torch.equal(turned.train.images, torch.rot90(own.train.images, quarters, (2, 3)))


@settings(max_examples=40, deadline=None)
@given(st.floats(-720, 720), st.integers(1, 9), st.integers(1, 9))
def test_a_turned_pixel_is_that_of_the_nearest_place(degrees, height, width):
    own = read_synthetic(classes=2, input_shape=(1, height, width), train=2, test=1)
    image, turned = own.train.images[0, 0].numpy(), rotated(own, degrees).train.images[0, 0].numpy()
    centre, angle = complex((width - 1) / 2, (height - 1) / 2), np.deg2rad(degrees)
    for row in range(height):
        for column in range(width):
            # up is positive: turned back by the angle, that is clockwise
            x, y = column - centre.real, centre.imag - row
            back = complex(x, y) * np.exp(-1j * angle)
            place = (centre.imag - back.imag, centre.real + back.real)
            if any(abs(abs(at - np.floor(at)) - 0.5) < 1e-6 for at in place):
                continue  # half way between two places: either will do
            near = [round(at) for at in place]
            inside = 0 <= near[0] < height and 0 <= near[1] < width
            assert turned[row, column] == (image[near[0], near[1]] if inside else 0)


def test_thirty_six_turns_of_ten_degrees_differ():
    own = data((1, 12, 12))
    turns = [rotated(own, 10 * turn).train.images for turn in range(36)]
    assert all(not torch.equal(turns[one], turns[one - 1]) for one in range(36))


def test_a_group_of_classes_is_numbered_from_0():
    own = data()
    part = split(own, (7, 2))
    assert part.classes == 2
    for before, after in ((own.train, part.train), (own.test(), part.test())):
        places = [place for place, label in enumerate(before.labels.tolist()) if label in (7, 2)]
        assert torch.equal(after.images, before.images[places])
        assert after.labels.tolist() == [0 if before.labels[place] == 7 else 1 for place in places]


def test_groups_hold_every_class_once():
    assert class_groups(10, 2) == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    drawn = class_groups(100, 5, seed=0)
    assert sorted(label for group in drawn for label in group) == list(range(100))
    assert len(drawn) == 20
    assert drawn == class_groups(100, 5, seed=0)
    assert drawn != class_groups(100, 5, seed=1)
    sizes = [len(split(data(), group).train) for group in class_groups(10, 5)]
    assert sum(sizes) == 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: permuted(data(), -1), "counted from 0"),
        (lambda: rotated(data(), float("inf")), "finite number"),
        (lambda: split(data(), ()), "not a group of classes"),
        (lambda: split(data(), (1, 1)), "each once"),
        (lambda: split(data(), (10,)), "0 to 9"),
        (lambda: split(data(), (-1,)), "0 to 9"),
        (lambda: class_groups(10, 3), "a size that divides them"),
        (lambda: class_groups(10, 0), "a size that divides them"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
