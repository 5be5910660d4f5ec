"""Data sets with something taken away: what changes, what stays, and what a training step then sees."""

from dataclasses import replace

import pytest
import torch
from scipy import stats

from supermask.data import draw_generator, epoch_order
from supermask.data.corruptions import (
    blurred,
    half,
    quarter_turns,
    random_labels,
    shuffled_pixels,
    turned,
)
from supermask.data.split import hold_out
from supermask.data.synthetic import read_synthetic
from supermask.data.tasks import permuted, rotated, split
from supermask.errors import DataError
from supermask.training.batches import Batches
from supermask.training.recipe import Recipe

CPU = torch.device("cpu")


def data(shape=(1, 8, 8), train=60, test=30, validation=20):
    return hold_out(read_synthetic(input_shape=shape, train=train + validation, test=test), validation, seed=0)


def parts(own):
    return own.train, own.validation, own.test()


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_random_labels_change_nine_of_ten_of_their_fraction(fraction):
    """The count that changes is binomial; it is outside of its 99.99 % interval by chance once in 10,000 times."""
    own = data((1, 1, 1), train=5000, validation=1000)
    changed = random_labels(own, fraction, seed=1)
    for before, after in ((own.train, changed.train), (own.validation, changed.validation)):
        drawn = round(fraction * len(before))
        low, high = stats.binom(drawn, 0.9).interval(0.9999) if drawn else (0, 0)
        assert low <= int((before.labels != after.labels).sum()) <= high
        assert torch.equal(before.images, after.images)
    counts = torch.bincount(changed.train.labels, minlength=10).numpy()
    assert stats.chisquare(counts).pvalue > 1e-4  # of uniform labels, once in 10,000 times
    assert torch.equal(own.test().labels, changed.test().labels)
    assert torch.equal(changed.train.labels, random_labels(own, fraction, seed=1).train.labels)
    if fraction:
        assert not torch.equal(changed.train.labels, random_labels(own, fraction, seed=2).train.labels)


def bilinear(small, height, width):
    """Return a plane brought to a size, pixel by pixel: centres at (i + .5) / n, clamped at the border."""
    result = torch.empty(height, width)
    for row in range(height):
        for column in range(width):
            at = [(i + 0.5) / n * m - 0.5 for i, n, m in zip((row, column), (height, width), small.shape, strict=True)]
            value = 0.0
            low = [int(place // 1) for place in at]
            for y in (low[0], low[0] + 1):
                for x in (low[1], low[1] + 1):
                    weight = (1 - abs(at[0] - y)) * (1 - abs(at[1] - x))
                    value += weight * float(
                        small[min(max(y, 0), small.shape[0] - 1), min(max(x, 0), small.shape[1] - 1)]
                    )
            result[row, column] = value
    return result


def test_a_blurred_image_is_averaged_down_and_brought_back():
    own = data((1, 8, 12), train=3)
    changed = blurred(own, 4)
    for before, after in zip(own.train.images, changed.train.images, strict=True):
        means = before[0].float().reshape(2, 4, 3, 4).mean((1, 3))
        assert (after[0] - bilinear(means, 8, 12)).abs().max() <= 0.501
    assert [part.images.shape for part in parts(changed)] == [part.images.shape for part in parts(own)]
    assert changed.train.images.dtype == torch.uint8
    assert torch.equal(blurred(own, 1).train.images, own.train.images)
    # a size that the factor does not divide, and one that is blurred to one pixel
    assert blurred(data((1, 7, 7)), 3).input_shape == (1, 7, 7)
    assert len(blurred(data((1, 7, 7)), 7).train.images[0].unique()) == 1


def test_an_image_is_turned_exactly():
    images = data().train.images[:8]
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    for image, quarters, result in zip(images, turns.tolist(), turned(images, turns), strict=True):
        assert torch.equal(result, torch.rot90(image, quarters, (1, 2)))


def upright(image, label):
    return torch.rot90(image, -label, (1, 2))


def test_validation_and_test_images_are_turned_once():
    own = data(test=400)
    task = quarter_turns(own, seed=3)
    assert (task.classes, task.test_reads) == (4, 0)
    for before, after in zip(parts(own)[1:], parts(task)[1:], strict=True):
        for image, result, label in zip(before.images, after.images, after.labels.tolist(), strict=True):
            assert torch.equal(upright(result, label), image)
    assert torch.equal(task.test().images, task.test().images)
    assert not torch.equal(task.test().labels, quarter_turns(own, seed=4).test().labels)
    # of 400 uniform labels, once in 10,000 times
    assert stats.chisquare(torch.bincount(task.test().labels, minlength=4).numpy()).pvalue > 1e-4
    assert own.test_reads == 7  # each read counts once, of the task and of what it was made of


def test_each_step_turns_its_images_again():
    own = data(train=40)
    task = quarter_turns(own, seed=0).raw()
    recipe = Recipe(batch_size=20)
    batches, again = (Batches(task, recipe, seed=5, device=CPU) for _ in range(2))
    seen = []
    for step in range(40):
        images, labels = batches.batch(step)
        assert torch.equal(images, again.batch(step)[0])
        order = epoch_order(40, seed=5, epoch=step // 2)[step % 2 * 20 :][:20]
        expected = torch.from_numpy(draw_generator(5, step).integers(0, 4, size=20))
        assert torch.equal(labels, expected)
        for place, image, label in zip(order.tolist(), images, labels.tolist(), strict=True):
            assert torch.equal(upright((image * 255).round().to(torch.uint8), label), own.train.images[place])
        seen.append((order.tolist(), labels.tolist()))
    counts = torch.bincount(torch.tensor([labels for _, labels in seen]).flatten(), minlength=4)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    # one image meets all four turns in 20 epochs: all but certain (4 * .75^20 = .013 for each), and the seed is fixed
    first = {label for places, labels in seen for place, label in zip(places, labels, strict=True) if place == 0}
    assert first == {0, 1, 2, 3}


def test_an_image_is_flipped_before_it_is_turned():
    """Turned back by its label, an augmented image is the upright one or its mirror image, never upside down."""
    own = data(train=40)
    task = quarter_turns(own, seed=0).raw()
    batches = Batches(task, Recipe(batch_size=40, augment=True, padding=0), seed=1, device=CPU)
    images, labels = batches.batch(0)
    places, mirrored = epoch_order(40, seed=1, epoch=0).tolist(), 0
    for place, image, label in zip(places, images, labels.tolist(), strict=True):
        back, stored = upright((image * 255).round().to(torch.uint8), label), own.train.images[place]
        assert torch.equal(back, stored) or torch.equal(back, stored.flip(2))
        mirrored += torch.equal(back, stored.flip(2))
    assert 0 < mirrored < 40


def test_batches_for_statistics_are_turned_too():
    own = data(train=40)
    batches = Batches(quarter_turns(own, seed=0).raw(), Recipe(batch_size=20), seed=1, device=CPU)
    first, again = ([(batch * 255).round().to(torch.uint8) for batch in batches.first(2)] for _ in range(2))
    turns = [torch.from_numpy(draw_generator(1, step).integers(0, 4, size=20)) for step in (-1, -2)]
    for number, (batch, same) in enumerate(zip(first, again, strict=True)):
        assert torch.equal(batch, same)
        assert torch.equal(batch, turned(own.train.images[20 * number :][:20], turns[number]))


def test_augmentation_draws_the_same_whether_or_not_a_task_draws():
    own = data(train=40)
    recipe = Recipe(batch_size=40, augment=True)
    still = replace(own, draw=lambda images, labels, generator: (images, labels))
    one, other = (Batches(each, recipe, seed=1, device=CPU).batch(3) for each in (own, still))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_blurred_task_of_turns_is_the_turned_blur():
    own = blurred(data(), 2)
    task = quarter_turns(own, seed=0)
    assert torch.equal(task.train.images, own.train.images)
    assert task.name == "quarter turns of synthetic blurred 2 times"


@pytest.mark.parametrize("train", [60, 61])
def test_two_halves_hold_every_example_once(train):
    own = data(train=train)
    halves = [half(own, which, seed=2) for which in (0, 1)]
    rows = [row.tolist() for each in halves for row in each.train.images.flatten(1)]
    assert sorted(rows) == sorted(row.tolist() for row in own.train.images.flatten(1))
    assert [len(each.train) for each in halves] == [30, train - 30]
    assert not torch.equal(halves[0].train.images, half(own, 0, seed=3).train.images)


def test_each_image_has_its_pixels_in_an_order_of_its_own():
    own = data((3, 5, 4))
    # three channels that say which pixel a value comes from
    marked = (
        torch.arange(20, dtype=torch.uint8).reshape(5, 4).expand(60, 3, 5, 4)
        + torch.tensor([0, 50, 100])[:, None, None]
    )
    own = replace(own, train=replace(own.train, images=marked.to(torch.uint8)))
    changed = shuffled_pixels(own, seed=0)
    orders = [tuple(image[0].flatten().tolist()) for image in changed.train.images]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 60
    first = changed.train.images[:, :1].int()
    assert torch.equal(changed.train.images.int(), first + torch.tensor([0, 50, 100])[:, None, None])
    assert torch.equal(changed.test().images, own.test().images)
    assert not torch.equal(changed.validation.images, own.validation.images)
    assert torch.equal(changed.train.images, shuffled_pixels(own, seed=0).train.images)


def test_an_image_is_changed_the_same_in_any_chunk(monkeypatch):
    own = data()
    before = blurred(own).train.images, shuffled_pixels(own, seed=0).train.images
    monkeypatch.setattr("supermask.data.corruptions._CHUNK", 7)
    assert torch.equal(before[0], blurred(own).train.images)
    assert torch.equal(before[1], shuffled_pixels(own, seed=0).train.images)


DRAWN = quarter_turns(data(), seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_labels(data(), 1.1, seed=0), "fraction=1.1 is out of range"),
        (lambda: random_labels(data(), float("nan"), seed=0), "fraction=nan is out of range"),
        (lambda: blurred(data(), 0), "factor=0 cannot blur images of 8x8"),
        (lambda: blurred(data(), 9), "factor=9 cannot blur images of 8x8"),
        (lambda: quarter_turns(data((1, 8, 6)), seed=0), "Images of 8x6 change their shape"),
        (lambda: half(data(), 2, seed=0), "There is no half 2"),
        (lambda: quarter_turns(DRAWN, seed=0), "drawn at each step and cannot be turned; make the task last"),
        (lambda: random_labels(DRAWN, seed=0), "cannot be labelled at random"),
        (lambda: shuffled_pixels(DRAWN, seed=0), "cannot be shuffled"),
        (lambda: hold_out(DRAWN, 5, seed=0), "cannot be held out of"),
        (lambda: permuted(DRAWN, 0), "cannot be permuted"),
        (lambda: rotated(DRAWN, 10), "cannot be turned"),
        (lambda: split(DRAWN, (0, 1)), "cannot be split by class"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
