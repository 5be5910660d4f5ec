"""How many subset-sum problems of 21 numbers each solver does in a second, on the problems of Pensia et al. 2020."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import Floats, philox
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result, inlined
from supermask.runs import recorded
from theory.subset_sum import Solution, solve

WEIGHTS = 397_000
"""Problems of experiment 1 of Pensia et al. 2020."""


@dataclass(frozen=True)
class Timed:
    """Problems that were solved, the seconds of each repeat, and how many answers were proven optimal."""

    problems: int
    seconds: tuple[float, ...]
    optimal: int


@dataclass(frozen=True, kw_only=True)
class TimingResult(Result):
    """The times of a solver, those of HiGHS in the same run, and the versions of the solvers' packages."""

    timed: Timed = field(metadata=inlined())
    reference: Timed
    solver_versions: Mapping[str, str]


@dataclass(frozen=True)
class Timing:
    """The time of a solver on random problems, and that of HiGHS on ten of its own in the same run.

    Attributes:
        solver: a name in `theory.subset_sum.SOLVERS`.
        options: of the solver.
        problems: how many are solved.
        repeats: how often.
        n: coefficients of each problem, uniform on [-1, 1]; targets are uniform on [-1/2, 1/2].
        seed: of the problems.

    """

    kind: ClassVar[type[Result]] = TimingResult

    solver: str
    options: tuple[tuple[str, str | int], ...]
    problems: int
    repeats: int = 1
    n: int = 21
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "options": dict(self.options)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> TimingResult:
        """Measure; it is not stopped half way."""
        return recorded(TimingResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> TimingResult:
        reference = replace(HIGHS, n=self.n, seed=self.seed)
        own = self.timed()
        return TimingResult(
            timed=own,
            reference=own if self == reference else reference.timed(),
            solver_versions={name: version(name) for name in ("numba", "pulp", "highspy")},
        )

    def timed(self) -> Timed:
        """Solve the problems as often as asked for, and return the seconds and how many were proven optimal."""
        self._solve(np.ones((1, 2)), np.ones(1))  # compiles
        problems = random_problems(self.problems, self.n, self.seed)
        seconds = []
        for _ in range(self.repeats):
            began = time.perf_counter()
            solution = self._solve(*problems)
            seconds.append(time.perf_counter() - began)
        return Timed(self.problems, tuple(seconds), int(solution.optimal.sum()))

    def _solve(self, coefficients: Floats, targets: Floats) -> Solution:
        return solve(coefficients, targets, solver=self.solver, **dict(self.options))


HIGHS = Timing("integer_program", (("backend", "highs"),), problems=10)
"""What the others are compared with."""


def random_problems(count: int, n: int, seed: int) -> tuple[Floats, Floats]:
    """Return coefficients (count, n) and targets (count,); fewer problems are the first of more."""
    draw = np.random.Generator(philox(seed, "subset_sum_rates", n)).uniform(-1, 1, (count, n + 1))
    return draw[:, :n], draw[:, n] / 2


def rate(timed: Timed) -> float:
    """Return problems per second, from the median of the repeats."""
    return float(timed.problems / np.median(timed.seconds))


def _row(results: Sequence[TimingResult]) -> list[str]:
    (result,) = results
    own = result.timed
    return [
        _rounded(rate(own)),
        _rounded(rate(own) / rate(result.reference)),
        _rounded(WEIGHTS / rate(own)),
        f"{own.problems:,} x {len(own.seconds)}",
        f"{own.optimal:,}",
    ]


def _rounded(value: float) -> str:
    """Return three digits, and no power of ten."""
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


def _plot(found: Mapping[str, Sequence[TimingResult]], path: Path) -> None:
    figure, axes = new_figure(height=2.8)
    axes.barh(list(found), [rate(result.timed) for (result,) in found.values()], color=COLORS[0])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="problems per second", title="Subset sums of 21 numbers, solved to optimality")
    save_figure(figure, path)


_PENSIA = Published(
    "77,266 s", "the authors' repository, acnagle/optimal-lottery-tickets", "on 36 cores with a commercial solver"
)

EXPERIMENT = Experiment(
    name="subset_sum_rates",
    title="How fast the solvers of subset-sum problems are",
    source=(
        "Experiment 1 of Pensia et al. 2020 solves one problem of 21 numbers for each of 397,000 weights. Here the"
        " numbers are uniform on [-1, 1] and the targets on [-1/2, 1/2]; every answer is optimal, where the published"
        " solver may stop at a gap of 1 %. Times depend on the machine and on what else it does; run with one worker."
    ),
    groups=(
        Group("meet in the middle, 1 core", (Timing("meet_in_the_middle", (("threads", 1),), 50_000, repeats=5),)),
        Group("meet in the middle, 2 cores", (Timing("meet_in_the_middle", (("threads", 2),), WEIGHTS),), _PENSIA),
        Group("integer program, HiGHS, 1 core", (HIGHS,)),
        Group("integer program, CBC, 1 core", (replace(HIGHS, options=(("backend", "cbc"),)),)),
    ),
    table=Table(
        header=("problems/s", "times HiGHS", f"seconds for {WEIGHTS:,}", "problems", "proven optimal"),
        row=_row,
        note=(
            "Problems/s: the median of the repeats. Times HiGHS: how much faster than HiGHS, which was timed on"
            f" {HIGHS.problems} problems after each row, in the same process. Seconds: at this rate. Problems: how"
            " many, and how often."
        ),
    ),
    plot=_plot,
)
