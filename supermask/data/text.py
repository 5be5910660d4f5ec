"""The characters of a file, in windows, each to be predicted from those before it."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of
from supermask.errors import DataError

TEST_SHARE = 10
"""One of so many characters is for testing: those at the end, which no window of the training part reaches."""


ASCII = "\n" + "".join(map(chr, range(32, 127)))
"""The characters of plain text in their order: tokens that several texts can have in common."""


def read_text(path: Path, *, name: str, context: int = 64, characters: str | None = None) -> DataSet:
    """Return windows of a text: token ids int64 (n, context), and as labels the ids one character further on.

    The last tenth of the file is the test part. Ids are the places of the training part's characters in their order;
    one more stands for every other character. Windows do not overlap; what is left at an end is left out.

    Args:
        path: of a file in UTF-8.
        name: of the data set.
        context: characters of a window.
        characters: those that have an id, in the order of their code points, e.g. `ASCII`; None are those of the
            training part.

    Raises:
        DataError: the file cannot be read, is not text, or is too short for two windows of each part.

    """
    train, test = _parts(path)
    if min(len(train), len(test)) < 2 * context + 1:
        most = (min(len(train), len(test)) - 1) // 2
        raise DataError(
            f"{path} has {len(train):,} characters for training and {len(test):,} for testing, too few for windows of"
            f" {context}; give a longer text" + (f", or ?context={most} or less." if most > 0 else ".")
        )
    known = sorted({*train} if characters is None else {*characters})
    examples = _windows(train, known, context)
    return DataSet(
        name=name,
        classes=len(known) + 1,
        input_shape=(context,),
        scale=1.0,
        mean=(),
        std=(),
        train=examples,
        validation=nothing_of(examples),
        read_test=partial(_test, path, known, context),
    )


def _test(path: Path, known: list[str], context: int) -> Examples:
    return _windows(_parts(path)[1], known, context)


def _parts(path: Path) -> tuple[str, str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8: byte {error.start:,} is none of a character.") from None
    except ValueError as error:  # a path with a null byte
        raise DataError(f"Cannot read {path}: {error}.") from None
    end = len(text) - len(text) // TEST_SHARE
    return text[:end], text[end:]


def _windows(text: str, known: list[str], context: int) -> Examples:
    ids = ids_of(text, known)
    count = (len(ids) - 1) // context
    return Examples(ids[: count * context].view(count, context), ids[1 : count * context + 1].view(count, context))


def ids_of(text: str, known: list[str]) -> Tensor:
    """Return the places of a text's characters among the known ones, which are sorted, int64 (n,); others are last."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    vocabulary = np.array([ord(each) for each in known], dtype=np.uint32)
    places = np.minimum(np.searchsorted(vocabulary, codes), len(known) - 1)
    return torch.from_numpy(np.where(vocabulary[places] == codes, places, len(known)))
