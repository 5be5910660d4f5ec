"""Where the data sets' files lie."""

import os
from pathlib import Path

from supermask.errors import DataError

VARIABLE = "SUPERMASK_DATA"


def data_folder(folder: str | Path | None = None) -> Path:
    """Return `folder`, else the one that SUPERMASK_DATA names, else ./data, which need not exist yet.

    Raises:
        DataError: the folder was named, by the argument or the variable, and does not exist.
    """
    if folder is not None:
        return _existing(folder, "was asked for")
    named = os.environ.get(VARIABLE)
    # an empty variable counts as one that is not set
    if named:
        return _existing(named, f"is named by {VARIABLE}")
    return Path("data")


def _existing(folder: str | Path, origin: str) -> Path:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(
            f"The data folder {path} {origin} but is not an existing folder; create it, or name another with "
            f"{VARIABLE} or --data-folder."
        )
    return path
