"""Accuracy against bytes: strong tickets over width and density at fixed sizes, compressed and dense networks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.training import ACCURACY_AND_DENSITY, trainings
from supermask.baselines.deep_compression import DeepCompression
from supermask.report import mean
from supermask.report.plot import COLORS, colored, new_figures, plain_log, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.search.anchored import AnchoredRule
from supermask.search.coded import CodedRule
from supermask.search.structured import StructuredRule
from supermask.search.trichromatic import TrichromaticRule
from supermask.training import Recipe

DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
SIZES = (2_500, 7_500, 20_000)
DENSITIES = (0.5, 0.2, 0.1, 0.04)
CODED_SIZES = (2_000, 5_000, 10_000)
CODED_WEIGHTS = 12  # for each byte: about two thirds of a bit for a weight, as the searches of `coded` have
LEVELS = (1, 3)
LEVELLED = 0.1
"""Density of the masks of signs and levels."""
SHARED_DENSITY = 0.2
"""Of masks near the first one and of tiles; the one that `coded` has."""
NEAR = AnchoredRule(price=1e-5)
NEAR_WEIGHTS = 1.3
"""Weights of masks near the first one, over those of masks of the same size that are not held near."""
TILE = StructuredRule(rows=4, columns=1)
DENSE_SIZES = (20_000, 80_000, 320_000)
SEEDS = (0, 1, 2)
DENSE_RATE, WARM = 0.02, 0.4
JOB = Job(model="lenet_300_100", recipe=Recipe(epochs=5))
PIXELS, CLASSES, FIRST, SECOND = 784, 10, 300, 100


def width_of(weights: float) -> float:
    """Return the width at which LeNet-300-100 has so many weights, biases aside, rounded to whole units."""
    linear = PIXELS * FIRST + SECOND * CLASSES
    exact = (-linear + math.sqrt(linear**2 + 4 * FIRST * SECOND * weights)) / (2 * FIRST * SECOND)
    return round(exact * SECOND) / SECOND


def entropy(density: float) -> float:
    """Return the bits of a mask entry, -k log2 k - (1 - k) log2 (1 - k)."""
    return -density * math.log2(density) - (1 - density) * math.log2(1 - density)


def levelled(levels: int) -> float:
    """Return the bits of an entry of masks of connections, signs and so many levels, at the density `LEVELLED`."""
    return entropy(LEVELLED) + LEVELLED * math.log2(2 * levels)


def _groups() -> list[Group]:
    groups = []
    for data, label in DATA.items():
        job = replace(JOB, data=data)
        for size in SIZES:
            for density in DENSITIES:
                width = width_of(8 * size / entropy(density))
                found = replace(job, width=width, search=SearchOptions(density=density))
                groups.append(Group(f"{label}, {size:,} bytes, density {density}", trainings(found, SEEDS)))
        for size in CODED_SIZES:
            rule = CodedRule(bytes=size)
            drawn = replace(job, method=rule.name, width=width_of(CODED_WEIGHTS * size), options=rule)
            groups.append(Group(f"{label}, coded, {size:,} bytes", trainings(drawn, SEEDS)))
        for levels, size in product(LEVELS, SIZES):
            coloured = TrichromaticRule(levels=levels)
            search = SearchOptions(density=LEVELLED)
            width = width_of(8 * size / levelled(levels))
            signed = replace(job, method=coloured.name, width=width, search=search, options=coloured)
            groups.append(Group(f"{label}, {_levels(levels)}, {size:,} bytes", trainings(signed, SEEDS)))
        ways = (("near the first mask", NEAR, NEAR_WEIGHTS), (f"tiles of {TILE.rows}", TILE, float(TILE.rows)))
        for (way, own, more), size in product(ways, SIZES):
            search = SearchOptions(density=SHARED_DENSITY)
            width = width_of(8 * size * more / entropy(SHARED_DENSITY))
            held = replace(job, method=own.name, width=width, search=search, options=own)
            groups.append(Group(f"{label}, {way}, {size:,} bytes", trainings(held, SEEDS)))
        for size in DENSE_SIZES:
            # at the rate of the scores, narrow ones do not learn
            slower = replace(job.recipe, learning_rate=DENSE_RATE, warm_up=WARM)
            dense = replace(job, method="dense", width=width_of(size / 4), recipe=slower)
            groups.append(Group(f"{label}, dense, {size:,} bytes", trainings(dense, SEEDS)))
        compressed = replace(job, method=DeepCompression.name, search=SearchOptions(density=0.08))
        groups.append(Group(f"{label}, deep_compression", trainings(compressed, SEEDS[:1])))
    return groups


def _levels(levels: int) -> str:
    return "signs" if levels == 1 else f"signs and {levels} levels"


_CURVES = ("density", "coded", "signs", "near", "tiles", "dense", "deep")


def _curve(label: str) -> str:
    """Return the curve that a row belongs to."""
    return next(part for part in label.split(", ") if part.startswith(_CURVES))


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figures(2, width=11.0, height=4.4)
    for place, data in zip(axes, DATA.values(), strict=True):
        curves: dict[str, list[tuple[float, float]]] = {}
        for label, results in found.items():
            if label.startswith(f"{data}, "):
                size = max(result.bytes for result in results)
                accuracy = mean([100 * result.test.accuracy for result in results]).value
                curves.setdefault(_curve(label), []).append((size, accuracy))
        for number, (color, (curve, points)) in enumerate(colored(curves.items())):
            marker = "oD"[number // len(COLORS)]
            place.plot(*zip(*sorted(points), strict=True), color=color, marker=marker, label=curve)
        place.set(xlabel="bytes of the file", ylabel="test accuracy (%)", title=f"LeNets on {data}")
        plain_log(place)
        place.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="frontier",
    title="Accuracy against bytes: strong tickets over width and density, compressed and dense networks",
    source=(
        "LeNet-300-100 in widths at which a mask of each density has about the same bytes, n H(density) / 8."
        " Tickets by edge-popup over signed constants scaled by 1/sqrt(density), which did better on the validation"
        " split than unscaled ones at all eight points that were tried with this recipe: SGD 0.1 (below a density of"
        " 1/2 times sqrt(2 x density)), momentum 0.9, weight decay 1e-4, cosine after a warm-up over 40 % of the steps,"
        " batch 128, 5 epochs of 55,000 examples, 5,000 for validation. Coded is the search by a budget of bytes in its"
        f" short setting, with {CODED_WEIGHTS} weights for each byte. Signs are trichromatic supermasks (connections,"
        f" signs and {' or '.join(map(str, LEVELS))} levels of magnitude) at density {LEVELLED}, as wide as their bits"
        f" allow. Dense networks have a rate of {DENSE_RATE} and"
        " the same warm-up, and are counted as their file of float32 numbers; Deep Compression (Han et al. 2016)"
        " prunes, shares and codes a LeNet-300-100. CIFAR-10 belongs here where there is a GPU, which there was"
        " not. Nothing was read that was published of such a sweep."
    ),
    groups=tuple(_groups()),
    table=ACCURACY_AND_DENSITY,
    plot=_plot,
)
