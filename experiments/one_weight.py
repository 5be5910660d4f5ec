"""The error for one weight by the number of random items it is made of: subset sums, and the nearest of many pairs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from scipy.optimize import brentq

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import Floats, philox
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import laws
from theory.subset_sum import solve

_BLOCK = 1 << 20  # pairs drawn at a time


def subset_errors(factors: int, items: int, problems: int, generator: Generator) -> Floats:
    """Return the errors of the best subsets of products of so many uniforms on [-1, 1], for targets in [-1/2, 1/2]."""
    coefficients = generator.uniform(-1, 1, (factors, problems, items)).prod(0)
    return solve(coefficients, generator.uniform(-0.5, 0.5, problems), threads=1).error


def nearest_errors(
    distance: Callable[[Floats, Floats, Floats], Floats], items: int, problems: int, generator: Generator
) -> Floats:
    """Return the least distance(u, v, w) over pairs (u, v) uniform on [-1, 1]^2, for targets w in [-1/2, 1/2]."""
    found = []
    rows = max(1, _BLOCK // items)
    for start in range(0, problems, rows):
        count = min(rows, problems - start)
        u, v = generator.uniform(-1, 1, (2, count, items))
        found.append(distance(u, v, generator.uniform(-0.5, 0.5, (count, 1))).min(1))
    return np.concatenate(found)


def to_the_pair(u: Floats, v: Floats, w: Floats) -> Floats:
    """Return max(|u - w|, |v - 1|), by which Malach et al. choose their pair."""
    return np.maximum(np.abs(u - w), np.abs(v - 1))


def to_the_product(u: Floats, v: Floats, w: Floats) -> Floats:
    """Return |u v - w|."""
    return np.abs(u * v - w)


def subset_median(second_moment: float, items: int) -> float:
    """Return the median error of the best subset for large n: `laws.asymptotic_median_ratio` times sqrt(n) 2^-n."""
    return laws.asymptotic_median_ratio(second_moment) * math.sqrt(items) * 2.0**-items


def product_median(pairs: int) -> float:
    """Return the median of the least |u v - w| over k pairs for large k: 0.457 / k.

    The product has density -ln|z| / 2, so none of k is within x/k of w with probability near exp(x ln|w|) = |w|^x. Its
    mean over |w| uniform on (0, 1/2) is 2^-x / (1 + x), which is 1/2 at the median. Derived, not proven.
    """
    return float(brentq(lambda x: 2.0**-x / (1 + x) - 0.5, 0, 1)) / pairs


@dataclass(frozen=True)
class Family:
    """A way to make one weight of random items.

    Attributes:
        grows: what the table calls the number of items.
        errors: draws the errors of (items, problems, generator).
        median: the law of their median, by the number of items.
        exponential: whether the law is sqrt(n) 2^(slope n), and not n^slope.
        slope: of the law.

    """

    grows: str
    errors: Callable[[int, int, Generator], Floats]
    median: Callable[[int], float]
    exponential: bool
    slope: float

    def places(self, items: Sequence[int]) -> Floats:
        """Return what the slope is taken over: n, or log2 of k."""
        return np.array(items, np.float64) if self.exponential else np.log2(items)

    def factor(self, items: Sequence[int]) -> Floats:
        """Return what an error is divided by before its log2 is taken: sqrt(n), or 1."""
        return np.sqrt(items) if self.exponential else np.ones(len(items))


FAMILIES: Mapping[str, Family] = {
    "subset sum of uniforms": Family("n numbers", partial(subset_errors, 1), partial(subset_median, 1 / 3), True, -1),
    "subset sum of products": Family("n products", partial(subset_errors, 2), partial(subset_median, 1 / 9), True, -1),
    "Malach's closest pair": Family(
        "k pairs", partial(nearest_errors, to_the_pair), laws.closest_pair_median, False, -0.5
    ),
    "nearest single product": Family("k pairs", partial(nearest_errors, to_the_product), product_median, False, -1),
}


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
class WeightSweep:
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
    for color, (label, (result,)) in colored(found.items()):
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
        Group("subset sum of uniforms", (WeightSweep("subset sum of uniforms", _NUMBERS, 12),), _LUEKER),
        Group("subset sum of products", (WeightSweep("subset sum of products", _NUMBERS, 16),), _PENSIA),
        Group("Malach's closest pair", (WeightSweep("Malach's closest pair", _PAIRS, 64),), _MALACH),
        Group("nearest single product", (WeightSweep("nearest single product", _PAIRS, 64),)),
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
