"""A data set of the caller's own tensors."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from supermask.data.batch import batch_of
from supermask.data.data_set import IGNORED, DataSet, Examples
from supermask.data.loaders import Loaders
from supermask.data.split import nothing_of, pixel_statistics
from supermask.errors import DataError
from supermask.shown import quoted

Pair = tuple[Tensor, Tensor]


def from_tensors(
    train: Pair,
    validation: Pair | None = None,
    test: Pair | Callable[[], Pair] | None = None,
    *,
    name: str = "tensors",
    classes: int | None = None,
) -> DataSet:
    """Return a data set of inputs and targets.

    Args:
        train: inputs and targets, one target per input. Inputs are uint8 images (n, C, H, W), which are normalised by
            their own statistics, or go into the network as they are: floating (n, ...) as float32, integers such as
            token ids (n, T) as int64. Targets are int64 (n,) or (n, T), where -100 does not count, or floating.
        validation: the same, chooses the best step; None takes the last step. `data.split.hold_out` makes one.
        test: the same, or a function that reads it, called at the end only; None leaves the test score empty.
        name: of the data.
        classes: how many there are; None is one more than the largest label of training and validation, and 0 for
            floating targets. For sequences of tokens it is the size of the vocabulary.

    Raises:
        DataError: inputs and targets do not fit each other, or the classes.

    """
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 0):
        raise DataError(f"classes={quoted(classes)} of {name} is no number of classes; give one, or leave it out.")
    known = _examples(train, "train", name)
    held = _examples(validation, "validation", name) if validation is not None else nothing_of(known)
    mean, std = pixel_statistics(known.images, 255.0) if known.images.dtype == torch.uint8 else ((), ())
    if std and min(std) <= 0:
        raise DataError(f"A channel of the training images of {name} is constant, so that it cannot be normalised.")
    return DataSet(
        name=name,
        classes=_classes(known, held) if classes is None else classes,
        input_shape=tuple(known.images.shape[1:]),
        scale=255.0 if mean else 1.0,
        mean=mean,
        std=std,
        train=known,
        validation=held,
        read_test=lambda: (
            nothing_of(known) if test is None else _examples(test() if callable(test) else test, "test", name)
        ),
    )


def _examples(given: object, part: str, name: str) -> Examples:
    """Return a part of the data, which must be a pair."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        what = f"{len(given)} values" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
        raise DataError(f"{part} of {name} is {what}; expected a pair of inputs and targets, two tensors.")
    return Examples(*given)


def from_loaders(loaders: Loaders, *, name: str) -> DataSet:
    """Return a data set of the batches that loaders yield in one pass: inputs and targets that are tensors.

    What a loader draws again in each pass, such as an augmentation, is that of this one.

    Raises:
        DataError: a batch is of another kind.

    """
    test, held = loaders.test, loaders.validation
    return from_tensors(
        _gathered(loaders.train, name),
        None if held is None else _gathered(held, name),
        None if test is None else lambda: _gathered(test, name),
        name=name,
    )


def _gathered(batches: Iterable[Any], name: str) -> Pair:
    found = [batch_of(each) for each in batches]
    if not found or not all(isinstance(part, Tensor) for batch in found for part in batch):
        raise DataError(
            f"A loader of {name} yields no batches of (inputs, targets), two tensors, which are needed here."
        )
    return torch.cat([batch.inputs for batch in found]), torch.cat([batch.targets for batch in found])


def _classes(*parts: Examples) -> int:
    labels = torch.cat([part.labels.flatten() for part in parts])
    if labels.is_floating_point():
        return 0
    labels = labels[labels != IGNORED]
    return int(labels.max()) + 1 if len(labels) else 0
