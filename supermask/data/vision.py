"""Reading MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision, checked."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from supermask.data.data_set import DataSet, Examples
from supermask.data.download import ensure_files
from supermask.data.idx import check_header, check_size
from supermask.data.split import nothing_of
from supermask.data.vision_sets import VisionSet
from supermask.errors import DataError
from supermask.torchvision_import import import_torchvision

# what torchvision raises, depending on which byte is wrong
_BROKEN = (
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    EOFError,
    AssertionError,
    pickle.PickleError,
)


def read_vision(facts: VisionSet, folder: Path) -> DataSet:
    """Return a set with an empty validation part; the test files are checked to be there but not decoded.

    For CIFAR, torchvision also compares the md5 of all files, those of the test part included.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is damaged; the message names it.
    """
    ensure_files(facts, folder)
    for train in (True, False):  # a run should not fail at its end: sizes are checked without opening a file
        _check_idx(facts, folder, train, check_size)
    examples = _read_part(facts, folder, train=True)
    return DataSet(
        name=facts.name,
        classes=facts.classes,
        input_shape=facts.input_shape,
        scale=255.0,
        mean=facts.mean,
        std=facts.std,
        train=examples,
        validation=nothing_of(examples),
        read_test=partial(_read_part, facts, folder, train=False),
    )


def _read_part(facts: VisionSet, folder: Path, *, train: bool) -> Examples:
    dataset = getattr(import_torchvision().datasets, facts.torchvision_name)
    with _naming_the_damage(facts, folder, dataset):
        _check_idx(facts, folder, train, check_header)
        read = dataset(folder, train=train, download=False)
        images = torch.as_tensor(read.data)
        labels = torch.as_tensor(read.targets, dtype=torch.int64)
    # torchvision gives (n, H, W) for MNIST and (n, H, W, C) for CIFAR
    images = images.unsqueeze(1) if facts.format == "idx" else images.permute(0, 3, 1, 2).contiguous()
    return _checked(facts, folder, Examples(images, labels), train)


def _checked(facts: VisionSet, folder: Path, examples: Examples, train: bool) -> Examples:
    """Return the examples if their count, shape and labels are those of the set."""
    names, count = facts.part(train)
    where = folder / names[-1] if facts.format == "idx" else folder / facts.folder
    if tuple(examples.images.shape) != (count, *facts.input_shape):
        found, right = tuple(examples.images.shape), (count, *facts.input_shape)
        raise DataError(f"{where} is damaged: its images are {found}, {right} is right; fetch it again.")
    low, high = int(examples.labels.min()), int(examples.labels.max())
    if not 0 <= low <= high < facts.classes:
        right_span = f"0 to {facts.classes - 1}"
        raise DataError(f"{where} is damaged: its labels run from {low} to {high}, {right_span} is right.")
    return examples


def _check_idx(facts: VisionSet, folder: Path, train: bool, check: Callable[[Path, tuple[int, ...]], None]) -> None:
    if facts.format == "idx":
        (images, labels), count = facts.part(train)
        check(folder / images, (count, *facts.input_shape[1:]))
        check(folder / labels, (count,))


@contextmanager
def _naming_the_damage(facts: VisionSet, folder: Path, dataset: Any) -> Iterator[None]:
    """Turn what torchvision raises into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except _BROKEN as error:
        culprits = _wrong_md5(folder / facts.folder, dataset) if facts.format == "pickle" else []
        where = ", ".join(map(str, culprits or [folder / facts.folder]))
        raise DataError(f"{where} cannot be read or is damaged ({error}); fetch it again.") from error


def _wrong_md5(folder: Path, dataset: Any) -> list[Path]:
    entries = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return [folder / name for name, md5 in entries if not _intact(folder / name, md5)]


def _intact(path: Path, md5: str) -> bool:
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5
    except OSError:
        return False
