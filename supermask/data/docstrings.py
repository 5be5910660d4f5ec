"""Which package a passage of documentation is from: a task of text whose data lie where this package is installed.

The passages are the docstrings of Python's own library, numpy, scipy and torch. They are read from the source, which is
parsed and not imported. Files are taken in the order of a hash of their names, and the same hash says which are for
testing: a file that another version of a package still has is on the same side there, and no file is on both. What a
newer version writes in its docstrings changes the examples all the same, so that results name the versions.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from types import MappingProxyType

import torch

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of
from supermask.data.text import ASCII, ids_of
from supermask.errors import DataError

FOLDERS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "python": (".",),
        "numpy": ("lib", "linalg", "ma", "polynomial"),
        "scipy": ("linalg", "optimize", "signal"),
        "torch": ("nn", "optim", "distributions"),
    }
)
"""The classes in their order, and the folders of each that are read; "." is the top folder without those in it."""
CONTEXT = 64
TRAIN, TEST = 4000, 500
"""Windows of each class."""
MOST_OF_A_FILE = 300
"""Windows: a long file would be most of its class."""
_TEST_SHARE = 10


def read_docstrings() -> DataSet:
    """Return windows of docstrings: token ids int64 (n, 64) of printable ASCII, and the package as label int64 (n,).

    16,000 windows for training and 2,000 for testing, as many of each of the four packages. Windows do not overlap and
    do not reach from one file into another. Ids are those of `text.ASCII`; one more stands for every other character.

    Raises:
        DataError: the source of a package is not there, or has too few docstrings.

    """
    train = _examples(testing=False)
    return DataSet(
        name="docstrings",
        classes=len(FOLDERS),
        input_shape=(CONTEXT,),
        scale=1.0,
        mean=(),
        std=(),
        train=train,
        validation=nothing_of(train),
        read_test=lambda: _examples(testing=True),
    )


def docstring_sources() -> dict[str, str]:
    """Return the versions of the packages that the passages are from."""
    return {name: python_version() if name == "python" else version(name) for name in FOLDERS}


@lru_cache(maxsize=2)  # many trainings of one process read it, and parsing takes seconds
def _examples(*, testing: bool) -> Examples:
    wanted = TEST if testing else TRAIN
    texts = [_windows(name, wanted, testing=testing) for name in FOLDERS]
    images = ids_of("".join(map("".join, texts)), [*ASCII]).view(-1, CONTEXT)
    return Examples(images, torch.arange(len(FOLDERS)).repeat_interleave(wanted))


def _windows(name: str, wanted: int, *, testing: bool) -> list[str]:
    """Return so many windows of a package."""
    found: list[str] = []
    for path in _files(name, testing=testing):
        text = "\n".join(_docstrings(path))
        ends = range(CONTEXT, len(text) + 1, CONTEXT)
        found += [text[end - CONTEXT : end] for end in ends[:MOST_OF_A_FILE]]
        if len(found) >= wanted:
            return found[:wanted]
    raise DataError(
        f"The source of {name} has {len(found):,} passages of {CONTEXT} characters for {'test' if testing else 'train'}"
        f"ing, and {wanted:,} are needed; install it with its source."
    )


def _files(name: str, *, testing: bool) -> list[Path]:
    """Return the files of a part in the order of the hashes of their names."""
    root = _root(name)
    found = [path for folder in FOLDERS[name] for path in _within(root, folder)]
    hashes = {path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest() for path in found}
    return sorted(
        (path for path in found if (hashes[path][-1] % _TEST_SHARE == 0) == testing), key=lambda path: hashes[path]
    )


def _root(name: str) -> Path:
    if name == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise DataError(f"The data set docstrings needs the source of {name}, which is not installed; install {name}.")
    return Path(spec.origin).parent


def _within(root: Path, folder: str) -> list[Path]:
    paths = root.glob("*.py") if folder == "." else (root / folder).rglob("*.py")
    return [path for path in paths if not {"test", "tests"} & {*path.relative_to(root).parts}]


def _docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a file in their order: its own, and those of its classes and functions."""
    try:
        yield from _of_body(ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Python: {error}.") from None


def _of_body(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    # not ast.walk, which looks at every expression of every function
    found = ast.get_docstring(node)
    if found:
        yield found
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of_body(child)
