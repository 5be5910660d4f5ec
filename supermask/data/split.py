"""Splitting examples, and the statistics of their pixels."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from supermask.data.data_set import DataSet, Examples
from supermask.errors import DataError
from supermask.random.keyed import keyed_permutation


def hold_out(data: DataSet, count: int, *, seed: int) -> DataSet:
    """Return `data` with exactly `count` training examples, drawn by seed, moved to its validation part.

    Both parts keep the order of the original; the global generators of torch and numpy are not touched.

    Raises:
        DataError: count is negative, or leaves nothing to train on; or the examples are drawn at each step.
    """
    refuse_drawn(data, "held out of")
    if not 0 <= count < len(data.train):
        raise DataError(
            f"validation is {count} examples of the {len(data.train)} for training of {data.name}; "
            f"it must be from 0 to {len(data.train) - 1}."
        )
    validation, train = divide(data.train, count, seed, "validation")
    return replace(data, train=train, validation=validation)


def divide(examples: Examples, count: int, seed: int, purpose: str) -> tuple[Examples, Examples]:
    """Return `count` examples drawn by (seed, purpose), and the others; each in its original order."""
    order = torch.from_numpy(keyed_permutation(len(examples), seed, purpose))
    return examples.select(order[:count].sort().values), examples.select(order[count:].sort().values)


def refuse_drawn(data: DataSet, what: str) -> None:
    """Refuse a set whose training examples are drawn at each step, for what changes the stored ones.

    Stored training examples come before the draw and the other parts after it, so that one change would not be the
    same for both.
    """
    if data.draw is not None:
        raise DataError(f"Examples of {data.name} are drawn at each step and cannot be {what}; make the task last.")


def nothing_of(examples: Examples) -> Examples:
    """Return no examples, of the same image shape."""
    return Examples(examples.images[:0], examples.labels[:0])


def pixel_statistics(images: Tensor, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation of images / scale per channel; images uint8 (n, C, H, W).

    Computed from integer counts of the 256 values, so exact up to one rounding and the same on every machine.
    """
    counts = [torch.bincount(channel.flatten(), minlength=256).tolist() for channel in images.unbind(1)]
    moments = [_moments(channel) for channel in counts]
    return tuple(mean / scale for mean, _ in moments), tuple(std / scale for _, std in moments)


def _moments(counts: list[int]) -> tuple[float, float]:
    n = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value**2 * count for value, count in enumerate(counts))
    # integers in Python have no limit, so this difference of two large numbers is exact
    return total / n, math.sqrt(n * squares - total**2) / n
