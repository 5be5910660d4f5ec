"""Whether tickets are stable to the noise of SGD where random and reinitialised masks are not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar, Literal, get_args

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import CIFAR, FASHION, Small, Study
from experiments.instability import EXAMPLES, ORDERS
from supermask.baselines.instability import copies, instability
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMPRewind
from supermask.baselines.sparse import Sparse
from supermask.judge.barrier import STABLE, Barrier
from supermask.judge.controls import ShuffledInLayers
from supermask.report import Mean, mean
from supermask.report.plot import colored, new_figures, save_figure
from supermask.results import Result
from supermask.ticket import Ticket
from supermask.training import State

SEEDS = (0, 1, 2)
ROUNDS = (3, 5, 7)
"""Rounds of 20 % over the whole network: 51, 33 and 21 % of the weights are left."""
Kind = Literal["ticket", "random", "reinitialised"]


@dataclass(frozen=True, kw_only=True)
class StabilityResult(Result):
    """Two copies of one pruned network.

    Attributes:
        barrier: between them, with the statistics of batch norm estimated at every place.
        dense: test error of the dense network from the same initialisation, a fraction.

    """

    barrier: Barrier
    dense: float

    @property
    def error(self) -> float:
        """Mean test error of the two copies."""
        return (self.barrier.errors[0] + self.barrier.errors[-1]) / 2


@dataclass(frozen=True)
class Pruned(Study[StabilityResult]):
    """Copies of a pruned network from one step on.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights.
        step: k, to which iterative pruning rewinds, and from which the copies go on.
        rounds: of pruning.
        what: the ticket, its masks shuffled within the layers, or its masks over other weights.

    """

    kind: ClassVar[type[Result]] = StabilityResult

    step: int
    rounds: int
    what: Kind

    def own(self) -> dict[str, Any]:
        """Return the ticket, and how the copies are trained and compared."""
        own = {"step": self.step, "rounds": self.rounds, "what": self.what}
        return {**own, "orders": [*ORDERS[:2]], "examples": EXAMPLES}

    def measure(self, context: RunContext) -> StabilityResult:
        """Find the ticket, train two copies of what is asked for and compare them."""
        context = context.within(f"rewound-to-{self.step}")
        found = IMPRewind(rewind_to=self.step).run(replace(context, density=0.8**self.rounds))
        assert isinstance(found.subject, Sparse)
        dense = context.train(context.sparse(), stage="trunk", keep=(self.step,))
        ticket, start = self._start(context, found.subject.ticket(), dense.kept[self.step])
        stage = f"{self.what}-{self.rounds}-from-{self.step}"
        networks = copies(context, ticket, start, ORDERS[:2], stage=stage)
        (barrier,) = instability(context, networks, examples=EXAMPLES).barriers
        return StabilityResult(barrier=barrier, dense=1.0 - dense.test.accuracy)

    def _start(self, context: RunContext, ticket: Ticket, early: State) -> tuple[Ticket, State]:
        if self.what == "ticket":
            return ticket, early
        if self.what == "random":
            return ShuffledInLayers()(ticket, seed=self.seed), early
        # other weights have no state at step k but the one that this network itself gets to
        other = context.drawn_again(ticket)
        stage = f"reinitialised-{self.rounds}-to-{self.step}"
        return other, context.train(context.sparse(ticket=other), stage=stage, keep=(self.step,)).kept[self.step]


Found = Mapping[str, Sequence[StabilityResult]]


def _row(results: Sequence[StabilityResult]) -> list[str]:
    heights = [result.barrier.height for result in results]
    gain = mean([result.dense - result.error for result in results])
    return [
        f"{100 * (1 - fmean(result.error for result in results)):.1f} %",
        _signed(gain),
        f"{100 * median(heights):.2f} ({100 * min(heights):.2f} to {100 * max(heights):.2f})",
        f"{100 * median(result.barrier.train_height for result in results):.2f}",
        f"{median(result.barrier.disagreement for result in results):.1%}",
        f"{median(result.barrier.distance for result in results):.1f}",
        f"{sum(height < STABLE for height in heights)} of {len(heights)}",
    ]


def _signed(gain: Mean) -> str:
    half = "" if gain.half_width is None else f" ± {100 * gain.half_width:.1f}"
    return f"{100 * gain.value:+.1f}{half}"


def _plot(found: Found, path: Path) -> None:
    names = [*dict.fromkeys(label.rsplit(", ", 2)[0] for label in found)]
    figure, panels = new_figures(len(names), 4.5 * len(names))
    for panel, name in zip(panels, names, strict=True):
        for color, what in colored(get_args(Kind)):
            rows = {rounds: found.get(_label(name, what, rounds)) for rounds in ROUNDS}
            shown = {100 * 0.8**rounds: results for rounds, results in rows.items() if results}
            heights = [100 * median(result.barrier.height for result in results) for results in shown.values()]
            panel.plot([*shown], heights, ".-", color=color, label=what)
        panel.axhline(100 * STABLE, color="k", linestyle=":", linewidth=1)
        panel.set(xlabel="weights left (%)", title=name)
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("test barrier (points)")
    save_figure(figure, path)


def _label(name: str, what: str, rounds: int) -> str:
    return f"{name}, {what}, {0.8**rounds:.1%}"


MATCHING = -0.002
"""Frankle et al. 2020: within 0.2 points of dense."""


def _conclusion(found: Found) -> str:
    """Return from which k on tickets are stable and matching, by density (figure 9 of the paper)."""
    names = [*dict.fromkeys(label.split(", k = ")[0] for label in found)]
    return " ".join(
        f"{name}, tickets of {0.8**rounds:.1%}: stable from k = {_first(found, name, rounds, _stable)}, matching from"
        f" k = {_first(found, name, rounds, _matching)}."
        for name, rounds in product(names, ROUNDS)
    )


def _first(found: Found, name: str, rounds: int, holds: Callable[[Sequence[StabilityResult]], bool]) -> str:
    """Return the smallest k from which on all that were measured hold; the medians over the seeds decide."""
    own = {
        int(label.split("k = ")[1].split(",")[0]): results
        for label, results in found.items()
        if label.startswith(f"{name}, k = ") and label.endswith(f"ticket, {0.8**rounds:.1%}")
    }
    held = [step for step in sorted(own) if all(holds(own[later]) for later in own if later >= step)]
    return str(held[0]) if held else "none that was measured"


def _stable(results: Sequence[StabilityResult]) -> bool:
    return median(result.barrier.height for result in results) < STABLE


def _matching(results: Sequence[StabilityResult]) -> bool:
    return median(result.dense - result.error for result in results) >= MATCHING


_SAID: Mapping[Kind, tuple[str, str]] = {
    "ticket": ("unstable, 3.2 below dense at 16.8 %", "stable, matching from 3 % on"),
    "random": ("unstable, below dense", "unstable, below dense"),
    "reinitialised": ("unstable, below dense", "unstable, below dense"),
}


def _groups(name: str, setting: Small, controlled: tuple[int, int], tickets: tuple[int, ...] = ()) -> list[Group]:
    """Return the rows of a data set.

    Args:
        name: of the data set.
        setting: how networks are trained.
        controlled: steps at which the ticket has its two controls beside it.
        tickets: further steps, of the ticket alone.

    """
    source = "Frankle et al. 2020, table 2 and figures 5 to 7, ResNet-20, 63,000 steps"
    rows = [*product(controlled, ROUNDS, get_args(Kind)), *product(tickets, ROUNDS, ("ticket",))]
    return [
        Group(
            _label(f"{name}, k = {step}", what, rounds),
            tuple(Pruned(setting, seed, step, rounds, what) for seed in SEEDS),
            Published(_SAID[what][step > 0], source),
        )
        for step, rounds, what in rows
    ]


EXPERIMENT = Experiment(
    name="ticket_stability",
    title="Whether tickets are stable to the noise of SGD, from the initialisation and from a later step",
    source=(
        "Frankle, Dziugaite, Roy & Carbin 2020, table 2 and figures 5 to 7, in the setting of instability.md: ResNet-8"
        " of half width, CIFAR-10 at 16x16 pixels (1,000 steps), Fashion-MNIST at 14x14 (800). Tickets by iterative"
        " magnitude pruning with rewinding to step k, 20 % of all weights in a round. Random: each mask of the ticket"
        " shuffled within its layer, over the same weights of step k. Reinitialised: the ticket's masks over other"
        " weights, which are trained to step k with these masks. Two copies of each, from its state at step k with its"
        " momentum, differ in the order of the examples and the augmentation. The published tickets fail from k = 0"
        " on; in this setting, far from convergence, they need not."
    ),
    groups=(*_groups("CIFAR-10", CIFAR, (0, 100), tickets=(20, 300)), *_groups("Fashion-MNIST", FASHION, (0, 80))),
    table=Table(
        header=("accuracy", "above dense", "barrier", "train", "differ", "distance", "stable"),
        row=_row,
        note=(
            "n: initialisations, of one pair each. Accuracy: of the copies on the test set, mean. Above dense: their"
            " accuracy minus that of the dense network from the same initialisation, in points, with the 95 % interval"
            " of the mean (Student's t). Barrier: the largest test error on the line minus the mean of its ends, in"
            " points: median over the pairs (smallest to largest). Train: the same of the training error. Differ: test"
            " examples that the copies classify differently. Distance: Euclidean. Stable: pairs below 2 points."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
