"""How often n random numbers miss some target: the failure probability that Lueker 1998 bounds, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import philox
from supermask.results import Result
from supermask.runs import recorded
from theory import bounds, laws

SHOWN = (12, 15, 18)
"""Numbers of items whose failures the table shows."""

FEW = 0.05
"""What the table calls few failures."""


@dataclass(frozen=True, kw_only=True)
class CurveResult(Result):
    """How many draws of each number of items miss a target, and the seconds of all."""

    failures: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Curve:
    """Draws of n uniforms on [-1, 1], and how many miss some target in [-1/2, 1/2] by more than epsilon.

    Attributes:
        epsilon: the error allowed.
        items: the numbers n; the draws of each n are the same for every epsilon.
        draws: of each n.
        seed: of the draws.

    """

    kind: ClassVar[type[Result]] = CurveResult

    epsilon: float
    items: tuple[int, ...]
    draws: int = 1000
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "items": list(self.items)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> CurveResult:
        """Measure; it takes minutes, and is not stopped half way."""
        return recorded(CurveResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> CurveResult:
        began = monotonic()
        failures = tuple(self._failures(n) for n in self.items)
        return CurveResult(failures=failures, seconds=round(monotonic() - began, 1))

    def _failures(self, n: int) -> int:
        generator = np.random.Generator(philox(self.seed, "failure", n))
        return sum(laws.covering_radius(generator.uniform(-1, 1, n)) > self.epsilon for _ in range(self.draws))


def proportions(result: CurveResult) -> dict[int, laws.Proportion]:
    """Return the failures by the number of items, with their intervals."""
    config = result.config
    found = laws.failure_curve(result.failures, [config["draws"]] * len(config["items"]))
    return dict(zip(config["items"], found, strict=True))


def constant(result: CurveResult) -> laws.Estimate:
    """Return the smallest constant with which Lueker's theorem holds at every measured n."""
    epsilon, measured = result.config["epsilon"], proportions(result)
    return laws.fit_constant(
        lambda n, c: bounds.lueker_failure(n, epsilon, constant=c), list(measured), list(measured.values())
    )


def _row(results: Sequence[CurveResult]) -> list[str]:
    (result,) = results
    measured, fit = proportions(result), constant(result)
    few = [n for n, found in measured.items() if found.value <= FEW]
    return [
        *(_percent(measured[n]) if n in measured else "-" for n in SHOWN),
        f"{min(few)}" if few else "none",
        f"{bounds.information_items(result.config['epsilon'])}",
        f"{fit.value:.2f} ({fit.low:.2f} to {fit.high:.2f})",
        f"{result.config['draws']:,}",
    ]


def _percent(found: laws.Proportion) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f}) %"


def _plot(found: Mapping[str, Sequence[CurveResult]], path: Path) -> None:
    curves = {label: result for label, (result,) in found.items()}
    largest = max(constant(result).value for result in curves.values())
    laws.plot_failures(
        {label: {float(n): p for n, p in proportions(result).items()} for label, result in curves.items()},
        path,
        "Draws of n uniforms that miss some target in [-1/2, 1/2]",
        bounds={
            f"Lueker, C = {largest:.2f}, {label}": {
                float(n): bounds.lueker_failure(n, result.config["epsilon"], constant=largest)
                for n in result.config["items"]
            }
            for label, result in curves.items()
        },
    )


_NOTE = "the paper leaves C open; quoted from Pensia et al. 2020"
_LUEKER = Published("C open", "Lueker 1998, Theorem 2.4", _NOTE)
_MOST = {0.1: 18, 0.01: 18, 0.001: 20}
"""Most numbers that are drawn, by epsilon: one more takes twice the time, and only the smallest error needs it."""


def _curve(epsilon: float) -> Curve:
    """Return the curve from the information bound on: at fewer numbers every draw fails."""
    return Curve(epsilon, tuple(range(bounds.information_items(epsilon), _MOST[epsilon] + 1)))


EXPERIMENT = Experiment(
    name="failure",
    title="How often n uniform numbers miss some target",
    source=(
        "Lueker 1998, Theorem 2.4: except with probability exp(-(n/2 - C ln(2/eps))^2 / (2n)), every target in"
        " [-1/2, 1/2] is within eps of a subset sum of n uniforms on [-1, 1], for some constant C that is not given."
        " Here each draw is judged exactly, on all targets at once: by the widest gap between neighbouring ones of its"
        " 2^n sums."
    ),
    groups=tuple(Group(f"eps {epsilon}", (_curve(epsilon),), _LUEKER) for epsilon in _MOST),
    table=Table(
        header=(
            *(f"failed at n = {n}" for n in SHOWN),
            f"least n with at most {100 * FEW:.0f} % failing",
            "information bound",
            "least C",
            "draws",
        ),
        row=_row,
        note=(
            "Failed: draws that miss some target by more than eps, with Clopper-Pearson intervals of 95 %. Information"
            " bound: no n below it can succeed. Least C: with which the theorem holds at every n measured, with a 95 %"
            " interval over these n together; a constant for all n and eps can only be larger. Dashed: the bound with"
            " the largest of these C."
        ),
    ),
    plot=_plot,
)
