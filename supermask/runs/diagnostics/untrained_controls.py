"""What is left of a ticket's accuracy without its weights, its mask or its choice of weights: nothing is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from supermask.judge import CONTROLS, Verdict
from supermask.judge.verdicts import Comparison
from supermask.report import mean
from supermask.report.page import Fact, Section, Table
from supermask.report.rows import rows_figure
from supermask.runs.diagnostics.accuracies import TICKET, bar, best, difference, shortest, words
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, OfNetwork, Size
from supermask.runs.ticket_scores import batches_for
from supermask.ticket import Ticket
from supermask.training import evaluate, reestimate
from supermask.training.batch_norm import BATCHES

SEEDS = (5, 3, 2)
"""How many draws of each control; with one there is no interval."""


@dataclass(frozen=True, kw_only=True)
class UntrainedResult(Diagnosed):
    """Accuracies of the ticket and its controls, untrained.

    Attributes:
        accuracies: of each network, a fraction of the test images for each seed; the ticket has one.
        images: of the test set.
        seeds: that the controls were drawn by.
        estimated: whether statistics of batch norm were estimated again.

    """

    accuracies: Mapping[str, tuple[float, ...]]
    images: int
    seeds: tuple[int, ...]
    estimated: bool

    def verdicts(self) -> list[Verdict]:
        """Return what the controls say about the claims of the literature."""
        sanity = [name for name in ("reinitialised", "shuffled_in_layers", "inverted") if name in self.accuracies]
        random = [name for name in self.accuracies if name.startswith("random_")]
        return [
            self._verdict("passes the sanity checks", sanity, "Frankle et al. 2021; Su et al. 2020"),
            self._verdict("beats random masks", random, "Su et al. 2020"),
        ]

    def _verdict(self, claim: str, names: Sequence[str], source: str) -> Verdict:
        # the ticket draws nothing, so that its accuracy is the same beside each seed of a control
        own = list(self.accuracies[TICKET]) * len(self.seeds)
        comparisons = tuple(
            Comparison(f"ticket - {words(name)}", difference(own, self.accuracies[name], self.images), 0.0, strict=True)
            for name in names
        )
        return Verdict(claim, "untrained", comparisons, source)


class UntrainedControls(OfNetwork[UntrainedResult]):
    """The ticket beside its controls, with nothing trained."""

    name: ClassVar[str] = "untrained_controls"
    title: ClassVar[str] = "Untrained controls"
    share: ClassVar[float] = 0.3
    kind = UntrainedResult

    def unfit(self, context: Context) -> str:
        """Return why it says nothing of a weak ticket."""
        weak = "a weak ticket claims nothing about its network before it is trained"
        return context.unbuilt or ("" if context.strong else weak)

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return sizes of several seeds."""
        one = context.speed.untrained(len(context.test))
        return [Size(one * (1 + seeds * len(_names(context))), {"seeds": seeds}) for seeds in SEEDS]

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> UntrainedResult:
        """Evaluate the ticket once and each control with each seed."""
        seeds = tuple(range(context.seed, context.seed + size.options["seeds"]))

        def drawn(name: str) -> tuple[float, ...]:
            return tuple(_accuracy(context, context.filed.controlled(CONTROLS[name], seed)) for seed in seeds)

        own = {TICKET: (_accuracy(context, context.ticket),)}
        return UntrainedResult(
            accuracies={**own, **{name: drawn(name) for name in _names(context)}},
            images=len(context.test),
            seeds=seeds,
            estimated=context.speed.estimate > 0,
        )

    def section(self, context: Context, result: UntrainedResult) -> Section:
        """Return a row for each control."""
        own = list(result.accuracies[TICKET]) * len(result.seeds)
        rows = []
        for name, found in result.accuracies.items():
            against = "" if name == TICKET else f"{difference(own, found, result.images).text()} points"
            rows.append([words(name), mean(found).percent(), against, str(len(found))])
        estimated = ", and with the statistics of batch norm estimated again" if result.estimated else ""
        scored = "" if "inverted" in result.accuracies else " No scores lie beside the file, so no mask is inverted."
        bars = {words(name): {"accuracy": bar(found)} for name, found in result.accuracies.items()}
        strongest = best(result.accuracies)
        return Section(
            self.title,
            "A control takes one thing from the ticket and keeps the rest; if the accuracy stays, that thing is not"
            f" what makes it. Here all are measured as they are drawn, with nothing trained{estimated}. Means are over"
            f" {len(result.seeds)} draws, with 95 % intervals (Student); the ticket itself draws nothing.{scored}",
            [_line(verdict) for verdict in result.verdicts()],
            Table(["network", "test accuracy", "ticket - it", "n"], rows),
            rows_figure(bars, "test accuracy (%)"),
            f"Bars of test accuracies: the ticket at {mean(own).percent()}, the best control, {words(strongest)}, at"
            f" {mean(result.accuracies[strongest]).percent()}.",
            context.again,
        )

    def facts(self, result: UntrainedResult) -> Sequence[Fact]:
        """Return the best control and the verdicts."""
        name = best(result.accuracies)
        found = f"{words(name)} reaches {mean(result.accuracies[name]).percent()}, n = {len(result.seeds)} draws"
        return (
            Fact("Best control untrained", found),
            *(Fact(f"{each.claim}, untrained".capitalize(), shortest(each), each.holds) for each in result.verdicts()),
        )


def _names(context: Context) -> list[str]:
    """Return the controls that can be drawn: without scores no mask is inverted."""
    return [name for name, control in CONTROLS.items() if context.filed.scores is not None or not control.scored]


def _line(verdict: Verdict) -> str:
    line = verdict.line()
    return line[0].upper() + line[1:]


def _accuracy(context: Context, ticket: Ticket) -> float:
    network = context.network(ticket)
    reestimate(network, context.batches().first(BATCHES))
    return evaluate(network, batches_for(network, context.data, context.test)).accuracy
