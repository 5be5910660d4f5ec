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
from supermask.data.idx import header
from supermask.data.vision import read_vision
from supermask.data.vision_sets import CIFAR100, MNIST
from supermask.errors import DataError

SMALL = replace(MNIST, train_count=6, test_count=3)
SMALL_100 = replace(CIFAR100, train_count=6, test_count=3)
RAW = Path("MNIST/raw")


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(array.shape) + array.tobytes())


def write_small_mnist(root):
    for part, count in (("train", 6), ("t10k", 3)):
        pixels = np.arange(count * 784, dtype=np.int64).astype(np.uint8).reshape(count, 28, 28)
        write_idx(root / RAW / f"{part}-images-idx3-ubyte", pixels)
        write_idx(root / RAW / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))


@pytest.fixture
def mnist(tmp_path):
    write_small_mnist(tmp_path)
    return tmp_path


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_mnist_is_read_as_written(mnist):
    data = read_vision(SMALL, mnist)
    assert data.train.images.shape == (6, 1, 28, 28)
    assert data.train.images.flatten().tolist() == [i % 256 for i in range(6 * 784)]
    assert data.train.labels.tolist() == list(range(6))
    assert data.test().labels.tolist() == list(range(3))


@pytest.mark.parametrize("file", SMALL.train_files + SMALL.test_files)
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:2], lambda b: b"", lambda b: b + b"\0"])
def test_a_wrong_length_is_found_at_load_and_the_file_named(mnist, file, change):
    edit(mnist / RAW / file, change)
    with pytest.raises(DataError, match=rf"{file} is damaged: it is [\d,]+ bytes long"):
        read_vision(SMALL, mnist)


@pytest.mark.parametrize("file", SMALL.train_files)
@pytest.mark.parametrize("byte", [0, 2, 3, 7])
def test_a_wrong_header_is_found_and_the_file_named(mnist, file, byte):
    edit(mnist / RAW / file, lambda b: b[:byte] + bytes([b[byte] ^ 1]) + b[byte + 1 :])
    with pytest.raises(DataError, match=f"{file} is damaged: it begins with"):
        read_vision(SMALL, mnist)


def test_a_label_out_of_range_is_found_and_the_file_named(mnist):
    edit(mnist / RAW / "train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte is damaged: its labels run from 0 to 10"):
        read_vision(SMALL, mnist)


def test_damage_inside_the_test_files_is_found_when_they_are_read_and_not_before(mnist):
    edit(mnist / RAW / "t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a")
    data = read_vision(SMALL, mnist)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is damaged"):
        data.test()


def test_leftovers_of_an_old_torchvision_are_no_traceback(mnist):
    (mnist / "MNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (mnist / "MNIST/processed" / name).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="MNIST"):
        read_vision(SMALL, mnist)


@pytest.mark.parametrize("file", SMALL.train_files + SMALL.test_files)
def test_one_missing_file_is_found_at_load_and_named_with_the_way_out(mnist, file):
    (mnist / RAW / file).unlink()
    before = everything_in(mnist)
    with pytest.raises(DataError, match=rf"lacks MNIST/raw/{file} of mnist .* SUPERMASK_DATA or --data-folder"):
        read_vision(SMALL, mnist)
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
        write_idx(Path(root) / RAW / "train-images-idx3-ubyte", np.zeros((6, 28, 28), np.uint8))
        raise ConnectionResetError

    monkeypatch.setattr(torchvision.datasets, "MNIST", half)
    with pytest.raises(DataError, match="ConnectionResetError"):
        read_vision(SMALL, tmp_path)
    assert everything_in(tmp_path) == []


def test_an_archive_that_lacks_a_file_is_not_half_moved(tmp_path, monkeypatch):
    def lacking(root, **options):
        write_idx(Path(root) / RAW / "train-images-idx3-ubyte", np.zeros((6, 28, 28), np.uint8))

    monkeypatch.setattr(torchvision.datasets, "MNIST", lacking)
    with pytest.raises(DataError, match="download failed"):
        read_vision(SMALL, tmp_path)
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
    data = read_vision(SMALL, tmp_path)
    assert data.train.labels.tolist() == list(range(6))
    assert len(data.test()) == 3
    assert len(everything_in(tmp_path)) == 2 + 4
    assert capfd.readouterr() == ("", "")
    assert timeouts[0] <= 10
    assert socket.getdefaulttimeout() is None


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """A tiny CIFAR-100 in its own format, with torchvision's checksums set to those of its files."""
    sums = {}
    for name, count in (("train", 6), ("test", 3)):
        pixels = np.arange(count * 3072, dtype=np.int64).astype(np.uint8).reshape(count, 3072)
        sums[name] = _pickled(tmp_path / "cifar-100-python" / name, data=pixels, fine_labels=list(range(count)))
    sums["meta"] = _pickled(tmp_path / "cifar-100-python/meta", fine_label_names=["apple"])
    kind = torchvision.datasets.CIFAR100
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["meta"]})
    return tmp_path


def _pickled(path, **content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar_is_read_channels_first_as_it_is_stored(cifar100):
    data = read_vision(SMALL_100, cifar100)
    stored = torch.arange(6 * 3072).to(torch.uint8).reshape(6, 3, 32, 32)
    assert torch.equal(data.train.images, stored)
    assert data.train.images.is_contiguous()
    assert data.train.labels.tolist() == list(range(6))
    assert torch.equal(data.test().images, stored[:3])


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_damaged_cifar_file_is_found_at_load_and_named(cifar100, file):
    edit(cifar100 / "cifar-100-python" / file, lambda b: b[:-1])
    with pytest.raises(DataError, match=f"cifar-100-python{os.sep}{file} cannot be read or is damaged"):
        read_vision(SMALL_100, cifar100)


@pytest.mark.parametrize(("changes", "message"), [({"train_count": 5}, "images are"), ({"classes": 5}, "labels")])
def test_a_cifar_of_another_content_is_refused(cifar100, changes, message):
    with pytest.raises(DataError, match=f"cifar-100-python is damaged: its {message}"):
        read_vision(replace(SMALL_100, **changes), cifar100)


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_missing_cifar_file_is_found_at_load_and_named(cifar100, file):
    (cifar100 / "cifar-100-python" / file).unlink()
    with pytest.raises(DataError, match=f"lacks cifar-100-python/{file} of cifar100"):
        read_vision(SMALL_100, cifar100)
