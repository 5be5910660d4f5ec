"""Files that are written whole or not at all."""

import contextlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import safetensors.torch
from torch import Tensor

try:
    import fcntl
except ImportError:  # not on Windows, where nothing waits
    fcntl = None  # type: ignore[assignment]

from supermask.errors import RunError, SupermaskError
from supermask.shown import printable

_LOCK = ".lock"
_HOLDER = ".held"
_HALF = ".part"  # ends the temporary names of files under way


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it: a reader never sees half of it.

    Raises:
        SupermaskError: the folder is missing or cannot be written.

    """
    path = Path(path)
    try:
        # in the same folder, because a rename cannot cross from one file system to another
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_HALF)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # before the rename, or a crash of the machine could leave the new name without its bytes
            os.fsync(file.fileno())
        # mkstemp lets only the owner read; the file gets the rights that a plain open would give it
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        # after the rename the temporary name is gone, which is as it should be
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _unwritable(path: Path, error: OSError) -> SupermaskError:
    return SupermaskError(f"Cannot write {path}: {error.strerror}; give a folder that can be written.")


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors by name as the bytes of a safetensors file; they may be views of each other, on any device."""
    # copies, because safetensors refuses tensors that share memory
    return safetensors.torch.save({name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()})


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this thread: no other one, of any process, fills it meanwhile. A dead one's hold is lifted.

    Whoever holds it may hold it once more, as a command does that runs what holds its own folder.

    Raises:
        RunError: another process or thread holds it; the message names the process and its machine.
        SupermaskError: the folder cannot be written.

    """
    mine = os.path.realpath(folder), threading.get_ident()
    if mine in _HELD:
        yield
        return
    with _holding(folder):
        _HELD.add(mine)
        try:
            yield
        finally:
            _HELD.remove(mine)
            # before the lock is lifted, so that nobody's file is removed but one's own
            (folder / _HOLDER).unlink(missing_ok=True)


_HELD: set[tuple[str, int]] = set()
"""The folders that this process holds, each with the thread that does."""


def _holding(folder: Path) -> TextIO:
    """Return a locked open file that says who holds the folder."""
    path = folder / _HOLDER
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = printable(file.read(200)).strip() or "another process"
            raise RunError(f"{folder} is being filled by {holder}; wait for it, or give another --out.") from None
        except OSError:  # a file system without locks
            return file
        # the one before may have removed it between our opening and our lock, and then another one makes a new file
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            break
        file.close()
    with contextlib.suppress(OSError):  # on a full disk the folder is held all the same, by nobody's name
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
    return file


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine is in this context with the folder; the system lifts a dead one's."""
    # the lock's file stays: were it deleted, two processes could hold locks on two files of one name
    with (folder / _LOCK).open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what processes left in a folder that were killed while they wrote."""
    for half in folder.glob(f".*{_HALF}"):
        # another process may remove it at the same moment
        half.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON, whole or not at all.

    Raises:
        SupermaskError: the folder cannot be written, or a value is NaN, infinite or not plain.

    """
    try:
        # NaN and Infinity are no JSON, and other readers refuse them
        text = json.dumps(value, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SupermaskError(f"Cannot write {path} as JSON: {error}.") from None
    write_whole(path, (text + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Return the values of a JSON file.

    Raises:
        SupermaskError: the file is missing or is not JSON.

    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise SupermaskError(f"There is no file {path}.") from None
    # ValueError: broken JSON, and bytes that are no text
    except (OSError, ValueError) as error:
        raise SupermaskError(f"Cannot read {path}: {error}.") from None


def refuse_no_folder(option: str, folder: Path) -> None:
    """Refuse what is no folder and cannot become one; a folder that is not there yet is one that holds nothing.

    Args:
        option: that it was given for.
        folder: to be looked at.

    Raises:
        SupermaskError: it, or what would have to be above it, is a file, a link to nothing or a loop of links; or it
            is no path.

    """
    if "\0" in str(folder):
        raise SupermaskError(f"{option} {printable(str(folder))} has a null byte; give the path of a folder.")
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise SupermaskError(f"{option} {folder}: {there} is no folder; give one.")


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it; it may be there already.

    Raises:
        SupermaskError: it cannot be made or written.

    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # a trial file, because a folder's rights do not tell whether its disk can be written
        descriptor, probe = tempfile.mkstemp(dir=path)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise SupermaskError(
            f"Cannot write the folder {path}: {error.strerror}; give one that can be written."
        ) from None
    return path


def relative(path: Path) -> str:
    """Return a path as short as it can be shown from the current folder."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith("..") else shown


def _umask() -> int:
    # os has no call that only reads the mask, so it is set and put back; two threads at once would put back the 0
    with _READING:
        mask = os.umask(0)
        os.umask(mask)
    return mask


_READING = threading.Lock()
