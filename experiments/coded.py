"""Accuracy in a file of so many bytes: masks that are drawn by bits, beside searches by density at the same size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.training import trainings
from supermask.report import mean
from supermask.report.plot import COLORS, colored, new_figures, plain_log, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.search.coded import CodedRule
from supermask.training import Recipe
from supermask.training.result import Scored

DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
COLOURED = "CIFAR-10"
SEEDS = (0, 1, 2)
PLAIN = 1500
"""Bytes at which a row shows what straightening gives."""

RECIPE = Recipe(epochs=40, warm_up=100, channels_last=True)
RANKED = replace(RECIPE, optimizer="adam", learning_rate=0.02, weight_decay=0.0, warm_up=0, bf16=True, best="loss")
"""Of edge-popup. The loss chooses the step: at these errors an accuracy is a matter of a few validation images."""
DENSITY = 0.2
"""Of edge-popup, that of the lowest errors in `smallest_ticket`."""


@dataclass(frozen=True)
class Tier:
    """A size of files.

    Attributes:
        bytes: of the whole file, at most.
        model: of the search by bytes.
        width: of its network.
        ranked: network and width at which edge-popup has a file of about that size.
        changed: of edge-popup's recipe.

    """

    bytes: int
    model: str
    width: float
    ranked: tuple[str, float]
    changed: Mapping[str, Any] = field(default_factory=dict)


TIERS = (
    Tier(800, "tiny_conv", 0.7, ("small_conv", 0.42)),
    Tier(1500, "tiny_conv", 1.0, ("small_conv", 0.67)),
    Tier(3000, "tiny_conv", 1.5, ("small_conv", 1.03), {"warp": 0.7}),
    Tier(10000, "small_conv", 1.5, ("small_vgg", 1.03), {"warp": 0.5, "epochs": 24, "learning_rate": 0.005}),
)
THIRD, LARGEST = TIERS[2:]
CIFAR = Job(
    data="cifar10",
    model="small_conv",
    width=1.9,
    search=SearchOptions(density=DENSITY),
    recipe=replace(RANKED, epochs=25, augment=True, best="accuracy"),
)
"""In a file of at most 9,900 bytes."""
TINY_CIFAR = Published("9.9 kB at 22.48 %", "tiny-cifar, its repository", "weights trained and quantised, a whole file")
MIRACLE = {
    1500: Published(
        "1,520 B at 0.96 %",
        "Havasi et al. 2019, table 1, LeNet-5",
        "the bits of its indices alone; no file was written",
    ),
    3000: Published(
        "3,030 B at 0.69 %",
        "Havasi et al. 2019, table 1, LeNet-5",
        "the bits of its indices alone; no file was written",
    ),
}
"""Of MNIST, by bytes."""


def _groups() -> list[Group]:
    groups = []
    for data, title in DATA.items():
        for tier in TIERS:
            row, published = f"{title}, {tier.bytes:,} bytes", MIRACLE.get(tier.bytes) if data == "mnist" else None
            before = "straight:" * (data == "mnist")
            # its start and gain by a few short trials at 1,500 bytes
            rule = CodedRule(bytes=tier.bytes, start=0.2, gain=2.0)
            coded = Job(data=data, method=rule.name, model=before + tier.model, width=tier.width, options=rule)
            groups.append(_group(f"{row}, coded", replace(coded, recipe=RECIPE), published))
            if data == "mnist" and tier.bytes == PLAIN:
                plain = replace(coded, model=tier.model, recipe=replace(RECIPE, epochs=60))
                groups.append(_group(f"{row}, coded, not straightened", plain, published))
            (model, width), search = tier.ranked, SearchOptions(density=DENSITY)
            ranked = replace(RANKED, **tier.changed)
            searched = Job(data=data, model=before + model, width=width, search=search, recipe=ranked)
            groups.append(_group(f"{row}, edge_popup", searched))
    return [*groups, _group(f"{COLOURED}, 9,900 bytes, edge_popup", CIFAR, TINY_CIFAR)]


def _group(label: str, job: Job, published: Published | None = None) -> Group:
    return Group(label, trainings(job, SEEDS), published)


def _error(score: Scored) -> float:
    return 1.0 - score.accuracy


def _row(results: Sequence[JobResult]) -> list[str]:
    errors = [[_error(result.validation) for result in results], [_error(result.test) for result in results]]
    first = results[0]
    network = f"{first.config['model'].removeprefix('straight:')} x {first.config['width']:g}"
    sizes = sorted({result.bytes for result in results})
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}-{sizes[-1]:,}"
    return [
        network,
        span,
        *(mean(each).percent() for each in errors),
        f"{mean([result.seconds for result in results]).value:.0f}",
    ]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    titles = [title for title in (*DATA.values(), COLOURED) if any(label.startswith(f"{title},") for label in found)]
    figure, panels = new_figures(len(titles), 4.5 * len(titles))
    for axes, title in zip(panels, titles, strict=True):
        for color, method in colored(("coded", "coded, not straightened", "edge_popup")):
            rows = [row for label, row in found.items() if label.startswith(title) and label.endswith(f", {method}")]
            points = [(result.bytes, 100 * _error(result.test)) for row in rows for result in row]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=color, label=method)
        if title == DATA["mnist"]:
            axes.plot([1520, 3030], [0.96, 0.69], "*", color=COLORS[-1], label="MIRACLE, published, no file")
        if title == COLOURED:
            axes.plot([9900], [22.48], "*", color=COLORS[-1], label="tiny-cifar, published")
        axes.set(ylim=(0.0, None), xlabel="bytes of the file", ylabel="test error (%)", title=title)
        plain_log(axes)
        axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="coded",
    title="Accuracy in a file of so many bytes",
    source=(
        "After Havasi, Peharz & Hernandez-Lobato 2019 (MIRACLE), whose networks are Gaussian; masks over random signed"
        " constants here, and whole files. coded: `supermask search --method coded --bytes BYTES --coded.start 0.2"
        f" --coded.gain 2`, {RECIPE.epochs} epochs of 55,000 examples without augmentation, Adam 0.1, cosine, batch"
        f" 128. edge_popup: density {DENSITY}, of about so many bytes, Adam {RANKED.learning_rate} in bfloat16,"
        f" {RANKED.epochs} epochs, the step of lowest validation loss; at {THIRD.bytes:,} bytes images are warped by"
        f" {THIRD.changed['warp']} pixels (`--warp`), at {LARGEST.bytes:,} by {LARGEST.changed['warp']}, with Adam"
        f" {LARGEST.changed['learning_rate']} and {LARGEST.changed['epochs']} epochs. Networks for MNIST have"
        " `straight:` before their names: they shear each image until it stands upright (LeCun et al. 1998, section"
        " III.A), which MIRACLE does not. The row that does not had 60 epochs. CIFAR-10:"
        f" {CIFAR.recipe.epochs} epochs with crops and flips, the step of best validation accuracy."
    ),
    groups=tuple(_groups()),
    table=Table(
        header=("network", "bytes", "validation error", "test error", "seconds"),
        row=_row,
        note=(
            "Bytes: of the ticket's whole file, header and checksums included. n counts seeds of weights, split and"
            " order together. The test set was read once in each run. Seconds: on one core of a machine that other work"
            " shared; some runs were paused."
        ),
    ),
    plot=_plot,
)
