"""What a published experiment is: the job, every setting with its source, and what the paper leaves unsaid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from supermask.baselines.rounds.engine import Rounds
from supermask.masking.ladder import Ladder
from supermask.report.table import table
from supermask.runs.job import Job

Shapes = Mapping[str, tuple[int, ...]]


class Setting(NamedTuple):
    """One line of a paper's protocol."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Reported:
    """An experiment of a paper that cannot be run here: it is printed beside those that can.

    Attributes:
        name: in `REPORTED`.
        title: one line.
        settings: every setting and every figure with its source.
        why: what is missing here.

    """

    name: str
    title: str
    settings: tuple[Setting, ...]
    why: str

    def describe(self) -> str:
        """Return the settings with their sources as text."""
        shown = table(["setting", "value", "source"], [list(setting) for setting in self.settings])
        return f"{self.title}\n\n{shown}\n\nNot run here: {self.why}"


@dataclass(frozen=True)
class Protocol:
    """An experiment as its paper describes it.

    Attributes:
        name: in `PROTOCOLS`.
        title: one line.
        job: the pruning; its density is a matter of the round.
        rounds: of pruning; 0 where the method has none, and `levels` are the densities.
        trials: seeds.
        reinitialisations: random reinitialisations of each ticket.
        settings: every setting with its source.
        unsaid: what the paper does not say or this toolkit cannot express, and what is done here.
        uncounted: weights that are never pruned, but counted among the weights that remain.
        figures: that were published of it.
        beside: networks of the same table that cannot be run here.
        levels: densities of a method without rounds.

    """

    name: str
    title: str
    job: Job
    rounds: int
    trials: int
    reinitialisations: int
    settings: tuple[Setting, ...]
    unsaid: tuple[str, ...]
    uncounted: int = 0
    figures: tuple[Setting, ...] = ()
    beside: tuple[Reported, ...] = ()
    levels: tuple[float, ...] = ()

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        assert isinstance(self.job.algorithm, Rounds)
        return self.job.algorithm.ladder

    def densities(self, shapes: Shapes) -> list[float]:
        """Return the fractions of the prunable weights that are asked for: the levels, or one for each round.

        Args:
            shapes: of the prunable weights, in the order of the model.

        """
        return [*self.levels] or [self.ladder.density(shapes, rounds) for rounds in range(self.rounds + 1)]

    def weights_remaining(self, shapes: Shapes, rounds: float) -> float:
        """Return the papers' P_m: the fraction of all weights that is left after so many rounds.

        Args:
            shapes: of the prunable weights, in the order of the model.
            rounds: of pruning.

        """
        kept = sum(self.ladder.kept(shapes, rounds).values())
        every = sum(self.ladder.kept(shapes, 0).values())
        return (kept + self.uncounted) / (every + self.uncounted)

    def describe(self) -> str:
        """Return every setting with its source, and what is unsaid, as text."""
        shown = table(["setting", "value", "source"], [list(setting) for setting in self.settings])
        unsaid = "\n".join(f"- {line}" for line in self.unsaid)
        parts = [self.title, shown]
        if self.figures:
            figures = table(["published", "value", "source"], [list(figure) for figure in self.figures])
            parts.append(figures)
        parts += [f"Not in the paper:\n\n{unsaid}", *(each.describe() for each in self.beside)]
        return "\n\n".join(parts)
