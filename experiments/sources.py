"""What a source network costs: sparse ones, leaky ReLUs, signs and fewer layers beside the theorem's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.random.stream import philox
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import Built, BuiltShallow, construct, construct_shallow
from theory.shallow import NAME as SHALLOW

EPSILONS = (0.1, 0.01, 0.001)
SIZES = (8, 8, 4)
"""Inputs, hidden units and outputs of the target."""
MIDDLE = 1
"""Number of the epsilon at which the table shows weights and bytes."""


@dataclass(frozen=True, kw_only=True)
class SourceResult(Result):
    """By epsilon, what the source network took and what stayed of it.

    Attributes:
        widths: hidden units per input, the most of the layers; with L + 1 layers those of the first, or copies.
        existing: random weights that there are, per weight of the target.
        kept: random weights that stay, per weight of the target.
        bytes: of the ticket.
        upper: of the certificate, over epsilon.
        seconds: of all.

    """

    widths: tuple[int, ...]
    existing: tuple[float, ...]
    kept: tuple[float, ...]
    bytes: tuple[int, ...]
    upper: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Source:
    """A random network that is pruned to a small target at several epsilons.

    Attributes:
        construction: a name in `theory.constructions.CONSTRUCTIONS`, or that of `theory.shallow`.
        density: share of the random weights that there are.
        epsilons: largest differences wanted over the unit ball.
        seed: of the target and of the random network.

    """

    kind: ClassVar[type[Result]] = SourceResult

    construction: str = "relu_diamond"
    density: float = 1.0
    epsilons: tuple[float, ...] = EPSILONS
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "epsilons": list(self.epsilons), "sizes": list(SIZES)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SourceResult:
        """Build the network at each epsilon; it takes seconds, and is not stopped half way."""
        return recorded(SourceResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> SourceResult:
        began, target = monotonic(), small_target(self.seed)
        weights = sum(parameter.numel() for parameter in target.parameters())
        rows = []
        for epsilon in self.epsilons:
            built = self._built(target, epsilon)
            ticket = built.ticket
            there = self.density * ticket.prunable / weights
            rows.append(
                (max(built.widths), there, ticket.kept / weights, ticket.size, built.certificate.upper / epsilon)
            )
        widths, existing, kept, sizes, upper = zip(*rows, strict=True)
        return SourceResult(
            widths=widths, existing=existing, kept=kept, bytes=sizes, upper=upper, seconds=round(monotonic() - began, 1)
        )

    def _built(self, target: nn.Module, epsilon: float) -> Built | BuiltShallow:
        if self.construction == SHALLOW:
            return construct_shallow(target, epsilon, seed=self.seed)
        return construct(
            target,
            epsilon,
            construction=self.construction,
            source_density=self.density,
            grouped=True,
            seed=self.seed,
            progress=False,
        )


def small_target(seed: int) -> nn.Sequential:
    """Return a network with biases whose layers have spectral norm 1."""
    random = np.random.Generator(philox(seed, "sources"))
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        linear = nn.Linear(inputs, outputs)
        weight = random.standard_normal((outputs, inputs))
        linear.weight.data = torch.from_numpy(weight / np.linalg.norm(weight, 2))
        linear.bias.data = torch.from_numpy(0.1 * random.standard_normal(outputs))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).double().eval()


def _row(results: Sequence[SourceResult]) -> list[str]:
    columns = zip(*(result.widths for result in results), strict=True)
    return [
        *(f"{np.mean(widths):,.0f}" for widths in columns),
        f"{np.mean([result.existing[MIDDLE] for result in results]):,.0f}",
        f"{np.mean([result.kept[MIDDLE] for result in results]):,.1f}",
        f"{np.mean([result.bytes[MIDDLE] for result in results]):,.0f}",
        f"{max(max(result.upper) for result in results):.2f}",
        f"{max(result.seconds for result in results):.0f}",
    ]


def _plot(found: Mapping[str, Sequence[SourceResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.4)
    for place, (label, results) in enumerate(found.items()):
        color, dashes = COLORS[place % len(COLORS)], ("-", "--")[place // len(COLORS) % 2]
        widths = np.mean([result.widths for result in results], axis=0)
        axes.plot(results[0].config["epsilons"], widths, marker="o", color=color, linestyle=dashes, label=label)
    axes.set(xscale="log", yscale="log", xlabel="epsilon", ylabel="hidden units per input", title="Width by source")
    axes.invert_xaxis()
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _tasks(construction: str = "relu_diamond", density: float = 1.0) -> tuple[Source, ...]:
    return tuple(Source(construction, density, seed=seed) for seed in range(3))


_SPARSE = Published("wider by 1 / log(1 / sparsity)", "Gadhikar et al. 2023, abstract", "theory, by layers")
_PENSIA = Published("log(1 / epsilon)", "Pensia et al. 2020, theorem 1", "theory alone")
_LEAKY = Published("log(1 / epsilon)", "Burkholz 2022, abstract", "theory, for L + 1 layers; here 2 L")
_SHALLOW = Published("L + 1 layers, log(1 / epsilon)", "Burkholz 2022, abstract", "theory alone")
_SIGNS = Published("log^2(1 / epsilon)", "Sreenivasan et al. 2022", "theory, by deeper networks; here 2 L layers")

EXPERIMENT = Experiment(
    name="sources",
    title="What a source network costs",
    source=(
        "A network of 8 inputs, 8 hidden units and 4 outputs with biases, its layers of spectral norm 1, is built by"
        " pruning several kinds of random networks of two layers for each of its own, over the unit ball. Sparse: the"
        " seed prunes all but this share of the random weights before anything is chosen (Gadhikar et al. 2023). Leaky:"
        " a leaky ReLU of slope 1/8 stands between the two hops, so that paths for positive inputs leak into negative"
        " ones. Signs: all random weights of a layer have one size (Sreenivasan et al. 2022 use deeper networks for"
        " that, which are not built here). L + 1: the first layer takes two random layers and the other one, in which"
        " each weight is a subset sum over copies of a hidden unit (`theory.shallow`); biases are random everywhere."
    ),
    groups=(
        Group("dense, uniform, ReLU", _tasks(), _PENSIA),
        *(Group(f"sparse, density {density}", _tasks(density=density), _SPARSE) for density in (0.8, 0.5, 0.3)),
        Group("leaky ReLU", _tasks("leaky_diamond"), _LEAKY),
        Group("signs", _tasks("sign_diamond"), _SIGNS),
        Group("L + 1 layers, ReLU", _tasks(SHALLOW), _SHALLOW),
    ),
    table=Table(
        header=(
            *(f"width, epsilon {epsilon:g}" for epsilon in EPSILONS),
            *(f"{what}, epsilon {EPSILONS[MIDDLE]:g}" for what in ("random weights", "kept", "bytes")),
            "upper / epsilon",
            "seconds",
        ),
        row=_row,
        note=(
            "Width: hidden units per input of the widest layer, chosen before anything is drawn so that all weights"
            " find enough paths with probability 0.99; a path is two random weights, so that of sparse networks grows"
            " by 1 / density^2 and more. Random weights, kept: of those that there are and of those that stay, per"
            " weight of the target; first hops have only their blocks, but with L + 1 layers they are full matrices."
            " Bytes: of the ticket. All are means of three seeds, each with a target and a draw of its own. Upper: the"
            " worst certificate over its epsilon; at most 1 where every one of them holds."
        ),
    ),
    plot=_plot,
)
