"""Smaller data sets out of larger ones: fewer examples, fewer pixels, for trainings of seconds."""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import avg_pool2d

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import divide, pixel_statistics
from supermask.errors import DataError


def few(data: DataSet, *, train: int, test: int, seed: int = 0) -> DataSet:
    """Return the set with some of its training and test examples, drawn by a seed; the validation part stays.

    Raises:
        DataError: there are not so many, or a number is not positive. That of the test set is found out when it is
            read.

    """
    return replace(
        data,
        train=_some(data, data.train, train, seed, "training"),
        # read_test and not test, which would count one read twice: both sets share their counter
        read_test=lambda: _some(data, data.read_test(), test, seed, "test"),
    )


def pooled(data: DataSet, size: int) -> DataSet:
    """Return the set with images of size x size pixels, each the average of a block, rounded; halves go to even.

    The statistics (mean, std) are those of the new training images.

    Raises:
        DataError: the images cannot be divided into size x size equal blocks.

    """
    channels, height, width = data.input_shape
    if size < 1 or height % size or width % size:
        raise DataError(f"Images of {height}x{width} pixels do not divide into {size}x{size} blocks; give a divisor.")
    block = (height // size, width // size)

    def smaller(examples: Examples) -> Examples:
        return Examples(_averaged(examples.images, block), examples.labels)

    train = smaller(data.train)
    mean, std = pixel_statistics(train.images, data.scale)
    return replace(
        data,
        name=f"{data.name} at {size}x{size}",
        input_shape=(channels, size, size),
        mean=mean,
        std=std,
        train=train,
        validation=smaller(data.validation),
        read_test=lambda: smaller(data.read_test()),
    )


def _averaged(images: Tensor, block: tuple[int, int]) -> Tensor:
    return avg_pool2d(images.float(), block).round().to(images.dtype)


def _some(data: DataSet, examples: Examples, count: int, seed: int, part: str) -> Examples:
    if not 1 <= count <= len(examples):
        raise DataError(f"{count} {part} examples of {data.name} are not there; give 1 to {len(examples)}.")
    return divide(examples, count, seed, f"some {part} examples")[0]
