"""Many tasks made from one data set: its pixels permuted, its images turned, or its classes in groups.

The sets of continual learning, as Wortsman et al. 2020, "Supermasks in superposition", section 4, have them. Each is a
`DataSet` with the statistics (mean, std) of the one it was made from, whose test files are read when it is asked for
its own test examples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of, refuse_drawn
from supermask.errors import DataError
from supermask.random.keyed import keyed_permutation


def permuted(data: DataSet, task: int, *, seed: int = 0) -> DataSet:
    """Return the set with the pixels of every image in the order of (seed, task), the channels of a pixel together.

    PermutedMNIST (Wortsman et al. 2020, section 4.2); no task has the pixels in place.

    Raises:
        DataError: task is negative, or the examples are drawn at each step.

    """
    if task < 0:
        raise DataError(f"task={task} is negative; tasks are counted from 0.")
    refuse_drawn(data, "permuted")
    pixels = data.input_shape[1] * data.input_shape[2]
    order = torch.from_numpy(keyed_permutation(pixels, seed, "pixels of task", task))
    return with_images(data, f"permuted {data.name}, task {task}", lambda images: _gathered(images, order))


def rotated(data: DataSet, degrees: float) -> DataSet:
    """Return the set with every image turned counterclockwise about its centre; what comes from outside is black.

    RotatedMNIST has 36 tasks, 10 degrees apart (Wortsman et al. 2020, section 4.2). A pixel is that of the nearest
    place, so that 90 degrees turn a square image exactly.

    Raises:
        DataError: degrees is not finite, or the examples are drawn at each step.

    """
    if not math.isfinite(degrees):
        raise DataError(f"degrees={degrees} is not an angle; give a finite number.")
    refuse_drawn(data, "turned")
    _, height, width = data.input_shape
    order = _turned(height, width, math.radians(degrees))
    return with_images(data, f"{data.name} turned by {degrees:g} degrees", lambda images: _gathered(images, order))


def split(data: DataSet, group: Sequence[int]) -> DataSet:
    """Return the examples of some classes alone, with labels from 0 in the order of the group.

    Raises:
        DataError: the group is empty, names a class twice or one that the set does not have; or the examples are
            drawn at each step.

    """
    if not group or len(set(group)) != len(group) or not all(0 <= label < data.classes for label in group):
        raise DataError(
            f"The group {list(group)} is not a group of classes of {data.name}; name some of 0 to {data.classes - 1},"
            " each once."
        )
    refuse_drawn(data, "split by class")
    labels = torch.full((data.classes,), -1, dtype=torch.int64)
    labels[list(group)] = torch.arange(len(group))

    def chosen(examples: Examples) -> Examples:
        places = (labels[examples.labels] >= 0).nonzero()[:, 0]
        return Examples(examples.images[places], labels[examples.labels[places]])

    return replace(
        data,
        name=f"{data.name}, classes {', '.join(map(str, group))}",
        classes=len(group),
        train=chosen(data.train),
        validation=chosen(data.validation),
        # read_test and not test, which would count one read twice: both sets share their counter
        read_test=lambda: chosen(data.read_test()),
    )


def class_groups(classes: int, size: int, *, seed: int | None = None) -> list[tuple[int, ...]]:
    """Return all classes in groups of one size: consecutive ones, or drawn by a seed.

    SplitMNIST has consecutive classes in pairs; SplitCIFAR100 draws 20 groups of 5 (Wortsman et al. 2020, sections
    4.1 and 4.2).

    Raises:
        DataError: the groups do not come out even.

    """
    if size < 1 or classes < 1 or classes % size:
        raise DataError(f"{classes} classes do not go into groups of {size}; give a size that divides them.")
    order = range(classes) if seed is None else keyed_permutation(classes, seed, "groups of classes").tolist()
    return [tuple(order[start : start + size]) for start in range(0, classes, size)]


def without_test(data: DataSet) -> DataSet:
    """Return the set with no test examples, so that a training does not touch the test set at its end."""
    return replace(data, read_test=lambda: nothing_of(data.train))


def with_images(
    data: DataSet, name: str, change: Callable[[Tensor], Tensor], *, input_shape: tuple[int, int, int] | None = None
) -> DataSet:
    """Return the set with the images of all parts changed, and the same labels and statistics.

    Args:
        data: left as it is.
        name: of the new set.
        change: uint8 images (n, C, H, W) to others.
        input_shape: (C, H, W) of the changed images, if it is another.

    """

    def changed(examples: Examples) -> Examples:
        return Examples(change(examples.images), examples.labels)

    return replace(
        data,
        name=name,
        input_shape=input_shape or data.input_shape,
        train=changed(data.train),
        validation=changed(data.validation),
        # read_test and not test, which would count one read twice: both sets share their counter
        read_test=lambda: changed(data.read_test()),
    )


def _gathered(images: Tensor, order: Tensor) -> Tensor:
    """Return images whose pixel i is that of place order[i]; -1 is black."""
    flat = images.flatten(2)
    # the index -1 would be the last pixel; what is read in its place is made black below
    gathered = flat[:, :, order.clamp(min=0).to(images.device)]
    return torch.where(order.to(images.device) < 0, 0, gathered).to(images.dtype).reshape(images.shape)


def _turned(height: int, width: int, angle: float) -> Tensor:
    """Return the place that each pixel of a turned image comes from, row by row; -1 from outside."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    # about the middle of the image, which lies between two pixels where a side is even
    down, right = rows - (height - 1) / 2, columns - (width - 1) / 2
    # with rows that go down, counterclockwise is from the right up
    from_row = np.rint(math.cos(angle) * down + math.sin(angle) * right + (height - 1) / 2).astype(np.int64)
    from_column = np.rint(math.cos(angle) * right - math.sin(angle) * down + (width - 1) / 2).astype(np.int64)
    inside = (from_row >= 0) & (from_row < height) & (from_column >= 0) & (from_column < width)
    return torch.from_numpy(np.where(inside, from_row * width + from_column, -1).reshape(-1))
