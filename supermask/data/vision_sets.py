"""Facts of the sets that torchvision reads: where their files lie and what is in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class VisionSet:
    """A data set of torchvision.

    Args:
        name: as `known()` lists it.
        torchvision_name: the class in torchvision.datasets.
        format: "idx" (one file of images, one of labels) or "pickle" (batches with both, and an md5 each).
        folder: where the files lie, relative to the data folder.
        train_files, test_files, other_files: names in `folder`; for "idx" the images come first.
        train_count, test_count: images in each part.
        classes, input_shape, mean, std: as in `DataSet`; pixels are 0..255.
    """

    name: str
    torchvision_name: str
    format: Literal["idx", "pickle"]
    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    other_files: tuple[str, ...]
    train_count: int
    test_count: int
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def part(self, train: bool) -> tuple[tuple[str, ...], int]:
        """Return the file names, relative to the data folder, and the number of images of one part."""
        names, count = (self.train_files, self.train_count) if train else (self.test_files, self.test_count)
        return tuple(f"{self.folder}/{name}" for name in names), count

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the set needs, relative to the data folder."""
        return tuple(f"{self.folder}/{name}" for name in self.train_files + self.test_files + self.other_files)

    def missing(self, folder: Path) -> tuple[str, ...]:
        """Return those of `files` that are not in the data folder; nothing is opened."""
        return tuple(name for name in self.files if not (folder / name).is_file())


def _idx(name: str, torchvision_name: str, *, mean: float, std: float) -> VisionSet:
    """Return the facts of a set in the format and with the sizes of MNIST."""
    return VisionSet(
        name=name,
        torchvision_name=torchvision_name,
        format="idx",
        folder=f"{torchvision_name}/raw",
        train_files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        test_files=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        other_files=(),
        train_count=60_000,
        test_count=10_000,
        classes=10,
        input_shape=(1, 28, 28),
        mean=(mean,),
        std=(std,),
    )


# The tests marked `data` recompute the means and deviations of the first three from the training files.
MNIST = _idx("mnist", "MNIST", mean=0.1307, std=0.3081)
FASHION_MNIST = _idx("fashion_mnist", "FashionMNIST", mean=0.2860, std=0.3530)
CIFAR10 = VisionSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    format="pickle",
    folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test_files=("test_batch",),
    other_files=("batches.meta",),
    train_count=50_000,
    test_count=10_000,
    classes=10,
    input_shape=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = VisionSet(
    name="cifar100",
    torchvision_name="CIFAR100",
    format="pickle",
    folder="cifar-100-python",
    train_files=("train",),
    test_files=("test",),
    other_files=("meta",),
    train_count=50_000,
    test_count=10_000,
    classes=100,
    input_shape=(3, 32, 32),
    # as commonly published; not checked here against the files
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
