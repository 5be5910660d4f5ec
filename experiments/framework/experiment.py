"""What an experiment is: groups of runs, each beside what was published of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from supermask.results import Result

R = TypeVar("R", bound=Result)


class Task(Protocol):
    """One run of an experiment. `experiments.framework.training.Training` is one."""

    kind: ClassVar[type[Result]]
    """The type of its result; all tasks of an experiment have the same."""

    @property
    def name(self) -> str:
        """What tells it from the other tasks of its group, e.g. "seed0"."""

    def config(self) -> Mapping[str, Any]:
        """Return all that the run depends on, as it comes back from JSON."""

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> Result:
        """Carry it out in a folder, from where it was stopped, by `supermask.runs.recorded`; return the result."""


@dataclass(frozen=True)
class Published:
    """A number from the literature.

    Attributes:
        value: as the table shows it, with its unit.
        source: paper and table or figure.
        note: how sure it is, where it was not read from a table of the paper itself.

    """

    value: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Runs that belong together, e.g. all seeds of one setting: one row of the table.

    Attributes:
        label: of the row; also names the folders of its runs.
        tasks: its runs.
        published: what it is held against, if there is anything.

    """

    label: str
    tasks: tuple[Task, ...]
    published: Published | None = None


@dataclass(frozen=True)
class Table(Generic[R]):
    """The measured columns of a report.

    Attributes:
        header: of the columns.
        row: the cells of a group's results, of which there is at least one.
        note: what the columns mean, in a sentence or two.

    """

    header: tuple[str, ...]
    row: Callable[[Sequence[R]], Sequence[str]]
    note: str


@dataclass(frozen=True)
class Experiment(Generic[R]):
    """A published table or figure, or one of our own.

    Attributes:
        name: of the command line and of the files of its results.
        title: one line.
        source: the paper and its table or figure, and what differs here.
        groups: the rows.
        table: the measured columns.
        plot: draws the collected results, by group label, into a PNG file.
        needs_gpu: whether it is too large for a CPU.
        conclusion: what the collected results say together, by group label, as a paragraph below the table.

    """

    name: str
    title: str
    source: str
    groups: tuple[Group, ...]
    table: Table[R]
    plot: Callable[[Mapping[str, Sequence[R]], Path], None]
    needs_gpu: bool = False
    conclusion: Callable[[Mapping[str, Sequence[R]]], str] | None = None

    @property
    def kind(self) -> type[R]:
        """The type of the results."""
        return cast(type[R], next(task.kind for group in self.groups for task in group.tasks))
