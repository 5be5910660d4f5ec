"""Accuracy in a file of so many bytes: masks that are drawn by bits, beside searches by density at the same size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.training import trainings
from supermask.report import mean
from supermask.report.plot import COLORS, new_figures, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.search.coded import CodedRule
from supermask.training import Recipe
from supermask.training.result import Scored

DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
SEEDS = (0, 1, 2)
RECIPE = Recipe(epochs=60, warm_up=100, channels_last=True)
RANKED = replace(RECIPE, optimizer="adam", learning_rate=0.02, weight_decay=0.0, warm_up=0)


@dataclass(frozen=True)
class Tier:
    """A size of files.

    Attributes:
        bytes: of the whole file, at most.
        model: of the search by bytes.
        width: of its network.
        ranked: width of small_conv at which edge-popup at density 1/2 has a file of about that size.

    """

    bytes: int
    model: str
    width: float
    ranked: float


TIERS = (
    Tier(800, "tiny_conv", 0.7, 0.35),
    Tier(1500, "tiny_conv", 1.0, 0.55),
    Tier(3000, "tiny_conv", 1.5, 0.87),
    Tier(10000, "small_conv", 1.5, 1.7),
)
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
            job = Job(data=data, recipe=RECIPE)
            rule = CodedRule(bytes=tier.bytes, start=0.2, gain=2.0)  # by a few short trials at 1,500 bytes
            coded = replace(job, method=rule.name, model=tier.model, width=tier.width, options=rule)
            published = MIRACLE.get(tier.bytes) if data == "mnist" else None
            groups.append(Group(f"{title}, {tier.bytes:,} bytes, coded", trainings(coded, SEEDS), published))
            half = SearchOptions(density=0.5)
            ranked = replace(job, model="small_conv", width=tier.ranked, search=half, recipe=RANKED)
            groups.append(Group(f"{title}, {tier.bytes:,} bytes, edge_popup", trainings(ranked, SEEDS)))
    return groups


def _error(score: Scored) -> float:
    return 1.0 - score.accuracy


def _row(results: Sequence[JobResult]) -> list[str]:
    errors = [[_error(result.validation) for result in results], [_error(result.test) for result in results]]
    first = results[0]
    network = f"{first.config['model']} x {first.config['width']:g}"
    sizes = sorted({result.bytes for result in results})
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}-{sizes[-1]:,}"
    return [
        network,
        span,
        *(mean(each).percent() for each in errors),
        f"{mean([result.seconds for result in results]).value:.0f}",
    ]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    titles = [title for title in DATA.values() if any(label.startswith(f"{title},") for label in found)]
    figure, panels = new_figures(len(titles), 5.0 * len(titles))
    for axes, title in zip(panels, titles, strict=True):
        for color, method in zip(COLORS, ("coded", "edge_popup"), strict=False):
            rows = [row for label, row in found.items() if label.startswith(f"{title},") and label.endswith(method)]
            points = [(result.bytes, 100 * _error(result.test)) for row in rows for result in row]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=color, label=method)
        if title == DATA["mnist"]:
            axes.plot([1520, 3030], [0.96, 0.69], "*", color=COLORS[-1], label="MIRACLE, published, no file")
        axes.set(xscale="log", yscale="log", xlabel="bytes of the file", ylabel="test error (%)", title=title)
        axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="coded",
    title="Accuracy in a file of so many bytes",
    source=(
        "After Havasi, Peharz & Hernandez-Lobato 2019 (MIRACLE), whose networks are Gaussian; masks over random signed"
        " constants here, and whole files. coded: `supermask search --method coded --bytes BYTES --start 0.2 --gain 2`,"
        " 60 epochs of 55,000 examples without augmentation, Adam 0.1, cosine, batch 128. edge_popup: small_conv at"
        " density 0.5, as wide as the bytes allow, Adam 0.02, the same epochs, the step of best validation accuracy."
    ),
    groups=tuple(_groups()),
    table=Table(
        header=("network", "bytes", "validation error", "test error", "seconds"),
        row=_row,
        note=(
            "Bytes: of the ticket's whole file, header and checksums included. n counts seeds of weights, split and"
            " order together. The test set was read once in each run. Seconds: on one core of a machine that other work"
            " shared."
        ),
    ),
    plot=_plot,
)
