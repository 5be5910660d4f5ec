"""da Cunha et al. 2022: the convolutional weights of a LeNet-5 by subset sums of fresh numbers, solved exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
from torch import nn

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.pensia import read_network
from supermask.random.stream import Floats, philox
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import laws
from theory.subset_sum import solve

PUBLISHED = {
    10: (5.7e-1, 1.1e-3),
    15: (1.8e-2, 4.2e-5),
    20: (7.3e-4, 2.8e-8),
    25: (7.7e-5, 0.0),
    30: (7.7e-6, 0.0),
}
"""By the number of items: the largest error and the median of the authors' 2,572 numbers, LeNet-5 on MNIST."""


@dataclass(frozen=True, kw_only=True)
class WeightsResult(Result):
    """Errors of all weights: the largest, the median with its 95 % interval, and what the law says of the median."""

    weights: int
    largest: float
    median: tuple[float, float, float]
    law: float
    below_published: int
    seconds: float


@dataclass(frozen=True)
class Weights:
    """Each weight of the convolutions by the best subset of n numbers of its own, uniform on [-1, 1].

    Attributes:
        items: n.
        seed: of the numbers.

    """

    kind: ClassVar[type[Result]] = WeightsResult

    items: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "network": "LeNet5_e50_h500.pt"}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> WeightsResult:
        """Measure; it takes seconds, and is not stopped half way."""
        return recorded(WeightsResult, path, self.config(), lambda _: self._measure(data_folder), resume=True)

    def _measure(self, data_folder: Path | None) -> WeightsResult:
        weights = convolutional(read_network("LeNet5_e50_h500.pt", data_folder))
        generator = np.random.Generator(philox(self.seed, "cnn_weights", self.items))
        numbers = generator.uniform(-1, 1, (len(weights), self.items))
        began = monotonic()
        errors = solve(numbers, weights, threads=1).error
        seconds = monotonic() - began
        found = laws.median(errors)
        return WeightsResult(
            weights=len(weights),
            largest=float(errors.max()),
            median=(found.value, found.low, found.high),
            # an optimum times its rate is exponential with mean 1, whose median is log 2
            law=float(np.median(np.log(2) / laws.rate(numbers, weights))),
            below_published=int((errors <= PUBLISHED[self.items][1]).sum()),
            seconds=round(seconds, 2),
        )


def convolutional(network: nn.Module) -> Floats:
    """Return all weights of the convolutions of a network, float64 (count,)."""
    kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    return np.concatenate([kernel.detach().double().numpy().reshape(-1) for kernel in kernels])


def _row(results: Sequence[WeightsResult]) -> list[str]:
    first = results[0]
    value, low, high = first.median
    below = sum(result.below_published for result in results)
    return [
        ", ".join(f"{result.largest:.1e}" for result in results),
        f"{value:.1e} ({low:.1e} to {high:.1e})",
        f"{first.law:.1e}",
        f"{below} of {sum(result.weights for result in results):,}",
        f"{max(result.seconds for result in results):.1f}",
    ]


def _plot(found: Mapping[str, Sequence[WeightsResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.4)
    items = [results[0].config["items"] for results in found.values()]
    axes.plot(items, [r[0].largest for r in found.values()], "o-", color=COLORS[0], label="largest, exact")
    axes.plot(items, [r[0].median[0] for r in found.values()], "o-", color=COLORS[1], label="median, exact")
    for color, part, name in ((COLORS[0], 0, "largest"), (COLORS[1], 1, "median")):
        shown = [(n, PUBLISHED[n][part]) for n in items if PUBLISHED[n][part] > 0.0]
        axes.plot(*zip(*shown, strict=True), "x--", color=color, label=f"{name}, authors")
    axes.set(yscale="log", xlabel="items", ylabel="error of a weight", title="Convolutional weights of LeNet-5")
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _published(n: int) -> Published:
    largest, median = PUBLISHED[n]
    return Published(f"{largest:.1e}, {median:.1e}", "the authors' repository, AInnervate/cnnslth", "largest, median")


EXPERIMENT = Experiment(
    name="cnn_weights",
    title="da Cunha et al. 2022: convolutional weights by subset sums, solved exactly",
    source=(
        "The authors approximate the 2,572 weights and biases of the convolutions of a LeNet-5, each by a subset of n"
        " numbers of its own, uniform on [-1, 1], with a commercial solver, and store the errors. Here the 2,550"
        " weights of the convolutions of the LeNet-5 of Pensia et al. (LeNet5_e50_h500.pt), by the same law, each"
        " solved to its optimum. The law of the optimum hardly depends on the weight where it is well below sqrt(n)."
    ),
    groups=tuple(Group(f"n = {n}", tuple(Weights(n, seed) for seed in range(3)), _published(n)) for n in PUBLISHED),
    table=Table(
        header=("largest error", "median error", "median by the law", "at or below the authors' median", "seconds"),
        row=_row,
        note=(
            "Largest: of each seed. Median: of seed 0, with its 95 % interval, beside that of the local limit law"
            " (theory.laws) for the same numbers. At or below: weights, of all seeds, whose optimum is at most the"
            " authors' median; by the meaning of a median it should be half of them. From n = 20 on the stored medians"
            " are below what any subset reaches: the authors' code adds up the solver's variables, which are integers"
            " only to within the solver's tolerance, without rounding them. Their numbers are stored in float32, which"
            " can make the zero of n = 30 (errors below 4e-9 vanish beside a weight of 0.1), but not those before."
            " Seconds: of the longest seed, one core."
        ),
    ),
    plot=_plot,
)
