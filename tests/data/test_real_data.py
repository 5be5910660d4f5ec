"""The real files: their sizes, pixels and statistics."""

import pickle

import pytest
import torch

from supermask.data import load
from supermask.data.split import pixel_statistics

SIZES = {"mnist": (55_000, 5_000), "fashion_mnist": (55_000, 5_000), "cifar10": (45_000, 5_000)}
CLASSES = {"mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]}

pytestmark = pytest.mark.data


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_statistics(name, data_folder):
    data = load(name, folder=data_folder)
    assert (len(data.train), len(data.validation)) == SIZES[name]
    counts = torch.bincount(torch.cat([data.train.labels, data.validation.labels])).tolist()
    assert counts == CLASSES.get(name, [sum(SIZES[name]) // 10] * 10)
    mean, std = pixel_statistics(torch.cat([data.train.images, data.validation.images]), data.scale)
    assert tuple(round(value, 4) for value in mean) == data.mean
    assert tuple(round(value, 4) for value in std) == data.std


@pytest.mark.parametrize("name", SIZES)
def test_the_test_set_is_read_only_when_asked_for(name, data_folder):
    data = load(name, folder=data_folder)
    assert data.test_reads == 0
    test = data.test()
    assert len(test) == 10_000
    assert data.test_reads == 1
    assert not torch.equal(test.images[:100], data.train.images[:100])


def test_cifar10_pixels_are_where_the_file_has_them(data_folder):
    with (data_folder / "cifar-10-batches-py/test_batch").open("rb") as file:
        batch = pickle.load(file, encoding="latin1")
    test = load("cifar10", folder=data_folder).test()
    assert torch.equal(test.images.flatten(1), torch.from_numpy(batch["data"]))
    assert test.labels.tolist() == batch["labels"]
