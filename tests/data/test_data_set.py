from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermask.data import DataSet, Examples
from supermask.data.split import hold_out, nothing_of, pixel_statistics
from supermask.errors import DataError


def numbered(n, channels=1):
    """Images whose every pixel is their own number, so that each can be recognised after a split."""
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).expand(n, channels, 2, 3).contiguous()
    return Examples(images, torch.arange(n) % 10)


def data_set(train, **changes):
    channels = train.images.shape[1]
    facts = {
        "name": "numbers",
        "classes": 10,
        "input_shape": (channels, 2, 3),
        "scale": 255.0,
        "mean": (0.5,) * channels,
        "std": (0.25,) * channels,
        "train": train,
        "validation": nothing_of(train),
        "read_test": lambda: numbered(4, channels),
    }
    return DataSet(**(facts | changes))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 2, 2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), "images are bool"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "images are float32"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images are uint8 of"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.bool), "labels are bool"),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int32),
            "labels are int32",
        ),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            "2 images .* 3 labels",
        ),
    ],
)
def test_examples_refuse_what_is_none(images, labels, message):
    with pytest.raises(DataError, match=message):
        Examples(images, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": (1, 3, 2)}, "training images of numbers are"),
        ({"classes": 9}, "training labels of numbers run from 0 to 9"),
        ({"mean": (0.5, 0.5)}, "expected 1 means"),
        ({"std": (0.0,)}, "positive deviations"),
        ({"scale": 0.0}, "positive scale"),
        ({"validation": numbered(3, channels=3)}, "validation images of numbers are"),
    ],
)
def test_a_data_set_refuses_parts_that_do_not_fit(changes, message):
    with pytest.raises(DataError, match=message):
        data_set(numbered(20), **changes)


def test_negative_labels_are_refused():
    examples = numbered(3)
    with pytest.raises(DataError, match="from -1 to 1"):
        data_set(Examples(examples.images, examples.labels - 1))


@given(n=st.integers(1, 200), seed=st.integers(0, 50), data=st.data())
def test_the_split_is_disjoint_complete_and_of_exact_size(n, seed, data):
    count = data.draw(st.integers(0, n - 1))
    split = hold_out(data_set(numbered(n)), count, seed=seed)
    train, validation = (part.images[:, 0, 0, 0].tolist() for part in (split.train, split.validation))
    assert len(validation) == count
    assert sorted(train + validation) == list(range(n))
    assert split.validation.labels.tolist() == [number % 10 for number in validation]
    assert split.train.labels.tolist() == [number % 10 for number in train]


def test_the_split_is_drawn_by_the_seed():
    data = data_set(numbered(200))
    first, again, other = (hold_out(data, 50, seed=seed).validation.images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("count", [-1, 20, 21])
def test_a_validation_part_that_does_not_fit_is_refused(count):
    with pytest.raises(DataError, match=f"validation is {count} .* from 0 to 19"):
        hold_out(data_set(numbered(20)), count, seed=0)


def test_reads_of_the_test_set_are_counted_also_through_copies():
    data = data_set(numbered(20))
    split = hold_out(data, 5, seed=0)
    assert split.test_reads == 0
    assert len(split.test()) == 4
    assert split.test_reads == data.test_reads == 1
    replace(split, name="copy").test()
    assert split.test_reads == 2


def test_the_test_set_is_not_read_before_it_is_asked_for():
    def explode():
        raise AssertionError("read")

    data = hold_out(data_set(numbered(20), read_test=explode), 5, seed=0)
    with pytest.raises(AssertionError, match="read"):
        data.test()
    assert data.test_reads == 1


def test_test_examples_are_checked_too():
    with pytest.raises(DataError, match="test images of numbers"):
        data_set(numbered(20), read_test=lambda: numbered(4, channels=3)).test()


def test_normalize_is_what_it_says():
    data = data_set(numbered(20, 3), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), scale=10.0)
    result = data.normalize(data.train.images)
    assert result.dtype == torch.float32
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        expected = (data.train.images[:, channel].double() / 10.0 - mean) / std
        torch.testing.assert_close(result[:, channel].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_normalize_rounds_as_its_formula_and_leaves_the_images_alone(dtype):
    data = data_set(numbered(20, 3), mean=(0.1, 0.2, 0.3), std=(0.5, 1.1, 2.3), scale=255.0)
    images = torch.arange(256).repeat(3, 1).reshape(1, 3, 16, 16).to(dtype)
    before = images.clone()
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (data.mean, data.std))
    assert torch.equal(data.normalize(images), (images.float() / 255.0 - mean) / std)
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(2, 3), (4, 3, 2, 3)])
def test_normalize_refuses_other_channels(shape):
    with pytest.raises(DataError, match="numbers has"):
        data_set(numbered(20)).normalize(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.gpu
def test_normalize_stays_on_the_gpu():
    data = data_set(numbered(20))
    there = data.normalize(data.train.images.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), data.normalize(data.train.images))


def test_pixel_statistics_are_those_of_numpy():
    images = torch.randint(0, 256, (50, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 1] //= 3
    mean, std = pixel_statistics(images, 255.0)
    pixels = images.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), pixels.mean((0, 2, 3)), rtol=1e-6, atol=0)
    expected = pixels.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(std).double(), expected, rtol=1e-6, atol=0)


def test_raw_pixels_are_only_scaled_and_reads_of_the_test_set_still_count():
    numbers = data_set(numbered(6))
    raw = numbers.raw()
    assert torch.equal(raw.normalize(raw.train.images), raw.train.images.float() / 255)
    raw.test()
    assert numbers.test_reads == 1
