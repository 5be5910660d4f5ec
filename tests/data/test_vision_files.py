"""Missing, damaged and downloaded files, on sets that are as small as they can be."""

import hashlib
import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from supermask.data import load
from supermask.data.vision import CIFAR100, MNIST
from supermask.errors import DataError

RAW = Path("MNIST/raw")


def idx(array):
    """Return an array of bytes in the format of MNIST: the type (8), the dimensions, their sizes, the elements."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def small_part(part, count):
    """Return the two files of a part of a small MNIST, by name."""
    pixels = np.arange(count * 784, dtype=np.int64).astype(np.uint8).reshape(count, 28, 28)
    labels = np.arange(count, dtype=np.uint8)
    return {f"{part}-images-idx3-ubyte": idx(pixels), f"{part}-labels-idx1-ubyte": idx(labels)}


def sums(files):
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


SMALL = replace(MNIST, train=sums(small_part("train", 6)), test=sums(small_part("t10k", 3)))


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_small_mnist(root):
    write_files(root / RAW, small_part("train", 6) | small_part("t10k", 3))


@pytest.fixture
def mnist(tmp_path):
    write_small_mnist(tmp_path)
    return tmp_path


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_mnist_is_read_as_written(mnist):
    data = SMALL.read(mnist)
    assert data.train.images.shape == (6, 1, 28, 28)
    assert data.train.images.flatten().tolist() == [i % 256 for i in range(6 * 784)]
    assert data.train.labels.tolist() == list(range(6))
    assert data.test().labels.tolist() == list(range(3))


@pytest.mark.parametrize("file", [*SMALL.train, *SMALL.test])
@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b[:2], lambda b: b"", lambda b: b + b"\0", lambda b: b[:-1] + b"\x0a"]
)
def test_any_other_bytes_are_found_at_load_and_the_file_named(mnist, file, change):
    edit(mnist / RAW / file, change)
    with pytest.raises(DataError, match=rf"{file} is damaged: its sha256 is [0-9a-f]+, expected [0-9a-f]+; fetch"):
        SMALL.read(mnist)


def test_a_test_file_that_was_damaged_since_is_found_when_it_is_read(mnist):
    data = SMALL.read(mnist)
    edit(mnist / RAW / "t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is damaged"):
        data.test()


def test_a_file_that_was_removed_since_is_named(mnist):
    data = SMALL.read(mnist)
    (mnist / RAW / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte cannot be read \(No such file or directory\)"):
        data.test()


def test_leftovers_of_an_old_torchvision_do_not_matter(mnist):
    write_files(mnist / "MNIST/processed", {"training.pt": b"nonsense", "test.pt": b"nonsense"})
    assert len(SMALL.read(mnist).train) == 6


@pytest.mark.parametrize("file", [*SMALL.train, *SMALL.test])
def test_one_missing_file_is_found_at_load_and_named_with_the_way_out(mnist, file):
    (mnist / RAW / file).unlink()
    before = everything_in(mnist)
    with pytest.raises(DataError, match=rf"lacks MNIST/raw/{file} of mnist .* SUPERMASK_DATA or --data-folder"):
        SMALL.read(mnist)
    assert everything_in(mnist) == before


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_failed_download_leaves_nothing(tmp_path, monkeypatch, capfd, name):
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"data lacks .* of {name} and the download failed"):
        load(name)
    assert everything_in(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def half(root, **options):
        print("noise")
        write_files(Path(root) / RAW, {"train-images-idx3-ubyte": b"half"})
        raise ConnectionResetError

    monkeypatch.setattr(torchvision.datasets, "MNIST", half)
    with pytest.raises(DataError, match="ConnectionResetError"):
        SMALL.read(tmp_path)
    assert everything_in(tmp_path) == []


def test_an_archive_that_lacks_a_file_is_not_half_moved(tmp_path, monkeypatch):
    def lacking(root, **options):
        write_files(Path(root) / RAW, {"train-images-idx3-ubyte": b"half"})

    monkeypatch.setattr(torchvision.datasets, "MNIST", lacking)
    with pytest.raises(DataError, match="download failed"):
        SMALL.read(tmp_path)
    assert everything_in(tmp_path) == []


def test_a_download_adds_what_is_missing_and_replaces_nothing(tmp_path, monkeypatch, capfd):
    write_small_mnist(tmp_path)
    (tmp_path / RAW / "t10k-labels-idx1-ubyte").unlink()
    original, timeouts = torchvision.datasets.MNIST, []

    class Fetched(original):
        def download(self):
            print("noise")
            timeouts.append(socket.getdefaulttimeout())
            write_small_mnist(Path(self.root))
            edit(Path(self.root) / RAW / "train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x09")

    Fetched.__name__ = "MNIST"  # torchvision derives the folder from the name of the class
    monkeypatch.setattr(torchvision.datasets, "MNIST", Fetched)
    data = SMALL.read(tmp_path)
    assert data.train.labels.tolist() == list(range(6))
    assert len(data.test()) == 3
    assert len(everything_in(tmp_path)) == 2 + 4
    assert capfd.readouterr() == ("", "")
    assert timeouts[0] <= 10
    assert socket.getdefaulttimeout() is None


def cifar_part(count):
    pixels = np.arange(count * 3072, dtype=np.int64).astype(np.uint8).reshape(count, 3072)
    return pickle.dumps({"data": pixels, "fine_labels": list(range(count))})


PARTS = {"train": cifar_part(6), "test": cifar_part(3)}
SMALL_100 = replace(
    CIFAR100,
    **{name: {name: hashlib.md5(data, usedforsecurity=False).hexdigest()} for name, data in PARTS.items()},
)


@pytest.fixture
def cifar100(tmp_path):
    """A tiny CIFAR-100 in its own format."""
    write_files(tmp_path / "cifar-100-python", PARTS)
    return tmp_path


def test_cifar_is_read_channels_first_as_it_is_stored(cifar100):
    data = SMALL_100.read(cifar100)
    stored = torch.arange(6 * 3072).to(torch.uint8).reshape(6, 3, 32, 32)
    assert torch.equal(data.train.images, stored)
    assert data.train.images.is_contiguous()
    assert data.train.labels.tolist() == list(range(6))
    assert torch.equal(data.test().images, stored[:3])


def test_the_batches_of_cifar_follow_each_other(cifar100):
    both = replace(SMALL_100, train=SMALL_100.train | SMALL_100.test).read(cifar100)
    assert both.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]


@pytest.mark.parametrize("file", ["train", "test"])
def test_a_damaged_cifar_file_is_found_at_load_and_named(cifar100, file):
    edit(cifar100 / "cifar-100-python" / file, lambda b: b[:-1])
    with pytest.raises(DataError, match=f"cifar-100-python{os.sep}{file} is damaged: its md5 is"):
        SMALL_100.read(cifar100)


def test_a_damaged_pickle_is_not_opened(cifar100):
    class Opened:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    (cifar100 / "cifar-100-python/train").write_bytes(pickle.dumps(Opened()))
    with pytest.raises(DataError, match="is damaged"):
        SMALL_100.read(cifar100)


def test_labels_out_of_range_are_refused(cifar100):
    with pytest.raises(DataError, match="training labels of cifar100 run from 0 to 5; expected 0 to 4"):
        replace(SMALL_100, classes=5).read(cifar100)


@pytest.mark.parametrize("file", ["train", "test"])
def test_a_missing_cifar_file_is_found_at_load_and_named(cifar100, file):
    (cifar100 / "cifar-100-python" / file).unlink()
    with pytest.raises(DataError, match=f"lacks cifar-100-python/{file} of cifar100"):
        SMALL_100.read(cifar100)


def test_the_checksums_of_cifar_are_those_of_torchvision():
    kind = torchvision.datasets.CIFAR100
    assert dict([*kind.train_list, *kind.test_list]) == {**CIFAR100.train, **CIFAR100.test}
