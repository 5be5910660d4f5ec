"""The error for one weight by the number of random items it is made of: subset sums, and the nearest of many pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.measuring.weight_families import FAMILIES
from supermask.random.stream import Floats, philox
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import laws

COMMON = 16
"""Number of items at which the table shows the median of every row."""


@dataclass(frozen=True, kw_only=True)
class SweepResult(Result):
    """The errors of a family.

    Attributes:
        medians: of the error, by the number of items.
        slope: of the fitted line.
        seconds: of the measurement.

    """

    medians: Mapping[int, laws.Estimate]
    slope: laws.Estimate
    seconds: float


@dataclass(frozen=True)
class Sweep:
    """The errors of a family at several numbers of items.

    Attributes:
        family: a name in `FAMILIES`.
        items: the numbers of items.
        fitted_from: the least of them that the slope is fitted to; below it the law does not hold yet.
        problems: independent ones at each number of items.
        seed: of the draws.

    """

    kind: ClassVar[type[Result]] = SweepResult

    family: str
    items: tuple[int, ...]
    fitted_from: int
    problems: int = 10_000
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "items": list(self.items)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SweepResult:
        """Measure; it takes seconds, and is not stopped half way."""
        return recorded(SweepResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> SweepResult:
        family = FAMILIES[self.family]
        began = monotonic()
        errors = {n: family.errors(n, self.problems, self._generator(n)) for n in self.items}
        fitted = [n for n in self.items if n >= self.fitted_from]
        logs = [np.log2(errors[n] / factor) for n, factor in zip(fitted, family.factor(fitted), strict=True)]
        return SweepResult(
            medians={n: laws.median(sample) for n, sample in errors.items()},
            slope=laws.median_slope(family.places(fitted), logs),
            seconds=round(monotonic() - began, 1),
        )

    def _generator(self, items: int) -> Generator:
        return Generator(philox(self.seed, "one_weight", self.family, items))


def _row(results: Sequence[SweepResult]) -> list[str]:
    (result,) = results
    config, slope = result.config, result.slope
    family, found = FAMILIES[config["family"]], result.medians[COMMON]
    return [
        f"{family.grows}, {config['items'][0]} to {config['items'][-1]:,}",
        f"{slope.value:.3f} ({slope.low:.3f} to {slope.high:.3f})",
        f"{family.slope:g}",
        f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})",
        f"{family.median(COMMON):.3g}",
        f"{config['problems']:,}",
    ]


def _fit(result: SweepResult) -> tuple[list[int], Floats]:
    """Return the fitted numbers of items, and the height of the line at each."""
    config, slope = result.config, result.slope.value
    family = FAMILIES[config["family"]]
    fitted = [n for n in config["items"] if n >= config["fitted_from"]]
    places, factor = family.places(fitted), family.factor(fitted)
    heights = np.log2([result.medians[n].value for n in fitted] / factor)
    return fitted, factor * 2.0 ** (heights.mean() + slope * (places - places.mean()))


def _plot(found: Mapping[str, Sequence[SweepResult]], path: Path) -> None:
    figure, axes = new_figure()
    for color, (label, (result,)) in zip(COLORS, found.items(), strict=False):
        medians = result.medians.values()
        values = np.array([m.value for m in medians])
        reach = [values - [m.low for m in medians], [m.high for m in medians] - values]
        axes.errorbar(list(result.medians), values, reach, color=color, linestyle="none", marker="o", markersize=3)
        axes.plot(*_fit(result), color=color, label=f"{label}: slope {result.slope.value:.3f}")
    axes.set(xscale="log", yscale="log", xlabel="random items per weight", ylabel="median error")
    axes.set_title("One weight, at most 1/2, made of random items")
    axes.legend(frameon=False)
    save_figure(figure, path)


_MALACH = Published("k = O(1/eps^2)", "Malach et al. 2020, Lemma A.1", "from memory, not checked in the paper")
_LUEKER = Published("n = O(log 1/eps)", "Lueker 1998, Theorem 2.4", "as quoted by Pensia et al. 2020")
_PENSIA = Published("n = O(log 1/eps)", "Pensia et al. 2020, Corollary 2", "as quoted by Natale et al. 2024")
_NUMBERS, _PAIRS = tuple(range(4, 27, 2)), tuple(2**power for power in range(4, 17))

EXPERIMENT = Experiment(
    name="one_weight",
    title="The error for one weight by the number of random items",
    source=(
        "What Malach et al. 2020 and Pensia et al. 2020 make one weight of, and how its error falls. Targets are"
        " uniform on [-1/2, 1/2], all random numbers on [-1, 1]. A subset sum is the best of all 2^n; Malach's closest"
        " of k pairs (u, v) minimises max(|u - w|, |v - 1|), the nearest product |u v - w|. Theorems bound the number"
        " of items, so the last column holds what they ask for at error eps."
    ),
    groups=(
        Group("subset sum of uniforms", (Sweep("subset sum of uniforms", _NUMBERS, 12),), _LUEKER),
        Group("subset sum of products", (Sweep("subset sum of products", _NUMBERS, 16),), _PENSIA),
        Group("Malach's closest pair", (Sweep("Malach's closest pair", _PAIRS, 64),), _MALACH),
        Group("nearest single product", (Sweep("nearest single product", _PAIRS, 64),)),
    ),
    table=Table(
        header=("items", "slope", "law", f"median error at {COMMON} items", "law there", "problems"),
        row=_row,
        note=(
            "Slope: of log2(median error / sqrt(n)) over n, from n = 12 (uniforms) or 16 (products), and of log(median"
            " error) over log(k) from k = 64; with a 95 % bootstrap interval. Medians have a distribution-free 95 %"
            " interval; means of subset-sum errors are heavy-tailed and never taken. Law: proven for Malach's pair"
            " (theory.laws), derived for many items, not proven, for the others: 0.378 sqrt(n) 2^-n, 0.218 sqrt(n) 2^-n"
            " and 0.457/k. Problems: per number of items."
        ),
    ),
    plot=_plot,
)
