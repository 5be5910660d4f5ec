"""Natale et al. 2024, theorem 2: how often n random numbers hold a subset of exactly k with a sum that is wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import philox
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import bounds, laws
from theory.subset_sum import FixedTerms, solve

CONSTANTS = (1.0, 1.5, 2.0)
"""Values of the theorem's c_hyp, which it leaves open but for being at least 1."""


@dataclass(frozen=True, kw_only=True)
class SubsetsResult(Result):
    """By target and by constant: how many draws had such a subset, and the seconds of all."""

    successes: tuple[tuple[int, ...], ...]
    seconds: float


@dataclass(frozen=True)
class Subsets:
    """Draws of n uniforms on [-1, 1], and how many hold exactly k with a sum within epsilon of a target.

    Attributes:
        size: k.
        epsilon: the error allowed.
        draws: for each number of items and target.
        seed: of the draws.

    """

    kind: ClassVar[type[Result]] = SubsetsResult

    size: int
    epsilon: float
    draws: int = 400
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    @property
    def items(self) -> tuple[int, ...]:
        """The numbers of items that the theorem asks for, by constant."""
        return tuple(bounds.natale_items(self.size, self.epsilon, constant=c) for c in CONSTANTS)

    @property
    def targets(self) -> tuple[float, ...]:
        """The middle and the end of the targets of the theorem, [-sqrt(k), sqrt(k)]; the end is the hardest."""
        return (0.0, sqrt(self.size))

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "items": list(self.items), "targets": list(self.targets)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SubsetsResult:
        """Measure; it takes seconds to minutes, and is not stopped half way."""
        return recorded(SubsetsResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> SubsetsResult:
        began = monotonic()
        successes = tuple(tuple(self._successes(n, target) for n in self.items) for target in self.targets)
        return SubsetsResult(successes=successes, seconds=round(monotonic() - began, 1))

    def _successes(self, n: int, target: float) -> int:
        numbers = np.random.Generator(philox(self.seed, "natale_subsets", n)).uniform(-1, 1, (self.draws, n))
        solution = solve(numbers, np.full(self.draws, target), objective=FixedTerms(self.size))
        return int((solution.error < self.epsilon).sum())


def proportions(result: SubsetsResult, target: int) -> list[laws.Proportion]:
    """Return the share of draws that succeed for a target, by constant, with intervals."""
    return [laws.clopper_pearson(count, result.config["draws"]) for count in result.successes[target]]


def _row(results: Sequence[SubsetsResult]) -> list[str]:
    (result,) = results
    middle, end = (proportions(result, target) for target in (0, 1))
    items = [str(n) for n in result.config["items"]]
    cells = [f"{n}: {_percent(found)}" for n, found in zip(items, end, strict=True)]
    return [*cells, f"{items[0]}: {_percent(middle[0])}", f"{result.config['draws']:,}"]


def _percent(found: laws.Proportion) -> str:
    return f"{100 * found.value:.0f} ({100 * found.low:.0f} to {100 * found.high:.0f}) %"


def _plot(found: Mapping[str, Sequence[SubsetsResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.4)
    for color, (label, (result,)) in colored(found.items()):
        shares = proportions(result, 1)
        values = np.array([[share.value, share.low, share.high] for share in shares])
        errors = np.abs(values[:, 1:].T - values[:, 0])
        axes.errorbar(CONSTANTS, values[:, 0], errors, marker="o", capsize=3, color=color, label=label)
    axes.set(
        xlabel="c_hyp", ylabel="draws with a subset", ylim=(0.0, 1.05), title="A subset of k for the target sqrt(k)"
    )
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


_NATALE = Published("c_hyp, c_thm open", "Natale et al. 2024, Theorem 2", "no experiment is published")
_MEASURED = ((2, 0.1), (2, 0.01), (4, 0.1), (4, 0.01), (4, 0.001), (8, 0.01), (8, 0.001), (12, 0.001))

EXPERIMENT = Experiment(
    name="natale_subsets",
    title="How often n uniform numbers hold a subset of exactly k near a target",
    source=(
        "Natale et al. 2024, Theorem 2: n >= c_hyp log2(k / eps) / H2(k / n) uniforms on [-1, 1], n >= 2k, hold a"
        " subset of exactly k within eps of a given target in [-sqrt(k), sqrt(k)] with probability at least c_thm, for"
        " constants that are not given. Each draw is judged exactly, by meet in the middle over subsets of k."
    ),
    groups=tuple(
        Group(f"k = {size}, eps {epsilon}", (Subsets(size, epsilon),), _NATALE) for size, epsilon in _MEASURED
    ),
    table=Table(
        header=(
            *(f"n: success, c_hyp = {c:g}" for c in CONSTANTS),
            "target 0, c_hyp = 1",
            "draws",
        ),
        row=_row,
        note=(
            "Success: draws with a subset of exactly k within eps of the target sqrt(k), the hardest of the theorem's,"
            " at the n that the theorem asks for with this constant, with Clopper-Pearson intervals of 95 %; then the"
            " same for the target 0. Where 2k items are more than the formula asks for, n is 2k."
        ),
    ),
    plot=_plot,
)
