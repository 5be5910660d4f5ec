"""What an experiment is: groups of runs, each beside what was published of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.runs import Job

Result = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """A number from the literature.

    Attributes:
        accuracy: test accuracy, as a fraction.
        source: paper and table or figure.
        note: how sure it is, where it was not read from a table of the paper itself.

    """

    accuracy: float
    source: str
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone: one row of the table.

    Attributes:
        label: of the row; also names the folders of its runs.
        job: of the first seed.
        seeds: of the runs.
        published: what it is held against, if there is anything.

    """

    label: str
    job: Job
    seeds: tuple[int, ...]
    published: Published | None = None


@dataclass(frozen=True)
class Experiment:
    """A published table or figure, or one of our own.

    Attributes:
        name: of the command line and of the files of its results.
        title: one line.
        source: the paper and its table or figure, and what differs here.
        groups: the rows.
        plot: draws the collected results, by group label, into a PNG file.
        needs_gpu: whether it is too large for a CPU.

    """

    name: str
    title: str
    source: str
    groups: tuple[Group, ...]
    plot: Callable[[dict[str, Sequence[Result]], Path], None]
    needs_gpu: bool = False
