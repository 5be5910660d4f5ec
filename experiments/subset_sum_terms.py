"""How fast subset sums are solved by their number of terms, beside the smallest error, by the number of items."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Table
from experiments.subset_sum_rates import random_problems
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory.subset_sum import FewestTerms, FixedTerms, SmallestError, solve
from theory.subset_sum.objectives import Objective

ITEMS = (12, 16, 20, 24, 28, 32)
"""Numbers of items whose rates the table shows."""


@dataclass(frozen=True, kw_only=True)
class RatesResult(Result):
    """By the number of items: problems, CPU seconds of the fastest repeat, answers proven optimal, mean terms."""

    problems: tuple[int, ...]
    seconds: tuple[float, ...]
    optimal: tuple[int, ...]
    terms: tuple[float, ...]


@dataclass(frozen=True)
class Rates:
    """The CPU time of one thread on random problems of several numbers of items.

    Attributes:
        objective: what is asked for: "error", "fewest" or "fixed".
        value: the largest error of "fewest"; of "fixed" the terms, 0 for half of the items.
        items: numbers n of items of a problem, uniform on [-1, 1]; targets are uniform on [-1/2, 1/2].
        solver: a name in `theory.subset_sum.SOLVERS`.
        work: problems of n items are work / 2^(n/2), at least 3.
        repeats: how often each batch is solved.
        seed: of the problems.

    """

    kind: ClassVar[type[Result]] = RatesResult

    objective: str
    value: float = 0.0
    items: tuple[int, ...] = ITEMS
    solver: str = "meet_in_the_middle"
    work: int = 1 << 17
    repeats: int = 5
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "items": list(self.items)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> RatesResult:
        """Measure; it is not stopped half way."""
        return recorded(RatesResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> RatesResult:
        rows = [self._timed(n) for n in self.items]
        problems, seconds, optimal, terms = zip(*rows, strict=True)
        return RatesResult(problems=problems, seconds=seconds, optimal=optimal, terms=terms)

    def _timed(self, n: int) -> tuple[int, float, int, float]:
        count = max(3, self.work >> (n // 2))
        coefficients, targets = random_problems(count, n, self.seed)
        options: dict[str, Any] = {"objective": self._of(n)}
        if self.solver == "meet_in_the_middle":
            options["threads"] = 1
        solve(coefficients[:1], targets[:1], solver=self.solver, **options)  # compiles
        seconds = []
        for _ in range(self.repeats):
            began = time.process_time()  # not the clock: what else the machine does would count
            solution = solve(coefficients, targets, solver=self.solver, **options)
            seconds.append(time.process_time() - began)
        return count, min(seconds), int(solution.optimal.sum()), float(solution.mask.sum(axis=1).mean())

    def _of(self, n: int) -> Objective:
        if self.objective == "error":
            return SmallestError()
        if self.objective == "fewest":
            return FewestTerms(self.value)
        return FixedTerms(int(self.value) or n // 2)


def rates(result: RatesResult) -> dict[int, float]:
    """Return problems per second of CPU time by the number of items."""
    pairs = zip(result.config["items"], result.problems, result.seconds, strict=True)
    return {n: problems / seconds for n, problems, seconds in pairs}


def _row(results: Sequence[RatesResult]) -> list[str]:
    (result,) = results
    found = rates(result)
    last = result.config["items"][-1]
    terms = f"{result.terms[-1]:.2f} of {last}"
    return [*(f"{float(f'{found[n]:.3g}'):,g}" if n in found else "-" for n in ITEMS), terms, _proven(result)]


def _proven(result: RatesResult) -> str:
    return f"{sum(result.optimal):,} of {sum(result.problems):,}"


def _plot(found: Mapping[str, Sequence[RatesResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.6)
    for color, (label, (result,)) in colored(found.items()):
        points = rates(result)
        axes.plot(list(points), list(points.values()), marker="o", color=color, label=label)
    axes.set(yscale="log", xlabel="items", ylabel="problems per second, one thread", title="Subset sums by their terms")
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="subset_sum_terms",
    title="How fast subset sums are solved by their number of terms",
    source=(
        "No published rates: Natale et al. 2024 ask for subsets of a fixed size and have no solver. The items are"
        " uniform on [-1, 1] and the targets on [-1/2, 1/2]. The first row is the solver of the smallest error, which"
        " the constructions use; HiGHS solves the same problems as integer programs."
    ),
    groups=(
        Group("smallest error", (Rates("error"),)),
        Group("fewest terms, error 0.01", (Rates("fewest", 0.01),)),
        Group("fewest terms, error 0.0001", (Rates("fewest", 1e-4),)),
        Group("exactly 4 terms", (Rates("fixed", 4),)),
        Group("exactly n/2 terms", (Rates("fixed"),)),
        Group(
            "fewest terms, error 0.01, HiGHS",
            (Rates("fewest", 0.01, (12, 16, 20), "integer_program", work=0, repeats=1),),
        ),
    ),
    table=Table(
        header=(*(f"n = {n}" for n in ITEMS), "terms at the largest n", "proven optimal"),
        row=_row,
        note=(
            "Problems per second of CPU time of one thread, the fastest of five repeats (of HiGHS: one, three problems"
            " of each n). Proven optimal: of all n together; where no subset is within the error, none is proven."
        ),
    ),
    plot=_plot,
)
