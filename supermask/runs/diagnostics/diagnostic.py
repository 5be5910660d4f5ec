"""What a diagnostic is: one thing that can be measured of a ticket, in one or more sizes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from supermask.report.page import Fact, Section
from supermask.results import Result
from supermask.runs.diagnostics.context import Context


@dataclass(frozen=True, kw_only=True)
class Diagnosed(Result):
    """What a diagnostic measured.

    Attributes:
        seconds: that it took; what runs it fills them in.

    """

    seconds: float = 0.0


@dataclass(frozen=True)
class Size:
    """How much of a diagnostic is run.

    Attributes:
        seconds: that it takes, by an estimate.
        options: numbers by name, e.g. {"seeds": 3}; they stand in the name of the folder of its result.

    """

    seconds: float
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The options in words."""
        parts = [f"{value:,} {name if value != 1 else name.rstrip('s')}" for name, value in self.options.items()]
        return " of ".join(parts)


R = TypeVar("R", bound=Diagnosed)


class Diagnostic(ABC, Generic[R]):
    """One thing that can be measured of a ticket.

    A new diagnostic is such a class, and a line in `supermask.runs.diagnostics.registry`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    share: ClassVar[float] = 1.0
    """Of the time that is left, what a size may take; the smallest may take all."""

    kind: type[R]
    """The record of its result."""

    def unfit(self, context: Context) -> str:
        """Return why it does not fit the ticket, as a sentence without its full stop; empty where it does."""
        return ""

    @abstractmethod
    def sizes(self, context: Context) -> Sequence[Size]:
        """Return the sizes in which it can be run, the largest first."""

    @abstractmethod
    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> R:
        """Measure the ticket.

        Args:
            context: the ticket and its data.
            size: that is run.
            folder: of its own, for what a stopped run goes on from.
            left: returns the seconds that are left; what has parts stops between them.

        """

    @abstractmethod
    def section(self, context: Context, result: R) -> Section:
        """Return the section of the report, or the first of them."""

    def sections(self, context: Context, result: R) -> Sequence[Section]:
        """Return all sections: the one, unless what was measured answers several questions."""
        return (self.section(context, result),)

    def facts(self, result: R) -> Sequence[Fact]:
        """Return the lines of the box at the top."""
        return ()


class OfNetwork(Diagnostic[R]):
    """A diagnostic that runs the ticket's network."""

    def unfit(self, context: Context) -> str:
        """Return why the network cannot be built."""
        return context.unbuilt
