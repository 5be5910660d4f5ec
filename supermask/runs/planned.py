"""A run before it is carried out: what is to be done, and the folder that takes it."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from supermask.errors import RunError, SupermaskError
from supermask.files import read_json
from supermask.runs.folder import RunFolder


class Configured(Protocol):
    """What a run does: a job, or a task of an experiment."""

    def config(self) -> Mapping[str, Any]:
        """Return all that the run depends on, as it comes back from JSON."""


T = TypeVar("T", bound=Configured)


@dataclass(frozen=True)
class Planned(Generic[T]):
    """One run of several.

    Attributes:
        task: what it does.
        path: its folder.
        title: what a progress bar or a message calls it.
        row: of the table that the run belongs to, with all that differ from it in their seed alone.

    """

    task: T
    path: Path
    title: str
    row: Hashable

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether the folder holds the result of this very task."""
        folder = RunFolder(self.path)
        try:
            # a result of other settings, from an earlier version of an experiment, is not this task's
            return folder.finished and read_json(folder.config) == self.task.config()
        except SupermaskError:  # the settings cannot be read
            return False

    def check_folder(self) -> None:
        """Refuse a folder that holds another run, without touching it.

        Raises:
            RunError: it does.

        """
        folder = RunFolder(self.path)
        if folder.finished or folder.begun:
            self.claim()

    def claim(self) -> None:
        """Write the settings into the folder, before there is a run in it.

        Raises:
            SupermaskError: the folder cannot be written, or holds another run.

        """
        RunFolder.open(self.path, self.task.config(), resume=True)

    def check_under_way(self) -> None:
        """Refuse a folder that another run is about to fill.

        Raises:
            RunError: it is; there need not be a checkpoint yet.

        """
        if read_json(RunFolder(self.path).config) != self.task.config():
            raise RunError(f"{self.path} is being filled by a run with other options; give another --out.")
