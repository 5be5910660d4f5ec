"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100: which files they are, and reading them once every byte is checked."""

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from supermask.data.data_set import DataSet, Examples
from supermask.data.download import fetch
from supermask.data.split import nothing_of
from supermask.errors import DataError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class VisionSet:
    """A data set in the files that torchvision fetches.

    Attributes:
        name: as `known()` lists it.
        torchvision_name: the class in torchvision.datasets that fetches it.
        decode: bytes of the files of one part to pixels, uint8 in the order (n, C, H, W), and labels, int64 (n,).
        folder: where the files lie, relative to the data folder.
        train, test: file name in `folder` to checksum, in hexadecimal digits: SHA-256, or MD5 if there are 32 of them.
        classes, input_shape, mean, std: as in `DataSet`; pixels are 0..255.

    """

    name: str
    torchvision_name: str
    decode: Callable[[Sequence[bytes]], tuple[Pixels, Labels]]
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def read(self, folder: Path) -> DataSet:
        """Return the set with an empty validation part; the test files are compared with their checksums, not decoded.

        Raises:
            DataError: a file is missing and cannot be downloaded, or is not what it should be; the message names it.

        """
        missing = [name for name in {**self.train, **self.test} if not (folder / self.folder / name).is_file()]
        if missing:
            fetch([f"{self.folder}/{name}" for name in missing], folder, self.name, self.torchvision_name)
        train = self._part(self.train, folder)
        self._files(self.test, folder)  # a run should not fail at its end
        return DataSet(
            name=self.name,
            classes=self.classes,
            input_shape=self.input_shape,
            scale=255.0,
            mean=self.mean,
            std=self.std,
            train=train,
            validation=nothing_of(train),
            read_test=partial(self._part, self.test, folder),
        )

    def _part(self, checksums: Mapping[str, str], folder: Path) -> Examples:
        pixels, labels = self.decode(self._files(checksums, folder))
        # a copy, because np.frombuffer gives a view that cannot be written, which torch warns of
        images = torch.from_numpy(pixels.reshape(-1, *self.input_shape).copy())
        return Examples(images, torch.from_numpy(labels.astype(np.int64)))

    def _files(self, checksums: Mapping[str, str], folder: Path) -> list[bytes]:
        return [_checked_bytes(folder / self.folder / name, checksum) for name, checksum in checksums.items()]


def _checked_bytes(path: Path, checksum: str) -> bytes:
    """Return the bytes of a file that has this checksum."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); fetch it again.") from None
    kind = "md5" if len(checksum) == 32 else "sha256"
    # it finds damage and no forgery; without this flag some builds of OpenSSL refuse MD5
    found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise DataError(f"{path} is damaged: its {kind} is {found}, expected {checksum}; fetch it again.")
    return data


def _decode_idx(files: Sequence[bytes]) -> tuple[Pixels, Labels]:
    """Read images and labels after their headers: 4 bytes, and 4 for each dimension (yann.lecun.com/exdb/mnist)."""
    images, labels = files
    return np.frombuffer(images, np.uint8, offset=16), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def _decode_batches(files: Sequence[bytes], labels: str) -> tuple[Pixels, Labels]:
    """Read pickled batches (cs.toronto.edu/~kriz/cifar.html), harmless because their checksums are right."""
    # Python 2 wrote the files, and latin1 keeps every byte of its strings
    batches = [pickle.loads(file, encoding="latin1") for file in files]
    return np.concatenate([batch["data"] for batch in batches]), np.concatenate([batch[labels] for batch in batches])


def _like_mnist(
    name: str, torchvision_name: str, checksums: tuple[str, str, str, str], *, mean: float, std: float
) -> VisionSet:
    """Return a set with the files of MNIST; checksums of training images and labels, test images and labels."""
    train = dict(zip(("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), checksums[:2], strict=True))
    test = dict(zip(("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), checksums[2:], strict=True))
    folder = f"{torchvision_name}/raw"
    return VisionSet(name, torchvision_name, _decode_idx, folder, train, test, 10, (1, 28, 28), (mean,), (std,))


# The tests marked `data` recompute the means and deviations of the first three from the training files.
MNIST = _like_mnist(
    "mnist",
    "MNIST",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    mean=0.1307,
    std=0.3081,
)
FASHION_MNIST = _like_mnist(
    "fashion_mnist",
    "FashionMNIST",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    mean=0.2860,
    std=0.3530,
)
CIFAR10 = VisionSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    decode=partial(_decode_batches, labels="labels"),
    folder="cifar-10-batches-py",
    train={
        # the order counts: seeds choose validation examples by their places in it
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    },
    test={"test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"},
    classes=10,
    input_shape=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = VisionSet(
    name="cifar100",
    torchvision_name="CIFAR100",
    decode=partial(_decode_batches, labels="fine_labels"),
    folder="cifar-100-python",
    # the MD5 sums that torchvision publishes: its files were never here, so their SHA-256 is not known
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    classes=100,
    input_shape=(3, 32, 32),
    # as commonly published; not checked here against the files
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
