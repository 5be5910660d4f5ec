"""Which kind of text a passage of source is: a task of text whose data lie where this package is installed.

The four kinds are docstrings (of scipy), Python (the standard library without its docstrings), stubs (of numpy) and
headers of C++ (of torch's core). Files are read and not imported. They are taken in the order of a hash of their names,
and the same hash says which are for testing: a file that another version of a package still has is on the same side
there, and no file is on both. What a newer version writes in its files changes the examples all the same, so that
results name the versions.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from types import MappingProxyType
from typing import NamedTuple

import torch

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of
from supermask.data.text import ASCII, ids_of
from supermask.errors import DataError

CONTEXT = 64
TRAIN, TEST = 4000, 500
"""Windows of each kind."""
MOST_OF_A_FILE = 300
"""Windows: a long file would be most of its kind."""
_TEST_SHARE = 10
_WITH_DOCSTRINGS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Kind(NamedTuple):
    """Where the passages of a kind are from.

    Attributes:
        package: "python" or the name of a package.
        files: a pattern of its files, below its folder.
        read: returns the text of a file.

    """

    package: str
    files: str
    read: Callable[[Path], str]


def read_source_text() -> DataSet:
    """Return windows of source text: token ids int64 (n, 64) of printable ASCII, and the kind as label int64 (n,).

    16,000 windows for training and 2,000 for testing, as many of each of the four `KINDS`, which are the labels in
    their order. Windows do not overlap and do not reach from one file into another. Ids are those of `text.ASCII`; one
    more stands for every other character.

    Raises:
        DataError: the source of a package is not there, or has too little text.

    """
    train = _examples(testing=False)
    return DataSet(
        name="source_text",
        classes=len(KINDS),
        input_shape=(CONTEXT,),
        scale=1.0,
        mean=(),
        std=(),
        train=train,
        validation=nothing_of(train),
        read_test=lambda: _examples(testing=True),
    )


def source_versions() -> dict[str, str]:
    """Return the versions of the packages that the passages are from."""
    packages = [kind.package for kind in KINDS.values()]
    return {name: python_version() if name == "python" else version(name) for name in packages}


@lru_cache(maxsize=2)  # many trainings of one process read it, and parsing takes seconds
def _examples(*, testing: bool) -> Examples:
    wanted = TEST if testing else TRAIN
    texts = [_windows(name, wanted, testing=testing) for name in KINDS]
    images = ids_of("".join(map("".join, texts)), [*ASCII]).view(-1, CONTEXT)
    return Examples(images, torch.arange(len(KINDS)).repeat_interleave(wanted))


def _windows(name: str, wanted: int, *, testing: bool) -> list[str]:
    """Return so many windows of a kind."""
    kind, found = KINDS[name], list[str]()
    for path in _files(kind, testing=testing):
        text = _read(kind, path)
        ends = range(CONTEXT, len(text) + 1, CONTEXT)
        found += [text[end - CONTEXT : end] for end in ends[:MOST_OF_A_FILE]]
        if len(found) >= wanted:
            return found[:wanted]
    raise DataError(
        f"{kind.package} has {len(found):,} passages of {CONTEXT} characters of {name} for"
        f" {'test' if testing else 'train'}ing, and {wanted:,} are needed; install it with its source."
    )


def _files(kind: Kind, *, testing: bool) -> list[Path]:
    """Return the files of a part in the order of the hashes of their names."""
    root = _root(kind.package)
    found = [path for path in root.glob(kind.files) if not {"test", "tests"} & {*path.relative_to(root).parts}]
    hashes = {path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest() for path in found}
    part = [path for path in found if (hashes[path][-1] % _TEST_SHARE == 0) == testing]
    return sorted(part, key=lambda path: hashes[path])


def _root(package: str) -> Path:
    if package == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"The data set source_text needs {package}, which is not installed; install it.")
    return Path(spec.origin).parent


def _read(kind: Kind, path: Path) -> str:
    try:
        return kind.read(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from None


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _docstrings(path: Path) -> str:
    """Return the docstrings of a file in their order: its own, and those of its classes and functions."""
    return "\n".join(ast.get_docstring(node) or "" for node in _documented(ast.parse(path.read_bytes())))


def _code(path: Path) -> str:
    """Return the lines of a file but those of its docstrings."""
    text = _text(path)
    docstrings = [node.body[0] for node in _documented(ast.parse(text))]
    left_out = {line for each in docstrings for line in range(each.lineno, (each.end_lineno or each.lineno) + 1)}
    return "\n".join(line for number, line in enumerate(text.split("\n"), 1) if number not in left_out)


def _documented(node: _WITH_DOCSTRINGS) -> Iterator[_WITH_DOCSTRINGS]:
    """Yield the module, the classes and the functions that have a docstring, in their order."""
    # not ast.walk, which looks at every expression of every function
    if ast.get_docstring(node):
        yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "docstrings": Kind("scipy", "*/*.py", _docstrings),
        "Python": Kind("python", "*.py", _code),
        "stubs": Kind("numpy", "**/*.pyi", _text),
        "headers": Kind("torch", "include/c10/**/*.h", _text),
    }
)
"""The classes in their order."""
