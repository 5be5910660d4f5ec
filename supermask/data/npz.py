"""Arrays in a file of `numpy.savez`."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import divide
from supermask.data.tensors import Pair, from_tensors
from supermask.errors import DataError

Array = NDArray[Any]
LAYOUT = "x_train, y_train, x_test and y_test, with x_val and y_val if there are any; or images and labels"
TEST_SHARE = 5
"""One of so many examples is for testing where the file does not say which."""


def read_npz(path: Path, *, name: str) -> DataSet:
    """Return the arrays of a file: x_train, y_train, x_test, y_test (and x_val, y_val), or images and labels.

    Of images and labels alone a fifth is the test part, the same at every call. uint8 are pixels (n, C, H, W); (n, H,
    W) has one channel, and channels that are last, of one or three, become the first. Integers of other types are
    token ids (n, T), or with more dimensions pixels; floating numbers (n, ...) go into the network as they are. Labels
    are integers (n,), (n, 1) or (n, T), or floating targets.

    Raises:
        DataError: the file cannot be read, or an array is missing or not of such a shape or type.

    """
    with _opened(path) as file:
        names = {*file.files}
        if {"x_train", "y_train"} <= names:
            train = _pair(file, path, "x_train", "y_train")
            held = _pair(file, path, "x_val", "y_val") if {"x_val", "y_val"} <= names else None
            test = partial(_read_test, path) if {"x_test", "y_test"} <= names else None
            return from_tensors(train, held, test, name=name)
        if {"images", "labels"} <= names:
            return from_tensors(_divided(file, path)[1], None, partial(_read_divided, path), name=name)
    there = ", ".join(sorted(names)[:8]) or "none"
    raise DataError(f"{path} has the arrays {there}; expected {LAYOUT}.")


def _read_test(path: Path) -> Pair:
    with _opened(path) as file:
        return _pair(file, path, "x_test", "y_test")


def _read_divided(path: Path) -> Pair:
    with _opened(path) as file:
        return _divided(file, path)[0]


def _divided(file: Any, path: Path) -> tuple[Pair, Pair]:
    """Return the test part and the others."""
    everything = Examples(*_pair(file, path, "images", "labels"))
    test, train = divide(everything, len(everything) // TEST_SHARE, 0, "npz test split")
    return (test.images, test.labels), (train.images, train.labels)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with ExitStack() as opened:
        try:
            # by us, because numpy leaves a file open that turns out to be none of its own
            there = opened.enter_context(path.open("rb"))
            file = np.load(there, allow_pickle=False)  # pickled objects would run code
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            reason = getattr(error, "strerror", None) or "it is not a file of numpy.savez"
            raise DataError(f"Cannot read {path}: {reason}.") from None
        if not hasattr(file, "files"):
            raise DataError(f"{path} holds a single array; expected {LAYOUT}, as numpy.savez writes them.")
        yield opened.enter_context(file)


def _pair(file: Any, path: Path, inputs: str, targets: str) -> Pair:
    x, y = _inputs(_array(file, path, inputs)), _targets(_array(file, path, targets))
    if len(x) != len(y):
        raise DataError(f"{path} has {len(x)} examples in {inputs} and {len(y)} in {targets}; expected as many.")
    return x, y


def _array(file: Any, path: Path, name: str) -> Array:
    try:
        array: Array = np.asarray(file[name])
    except MemoryError:  # of what it says it holds, which is told as such
        raise
    except Exception:  # numpy reads a header as Python, whose parser raises of every kind
        raise DataError(f"Cannot read the array {name} of {path}; it is damaged, or of Python objects.") from None
    if array.dtype.kind not in "biuf" or not array.ndim or not len(array):
        raise DataError(
            f"{name} of {path} is {array.dtype} of shape {array.shape}; expected numbers, the first dimension of"
            " examples."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name} of {path} has numbers that are not finite; leave those examples out.")
    return array


def _inputs(array: Array) -> Tensor:
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype.kind != "b" and array.ndim > 2 and array.dtype != np.uint8:
        small = int(array.min()) >= 0 and int(array.max()) < 256
        array = array.astype(np.uint8 if small else np.float32)
    if array.dtype == np.uint8:
        return torch.from_numpy(_channels_first(array))
    return torch.from_numpy(array.astype(np.int64) if array.dtype.kind != "b" else array)


def _channels_first(pixels: Array) -> Array:
    if pixels.ndim == 3:
        return pixels[:, None]
    last = pixels.ndim == 4 and pixels.shape[-1] in (1, 3) and pixels.shape[1] not in (1, 3)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if last else pixels


def _targets(array: Array) -> Tensor:
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    labels = array.astype(np.int64)
    return torch.from_numpy(labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)
