"""Fetching missing files: all or nothing."""

import io
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from supermask.errors import DataError
from supermask.torchvision_import import import_torchvision

TIMEOUT = 5.0  # seconds that a server may stay silent; more, and a machine without a network seems to hang


def fetch(missing: Sequence[str], folder: Path, name: str, torchvision_name: str) -> None:
    """Download missing files of a set into the data folder.

    Args:
        missing: the files, relative to the data folder.
        folder: the data folder; it need not exist.
        name: of the set, for the message.
        torchvision_name: the class in torchvision.datasets that fetches it.

    Raises:
        DataError: the download failed; the folder is as it was before.
        SupermaskError: torchvision cannot be imported.

    """
    torchvision = import_torchvision()
    try:
        _download(getattr(torchvision.datasets, torchvision_name), missing, folder)
    except Exception as error:  # whatever server, archive or disk did, the way out is the same
        raise DataError(
            f"{folder} lacks {', '.join(missing)} of {name} and the download failed "
            f"({type(error).__name__}): put {'it' if len(missing) == 1 else 'them'} there, or name the "
            "folder that has them with SUPERMASK_DATA or --data-folder."
        ) from error


def _download(dataset: type, names: Sequence[str], folder: Path) -> None:
    """Fetch into a temporary folder beside the goal, which always vanishes, then move what is needed."""
    # below an existing parent of the goal: os.replace cannot move from one file system to another
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with TemporaryDirectory(prefix=".download-", dir=place) as temporary:
        with _quiet(), _impatient():
            dataset(temporary, train=True, download=True)
        fetched = [(Path(temporary) / name, folder / name) for name in names]
        for source, _ in fetched:
            source.stat()  # all or nothing: an archive that lacks a file must not be half moved
        for source, goal in fetched:
            goal.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, goal)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what torchvision prints, but for its progress bar on a terminal."""
    bar = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with redirect_stdout(io.StringIO()), bar:
        yield


@contextmanager
def _impatient() -> Iterator[None]:
    """Shorten the time-out of sockets; torchvision offers no other way than the process-wide default."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
