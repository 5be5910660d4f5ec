"""Whether a ticket's training is stable to the order of the examples, beside that of a random mask."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from supermask.judge import CONTROLS, Barrier, changed
from supermask.judge.barrier import EXAMPLES, STABLE
from supermask.report.lines import Line, lines_figure
from supermask.report.page import Fact, Section, Table
from supermask.runs.diagnostics.accuracies import TICKET
from supermask.runs.diagnostics.context import EVALUATIONS, Context
from supermask.runs.diagnostics.copied import Copies, Plan, copied
from supermask.runs.diagnostics.diagnostic import Diagnosed, OfNetwork, Size
from supermask.runs.diagnostics.trained_controls import lengths
from supermask.runs.diagnostics.weight_correlation import correlation_fact, correlation_section
from supermask.ticket import Ticket

COPIES = (3, 2)
"""Copies of each network: three pairs, or one."""
POINTS = (30, 11)
"""Places on each line, both ends included; an odd number has the middle among them."""
CONTROL = "shuffled_in_layers"
RANDOM = "random mask"
"""What the control is called in the report."""
PUBLISHED = 63_000
"""Steps of the paper's ResNet-20."""


@dataclass(frozen=True, kw_only=True)
class InstabilityResult(Diagnosed):
    """The copies of a ticket's network, and those of a random mask.

    Attributes:
        networks: what was found of each, by name; the random mask is left out where the time was up.
        copies: of each network.
        points: places on each line.
        images: of the test set.
        steps: optimizer steps of each training.
        epochs: the same in passes over the training examples.
        recipe: in a line.

    """

    networks: Mapping[str, Copies]
    copies: int
    points: int
    images: int
    steps: int
    epochs: float
    recipe: str

    @property
    def training(self) -> str:
        """How long a training is, in words."""
        return f"{self.steps:,} steps ({self.epochs:.1f} epochs)"


class Instability(OfNetwork[InstabilityResult]):
    """Copies that differ in the order of the examples: the barriers between them, and what their training moved."""

    name: ClassVar[str] = "instability"
    title: ClassVar[str] = "Instability"
    kind = InstabilityResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return sizes of several steps, copies and places."""
        # more steps first: copies that are hardly trained are close together, which says nothing
        return [
            _size(context, Plan(count, points, steps))
            for steps in lengths(context)
            for count in COPIES
            for points in POINTS
        ]

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> InstabilityResult:
        """Measure the ticket, and a random mask if the time suffices for one more like it."""
        plan, found = Plan(**size.options), dict[str, Copies]()
        begun = time.monotonic()
        for name, ticket in _networks(context).items():
            if not found or (time.monotonic() - begun) / len(found) <= left():
                found[name] = copied(context, name, ticket, plan, folder / name.replace(" ", "-"))
        return InstabilityResult(
            networks=found,
            copies=plan.copies,
            points=plan.points,
            images=len(context.test),
            steps=plan.steps,
            epochs=plan.steps / context.batches().per_epoch,
            recipe=context.recipe(plan.steps).settle().describe(),
        )

    def section(self, context: Context, result: InstabilityResult) -> Section:
        """Return a row for each network."""
        header = ["network", "error", "barrier", "on training examples", "interpolated", "differ", "distance", "stable"]
        return Section(
            self.title,
            _text(context, result),
            [f"{name.capitalize()}: {_heights(each)}" for name, each in result.networks.items()],
            Table(header, [_row(name, each) for name, each in result.networks.items()]),
            lines_figure(_lines(result.networks), "a, from one copy (0) to the other (1)", "test error (%)"),
            "Lines of the test error between two copies. "
            + "; ".join(f"{name}: {_heights(each)}" for name, each in result.networks.items()),
            context.again,
        )

    def sections(self, context: Context, result: InstabilityResult) -> Sequence[Section]:
        """Return the section on the barriers and that on the correlation of weights: the trainings are the same."""
        correlations = {name: each.correlations for name, each in result.networks.items()}
        return (
            self.section(context, result),
            correlation_section(correlations, result.training, context.again),
        )

    def facts(self, result: InstabilityResult) -> Sequence[Fact]:
        """Return the verdict on the ticket, and how its weights rank."""
        own, control = result.networks[TICKET], result.networks.get(RANDOM)
        beside = "" if control is None else f"; {RANDOM} {_mean(control.barriers)} points"
        return (
            Fact(
                f"Stable to the order of the examples, trained for {result.steps:,} steps",
                f"test barrier {_mean(own.barriers)} points, {_pairs(own.barriers)}{beside}",
                _verdict(own.barriers),
            ),
            *correlation_fact(own.correlations, f"{result.steps:,} steps"),
        )


def _size(context: Context, plan: Plan) -> Size:
    pace, held, test = context.speed, len(context.data.validation), len(context.test)
    line = pace.line(plan.points, min(EXAMPLES, len(context.data.train)), test)
    trainings = plan.copies * pace.alone(plan.steps, EVALUATIONS + 1, held, test)
    options = {"points": plan.points, "copies": plan.copies, "steps": plan.steps}
    return Size(2 * (trainings + comb(plan.copies, 2) * line), options)


def _networks(context: Context) -> dict[str, Ticket]:
    """Return the ticket and a random mask of its counts; a ticket that keeps all has no other mask."""
    own, control = context.ticket, context.filed.controlled(CONTROLS[CONTROL], context.seed)
    return {TICKET: own, **({RANDOM: control} if changed(own, control).total else {})}


def _text(context: Context, result: InstabilityResult) -> str:
    text = (
        "Copies of the ticket's network start from its initial state and are trained alike; they differ in the order of"
        " the examples alone. The network is stable if on the straight line between two copies the test error nowhere"
        f" rises {100 * STABLE:g} points or more above the mean of the ends (Frankle et al. 2020). Each network has"
        f" {result.copies} copies, after {result.training}: {result.recipe}. A line has {result.points} places, both"
        f" ends included. Means are over the pairs. One test image is {100 / result.images:.2f} points."
    )
    if RANDOM in result.networks:
        text += " The random mask keeps as many weights in each layer, over the same random weights."
    elif len(_networks(context)) > 1:
        text += " There was no time for a random mask beside it."
    if result.networks[TICKET].interpolated:
        text += (
            "\n\nNo training visited the networks in between, so that the statistics of batch norm are estimated at"
            ' every place, the ends included, from training examples. The column "interpolated" has the test barrier'
            " with averages of the two copies' statistics instead, which is higher as a rule."
        )
    return "\n\n".join([text, *_reservations(context, result)])


def _reservations(context: Context, result: InstabilityResult) -> list[str]:
    """Return what a reader has to know before a verdict is believed."""
    found, longest = [], lengths(context)[0]
    if context.strong:
        found.append(
            "The ticket is a strong one: it claims that its network is accurate without training. Its weights are"
            " trained here all the same. The section says what the ticket is as the start of a training, and nothing"
            " about that claim."
        )
    if result.steps < longest:
        found.append(
            f"This is a short training: the longest here is of {longest:,} steps, for which there was no time. Copies"
            " that are hardly trained are close together and seem stable."
        )
    if result.steps < PUBLISHED:
        found.append(
            f"The paper trains ResNet-20 for {PUBLISHED:,} steps; a verdict after {result.steps:,} may differ from one"
            " after so many."
        )
    verdicts = {name: _verdict(each.barriers) for name, each in result.networks.items()}
    if RANDOM in verdicts and set(verdicts.values()) == {"yes"}:
        found.append(
            "The random mask is stable too: here stability sets the ticket apart from no other network of its size."
        )
    return found


def _verdict(barriers: Sequence[Barrier]) -> str:
    stable = {each.stable for each in barriers}
    return "undecided" if len(stable) > 1 else "yes" if stable == {True} else "no"


def _mean(barriers: Sequence[Barrier]) -> str:
    return f"{100 * fmean(each.height for each in barriers):.2f}"


def _pairs(barriers: Sequence[Barrier]) -> str:
    return f"{len(barriers)} pair{'s' * (len(barriers) != 1)}"


def _heights(found: Copies) -> str:
    heights = [100 * each.height for each in found.barriers]
    spread = f", {min(heights):.2f} to {max(heights):.2f}" if heights[1:] else ""
    pairs = f"{_pairs(found.barriers)}{spread}"
    return f"stable: {_verdict(found.barriers)}; test barrier {_mean(found.barriers)} points ({pairs})"


def _row(name: str, found: Copies) -> list[str]:
    barriers = found.barriers
    return [
        name,
        f"{100 * fmean(each.errors[end] for each in barriers for end in (0, -1)):.2f} %",
        _mean(barriers),
        f"{100 * fmean(each.train_height for each in barriers):.2f}",
        _mean(found.interpolated) if found.interpolated else "-",
        f"{100 * fmean(each.disagreement for each in barriers):.2f} %",
        f"{fmean(each.distance for each in barriers):.2f}",
        f"{sum(each.stable for each in barriers)} of {len(barriers)}",
    ]


def _lines(networks: Mapping[str, Copies]) -> dict[str, Line]:
    lines = {}
    for number, (name, found) in enumerate(networks.items()):
        lines[name] = _line(found.barriers, number)
        if found.interpolated:
            lines[f"{name}, interpolated"] = _line(found.interpolated, number, dashed=True)
    return lines


def _line(barriers: Sequence[Barrier], color: int, *, dashed: bool = False) -> Line:
    errors = zip(*(each.errors for each in barriers), strict=True)
    return Line(barriers[0].fractions, [100 * fmean(place) for place in errors], color, dashed)
