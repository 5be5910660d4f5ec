"""Pensia et al. 2020, experiment 1, as published: each weight of their network as a subset sum of 21 random numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.framework.building import BINS
from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.pensia import read_network
from supermask import data
from supermask.random.stream import Floats, philox
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result, inlined
from supermask.runs import recorded
from theory.subset_sum import solve

ITEMS, EPSILON = 21, 0.01
"""Numbers per weight and the error allowed, as published."""

Masks = NDArray[np.bool_]


def row_draws(layers: Sequence[Floats], seed: int) -> list[Floats]:
    """Return random numbers (rows, 1, 21) for each layer: one draw per output row, which all its weights share.

    As in the authors' code: uniform on the range of all weights of the network, from NumPy's legacy generator.
    """
    generator = np.random.RandomState(seed)
    low, high = min(layer.min() for layer in layers), max(layer.max() for layer in layers)
    return [generator.uniform(low, high, (len(layer), 1, ITEMS)) for layer in layers]


def fresh_draws(layers: Sequence[Floats], seed: int) -> list[Floats]:
    """Return random numbers (rows, columns, 21) for each layer: a draw of its own for each weight.

    As Lueker's theorem has them: uniform on [-1, 1] in the unit of twice the layer's largest weight, in which no weight
    exceeds 1/2.
    """
    generator = np.random.Generator(philox(seed, "pensia_weights"))
    return [2 * np.abs(layer).max() * generator.uniform(-1, 1, (*layer.shape, ITEMS)) for layer in layers]


def smallest_error(items: Floats, weights: Floats) -> Masks:
    """Return the best masks (rows, columns, n) for items (rows, columns or 1, n) and weights (rows, columns)."""
    each = np.broadcast_to(items, (*weights.shape, items.shape[-1]))
    return solve(each.reshape(weights.size, -1), weights.reshape(-1), threads=1).mask.reshape(each.shape)


def fewest_terms(items: Floats, weights: Floats) -> Masks:
    """Return masks (rows, columns, n) of fewest terms within EPSILON, for items (rows, 1, n); empty where none is."""
    return np.stack([_fewest_of_row(mine, row) for (mine,), row in zip(items, weights, strict=True)])


def _fewest_of_row(items: Floats, weights: Floats) -> Masks:
    """Go through the sums of 0, 1, 2, ... terms, which all weights share; of equally many terms take the closest."""
    mask = np.zeros((len(weights), len(items)), np.bool_)
    left = np.arange(len(weights))
    for terms in range(len(items) + 1):
        subsets = np.array(list(combinations(range(len(items)), terms)), dtype=np.intp)
        sums = items[subsets].sum(1)
        order = np.argsort(sums)
        above = np.searchsorted(sums[order], weights[left]).clip(max=len(sums) - 1)
        near = order[np.stack([above, (above - 1).clip(min=0)])]
        errors = np.abs(sums[near] - weights[left])
        best = near[errors.argmin(0), np.arange(len(left))]
        found = errors.min(0) <= EPSILON
        mask[left[found, None], subsets[best[found]]] = True
        left = left[~found]
        if not len(left):
            break
    return mask


Draw = Callable[[Sequence[Floats], int], list[Floats]]
Choice = Callable[[Floats, Floats], Masks]
METHODS: Mapping[str, tuple[Draw, Choice]] = {
    "smallest error, draws shared by rows": (row_draws, smallest_error),
    "fewest terms, draws shared by rows": (row_draws, fewest_terms),
    "smallest error, fresh draws": (fresh_draws, smallest_error),
}


SEEDS = (1, 2, 3)
"""1 is the authors' seed."""


@dataclass(frozen=True)
class Sums:
    """The sums in the place of a network's weights.

    Attributes:
        weights: that were replaced.
        terms: how many weights have 0, 1, ... terms.
        median_error: of a weight.
        largest_error: of a weight.
        within: weights whose error is at most `EPSILON`.
        histogram: of the errors, between `BINS`.
        seconds: of the search for the sums.

    """

    weights: int
    terms: tuple[int, ...]
    median_error: float
    largest_error: float
    within: int
    histogram: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ReplacementResult(Result):
    """The sums, and the test images that the network classifies right with its own weights and with the sums."""

    target_correct: int
    sums: Sums = field(metadata=inlined())
    correct: int


@dataclass(frozen=True)
class Replacement:
    """The weights of the target replaced by subset sums, by a method in `METHODS`, and the network run on MNIST."""

    kind: ClassVar[type[Result]] = ReplacementResult

    method: str
    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        return {"target": "fc2.pt", "items": ITEMS, "epsilon": EPSILON, **asdict(self)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> ReplacementResult:
        """Find the sums and measure them; it takes seconds, and is not stopped half way."""
        return recorded(ReplacementResult, path, self.config(), lambda _: self._measure(data_folder), resume=True)

    def _measure(self, data_folder: Path | None) -> ReplacementResult:
        test = data.load("mnist", folder=data_folder).test()
        network = read_network("fc2.pt", data_folder).double()
        target_correct, sums = _correct(network, test.images, test.labels), self.replace(network)
        correct = _correct(network, test.images, test.labels)
        return ReplacementResult(target_correct=target_correct, sums=sums, correct=correct)

    def replace(self, network: nn.Module) -> Sums:
        """Put the sums in the place of the weights, and return how many terms and how large errors they have."""
        draw, choose = METHODS[self.method]
        layers = [weight.detach().numpy().copy() for weight in network.parameters()]
        items = draw(layers, self.seed)
        began = monotonic()
        masks = [choose(*pair) for pair in zip(items, layers, strict=True)]
        seconds = monotonic() - began
        sums = [np.where(mask, drawn, 0.0).sum(-1) for mask, drawn in zip(masks, items, strict=True)]
        with torch.no_grad():
            for weight, found in zip(network.parameters(), sums, strict=True):
                weight.copy_(torch.from_numpy(found))
        errors = np.concatenate([np.abs(a - b).ravel() for a, b in zip(sums, layers, strict=True)])
        terms = np.concatenate([mask.sum(-1).ravel() for mask in masks])
        return Sums(
            weights=errors.size,
            terms=tuple(np.bincount(terms, minlength=ITEMS + 1).tolist()),
            median_error=float(np.median(errors)),
            largest_error=float(errors.max()),
            within=int((errors <= EPSILON).sum()),
            histogram=tuple(np.histogram(errors, BINS)[0].tolist()),
            seconds=round(seconds, 1),
        )


@torch.no_grad()
def _correct(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    pixels = images.double() / 255  # as the target was trained
    return sum(
        int((network(part).argmax(1) == wanted).sum())
        for part, wanted in zip(pixels.split(500), labels.split(500), strict=True)
    )


def _row(results: Sequence[ReplacementResult]) -> list[str]:
    kept = [sum(count * terms for terms, count in enumerate(result.sums.terms)) for result in results]
    weights = results[0].sums.weights
    outside = max(weights - result.sums.within for result in results)
    return [
        f"{weights * ITEMS:,}",
        f"{kept[0]:,}",
        f"{kept[0] / weights:.2f}",
        f"{max(result.sums.largest_error for result in results):.2g}",
        "yes" if outside == 0 else f"no, {outside:,} are not",
        ", ".join(f"{result.correct / 100:.2f}" for result in results) + " %",
        f"{max(result.sums.seconds for result in results):.1f}",
    ]


def _plot(found: Mapping[str, Sequence[ReplacementResult]], path: Path) -> None:
    figure, axes = new_figure()
    for color, (label, results) in colored(found.items()):
        axes.stairs(results[0].sums.histogram, BINS, color=color, label=label)
    axes.axvline(EPSILON, color="black", linestyle="--", linewidth=1, label=f"epsilon {EPSILON}")
    axes.set(xscale="log", yscale="log", xlabel="error of a weight", ylabel="weights", xlim=(1e-10, 1))
    axes.set_ylim(0.5, 1e8)  # room for the legend
    axes.set_title(f"397,000 weights as subset sums of {ITEMS} numbers each")
    axes.legend(frameon=False, loc="upper left")
    save_figure(figure, path)


_PUBLISHED = Published(
    "3,725,871 kept; 97.19 %; 77,266 s",
    "the authors' repository, acnagle/optimal-lottery-tickets, subset-sum/results/paper/fc2_approx.out",
    "all weights within 0.01; on 36 cores with a commercial solver, which may stop at a gap of 1 %",
)

EXPERIMENT = Experiment(
    name="pensia_weights",
    title="Pensia et al. 2020, experiment 1, weight by weight",
    source=(
        "The 397,000 weights of a trained 784-500-10 network without biases (the authors' own fc2.pt), each replaced by"
        " a subset sum of n = 21 random numbers. As in the authors' code, the numbers are uniform on [min, max] of all"
        " weights of the network, and the weights of one output row share one draw; this is not what the theorem asks,"
        " so the last row draws anew for each weight, uniform on [-1, 1] in the unit of twice the layer's largest"
        " weight. No random network is pruned here; pensia_fc2 does that. Smallest error: exact, meet in the middle."
        " Fewest terms: as few as an error of 0.01 allows."
    ),
    groups=tuple(
        Group(method, tuple(Replacement(method, seed) for seed in SEEDS), None if place else _PUBLISHED)
        for place, method in enumerate(METHODS)
    ),
    table=Table(
        header=("numbers", "kept", "terms per weight", "largest error", "all within 0.01", "test accuracy", "seconds"),
        row=_row,
        note=(
            "Numbers: 21 for each weight. Kept and terms per weight: of the first seed, which is the authors'. Largest"
            " error: of the weights of all seeds. Test accuracy: of the network of sums on MNIST, by seed, in float64;"
            " the target has 97.19 %. Seconds: of the longest seed, on one core, without drawing and testing."
        ),
    ),
    plot=_plot,
)
