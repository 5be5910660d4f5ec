"""The exponential gap between pruning hidden units and pruning weights, drawn for one ReLU neuron of two inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import Floats, philox
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import laws
from theory.neurons import best_subset, by_weights, floor_of_subsets, found_subset, supremum

SHOWN = (8, 16, 32, 64, 128)
"""Hidden units whose errors the table shows."""


@dataclass(frozen=True, kw_only=True)
class GapResult(Result):
    """By the number of hidden units, the median error over the draws; and the seconds of all.

    Attributes:
        errors: medians with distribution-free intervals of 95 %.
        slope: of log error over log units, or of log2 error over units, with a bootstrap interval.
        seconds: of the measurement.

    """

    errors: Mapping[int, laws.Estimate]
    slope: laws.Estimate
    seconds: float


@dataclass(frozen=True)
class Gap:
    """One way to prune random networks of two inputs to one neuron.

    Attributes:
        way: a name in `WAYS`.
        units: hidden units of the networks.
        fitted_from: the least of them that the slope is fitted to.
        draws: random networks and neurons of each number of units.
        seed: of the draws; all ways prune the same.

    """

    kind: ClassVar[type[Result]] = GapResult

    way: str
    units: tuple[int, ...]
    fitted_from: int = 8
    draws: int = 11
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "units": list(self.units)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> GapResult:
        """Measure; it takes seconds, and is not stopped half way."""
        return recorded(GapResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> GapResult:
        began = monotonic()
        found = {
            units: np.array([self._error(units, draw) for draw in range(self.draws)], np.float64)
            for units in self.units
        }
        fitted = [units for units in self.units if units >= self.fitted_from]
        places = np.array(fitted, np.float64) if self.way == WEIGHTS else np.log2(fitted)
        return GapResult(
            errors={units: laws.median(errors) for units, errors in found.items()},
            slope=laws.median_slope(places, [np.log2(found[units]) for units in fitted]),
            seconds=round(monotonic() - began, 1),
        )

    def _error(self, units: int, draw: int) -> float:
        directions, strengths, target = random_network(units, self.seed, draw)
        if self.way == WEIGHTS:
            return supremum(*by_weights(directions, strengths, target), target)
        if self.way == FLOOR:
            return floor_of_subsets(directions, strengths, target)
        if self.way == BEST:
            return best_subset(directions, strengths, target, points=48)[1]
        mask = found_subset(directions, strengths, target, seed=draw, points=96, starts=2)
        return supremum(directions[mask], strengths[mask], target)


def random_network(units: int, seed: int, draw: int) -> tuple[Floats, Floats, Floats]:
    """Return both hops of a random network, uniform on [-1, 1], and a neuron of norm 1: (units, 2), (units,), (2,)."""
    random = np.random.Generator(philox(seed, "neuron_pruning", units, draw))
    angle = random.uniform(0.0, 2.0 * np.pi)
    target = np.array([np.cos(angle), np.sin(angle)])
    return random.uniform(-1, 1, (units, 2)), random.uniform(-1, 1, units), target


WEIGHTS, FLOOR, BEST, FOUND = "weights", "floor", "best", "found"


def _cell(results: Sequence[GapResult], units: int) -> str:
    if units not in results[0].errors:
        return "-"
    return f"{np.median([result.errors[units].value for result in results]):.2g}"


def _row(results: Sequence[GapResult]) -> list[str]:
    slopes = [result.slope for result in results]
    low, high = min(slope.low for slope in slopes), max(slope.high for slope in slopes)
    unit = "per unit" if results[0].config["way"] == WEIGHTS else "per doubling"
    return [
        *(_cell(results, units) for units in SHOWN),
        f"{np.mean([slope.value for slope in slopes]):.2f} ({low:.2f} to {high:.2f}) {unit}",
        f"{max(result.seconds for result in results):.0f}",
    ]


def _plot(found: Mapping[str, Sequence[GapResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.6)
    for color, (label, results) in colored(found.items()):
        units = list(results[0].errors)
        values = [np.median([result.errors[n].value for result in results]) for n in units]
        lows = [min(result.errors[n].low for result in results) for n in units]
        highs = [max(result.errors[n].high for result in results) for n in units]
        axes.fill_between(units, lows, highs, color=color, alpha=0.2, linewidth=0)
        axes.plot(units, values, marker="o", markersize=3, color=color, label=label)
    axes.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="largest error over the disc", ylim=(1e-8, 2))
    axes.set_title("One ReLU neuron in a random layer")
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _tasks(way: str, units: Sequence[int], fitted_from: int = 8) -> tuple[Gap, ...]:
    return tuple(Gap(way, tuple(units), fitted_from, seed=seed) for seed in range(3))


_UNITS = Published("1 / epsilon units needed", "Ferre et al. 2026, abstract (arXiv 2603.02234)", "theory alone")
_SINGLE = Published("log(1 / epsilon) units enough", "Ferre et al. 2026, abstract (arXiv 2603.02234)", "theory alone")

EXPERIMENT = Experiment(
    name="neuron_pruning",
    title="Pruning hidden units or single weights, for one ReLU neuron",
    source=(
        "Ferre et al. 2026 prove that a random network of two layers without biases holds a ReLU neuron within epsilon"
        " after hidden units were pruned only if it has of the order of 1 / epsilon of them, and after single weights"
        " were pruned with of the order of log(1 / epsilon). No experiment is published; their abstract alone was read"
        " here, and the network taken is relu(v . relu(U x)). Both hops are uniform on [-1, 1], the neuron is"
        " relu(w . x) of two inputs with |w| = 1, and errors are over the whole unit disc."
    ),
    groups=(
        Group("units: no subset is below (proven floor)", _tasks(FLOOR, (4, 8, 16, 32, 64, 128, 256, 1024)), _UNITS),
        Group("units: the best subset of all, on points", _tasks(BEST, (4, 8, 12, 16, 18)), _UNITS),
        Group("units: the best subset found", _tasks(FOUND, (4, 8, 16, 32, 64, 128)), _UNITS),
        Group("weights: one subset sum for each weight", _tasks(WEIGHTS, (4, 8, 16, 32, 64, 96, 128), 16), _SINGLE),
    ),
    table=Table(
        header=(*(f"{units} units" for units in SHOWN), "log2 error", "seconds"),
        row=_row,
        note=(
            "Median error of 11 random networks and neurons for each of three seeds; all rows prune the same networks."
            " Floor: below it no subset of units is, by where they bend (theory.neurons). Best: of all 2^n subsets, the"
            " least of the largest errors at 48 points of the circle; over the disc none is below. Found: by adding and"
            " leaving out one or two units, its largest error over the disc. Weights: each unit keeps one of its two"
            " weights, and those of an input and sign are a subset sum; the largest error over the disc. log2 error:"
            " its slope over log2 of the units (from 8 on), or over the units (from 16 on), the mean of three seeds"
            " with the widest ends of their bootstrap intervals of 95 %."
        ),
    ),
    plot=_plot,
)
