"""Data sets of the caller's own, by a text: `folder:PATH`, `npz:FILE`, `text:FILE`, or code that returns one."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from supermask.data.data_set import DataSet
from supermask.data.folder import data_folder
from supermask.data.image_folder import read_image_folder
from supermask.data.loaders import Loaders
from supermask.data.npz import read_npz
from supermask.data.tensors import from_loaders, from_tensors
from supermask.data.text import read_text
from supermask.errors import DataError
from supermask.imported import called, is_place, loaded, registered
from supermask.shown import quoted

GROUP = "supermask.data"
"""Entry points by which a package registers data sets."""
OWN_HINT = "folder:PATH, npz:FILE, text:FILE or module:factory"
"""What `load` takes besides names, worded for a message or a help text."""


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
        read: returns the data set of a path; takes its name and the option.
        option: what may follow the path, as `?OPTION=NUMBER`; empty where nothing may.

    """

    read: Callable[..., DataSet]
    option: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {"folder": Kind(read_image_folder, "size"), "npz": Kind(read_npz), "text": Kind(read_text, "context")}
)


def is_own(name: str) -> bool:
    """Whether a name stands for files or code outside of this package, which only a user may ask for."""
    return name.partition(":")[0] in KINDS or is_place(name) or registered(GROUP, name) is not None


def read_own(name: str, folder: str | Path | None = None) -> DataSet:
    """Return a data set that `is_own`; its validation part is empty where nothing says otherwise.

    Args:
        name: a kind and its path, `package.module:name` or the name of an entry point, which are then imported.
        folder: where relative paths are looked for that are not in the current directory; see `load`.

    Raises:
        DataError: there are no such files, or they are not what they should be.
        SupermaskError: code cannot be imported or called.

    """
    kind, _, rest = name.partition(":")
    if kind not in KINDS:
        return _made(name)
    path, options = _asked(name, rest, KINDS[kind].option)
    found = _found(path, folder)
    return replace(KINDS[kind].read(found, name=name, **options), files=_hashed(found))


def _hashed(path: Path) -> str:
    """Return the hash of a file, or of the names and sizes of all files in a folder."""
    if not path.is_dir():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(os.fsencode(f"{file.relative_to(path)}\0{file.stat().st_size}\0"))
    return digest.hexdigest()


def _asked(name: str, rest: str, option: str) -> tuple[str, dict[str, int]]:
    """Return the path and the options that follow it."""
    path, mark, asked = rest.partition("?")
    key, _, number = asked.partition("=")
    known = f"?{option}=NUMBER" if option else "nothing"
    if not path or (mark and (key != option or not number.isdecimal() or not 0 < int(number) < 1 << 16)):
        raise DataError(f"The data set {quoted(name)} should be {name.partition(':')[0]}:PATH, followed by {known}.")
    return path, {key: int(number)} if mark else {}


def _found(path: str, folder: str | Path | None) -> Path:
    here = Path(path).expanduser()
    if here.exists() or here.is_absolute():
        return here
    there = data_folder(folder) / path
    return there if there.exists() else here


def _made(name: str) -> DataSet:
    """Return what the caller's own code makes, as a data set."""
    made: Any = called(name, loaded(name, GROUP), {})
    if isinstance(made, DataSet):
        return replace(made, name=name)  # by which commands find it again
    if isinstance(made, Loaders):
        return from_loaders(made, name=name)
    if isinstance(made, Mapping) and {"train"} <= {*made} <= {"train", "validation", "test", "classes"}:
        return from_tensors(**made, name=name)
    raise DataError(
        f"{name} returned a {type(made).__name__}; expected a supermask.data.DataSet, supermask.data.Loaders, or a"
        " dictionary with the pair of inputs and targets train, and validation and test if there are any."
    )
