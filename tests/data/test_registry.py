import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from supermask.data import known, load
from supermask.data.folder import data_folder as find_folder
from supermask.data.split import pixel_statistics
from supermask.data.synthetic import read_synthetic
from supermask.errors import DataError

EMBEDDED = ("digits", "synthetic")


def nearest_mean_accuracy(data):
    """Of a classifier too simple to learn anything but real signal."""
    centres = torch.stack(
        [data.train.images[data.train.labels == c].double().mean(0).flatten() for c in range(data.classes)]
    )
    test = data.test()
    guesses = torch.cdist(test.images.double().flatten(1), centres).argmin(1)
    return float((guesses == test.labels).double().mean())


def test_the_known_names():
    assert known() == ("digits", "source_text", "synthetic", "mnist", "fashion_mnist", "cifar10", "cifar100")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(DataError, match=r"no data set 'imagenet'; known are digits, .*, cifar100"):
        load("imagenet")


@pytest.mark.parametrize("name", EMBEDDED)
def test_loading_touches_no_global_generator(name):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    load(name)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1293, 144, 360)), ("synthetic", (900, 100, 200))])
def test_sizes(name, sizes):
    data = load(name)
    assert (len(data.train), len(data.validation), len(data.test())) == sizes
    assert len(load(name, validation=0).validation) == 0


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_seed_moves_the_validation_part_and_not_the_test_part(name):
    first, second = load(name, seed=0), load(name, seed=1)
    assert not torch.equal(first.validation.images, second.validation.images)
    assert torch.equal(first.test().images, second.test().images)
    assert (first.mean, first.std) == (second.mean, second.std)


@pytest.mark.parametrize("name", EMBEDDED)
def test_mean_and_std_are_of_the_whole_training_set(name):
    data = load(name, validation=0)
    assert pixel_statistics(data.train.images, data.scale) == (data.mean, data.std)
    normal = data.normalize(data.train.images)
    assert abs(float(normal.mean())) < 1e-5
    assert abs(float(normal.std()) - 1) < 1e-3


def test_digits_are_all_there_and_none_twice():
    data = load("digits", validation=0)
    ours = torch.cat([data.train.images, data.test().images]).flatten(1).tolist()
    theirs = load_digits().data.astype(int).tolist()
    assert sorted(ours) == sorted(theirs)


def test_digits_keep_their_labels():
    data, bunch = load("digits"), load_digits()
    label_of = {tuple(row): label for row, label in zip(bunch.data.astype(int).tolist(), bunch.target, strict=True)}
    rows = data.train.images.flatten(1).tolist()
    assert [label_of[tuple(row)] for row in rows] == data.train.labels.tolist()


def test_the_digits_test_split_is_frozen():
    assert load("digits").test().labels[:12].tolist() == [1, 2, 6, 9, 4, 8, 9, 0, 9, 7, 5, 0]


def test_digits_pixels_reach_the_scale():
    data = load("digits")
    assert int(data.train.images.max()) == data.scale == 16


@pytest.mark.parametrize(("name", "least", "most"), [("digits", 0.85, 1.0), ("synthetic", 0.9, 0.999)])
def test_they_can_be_learned(name, least, most):
    assert least < nearest_mean_accuracy(load(name)) <= most


def test_synthetic_takes_other_shapes():
    data = read_synthetic(classes=3, input_shape=(3, 5, 4), train=30, test=6)
    assert data.train.images.shape == (30, 3, 5, 4)
    assert data.test().labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_synthetic_pixels_are_frozen():
    assert read_synthetic().train.images[0, 0, 0].tolist() == [145, 0, 147, 122, 0, 216, 212, 132]


def test_a_folder_that_was_named_must_exist(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"absent was asked for .* --data-folder"):
        find_folder(tmp_path / "absent")
    monkeypatch.setenv("SUPERMASK_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone is named by SUPERMASK_DATA"):
        load("mnist")
    (tmp_path / "gone").touch()  # a file is no folder
    with pytest.raises(DataError, match="not an existing folder"):
        load("mnist")


def test_the_argument_goes_before_the_variable_and_both_before_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERMASK_DATA", str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    assert find_folder(other) == other
    assert find_folder() == tmp_path
    monkeypatch.setenv("SUPERMASK_DATA", "")
    assert str(find_folder()) == "data"


def test_sets_without_files_need_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERMASK_DATA", str(tmp_path / "gone"))
    assert len(load("synthetic").train) == 900
