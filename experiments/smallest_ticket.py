"""The smallest accurate ticket for MNIST: error against the bytes of the whole file, by width and density."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import deep_compression
from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.report import read_results
from experiments.framework.training import trainings
from supermask.errors import SupermaskError
from supermask.report import mean
from supermask.report.plot import COLORS, colored, new_figure, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.training import Recipe
from supermask.training.result import Scored

RECIPE = Recipe(
    epochs=40,
    optimizer="adam",
    learning_rate=0.02,
    weight_decay=0.0,
    warm_up=0,
    augment=True,
    padding=2,
    flips=False,
    bf16=True,
)
SIZES = {(1.0, 0.5): (0,), (1.5, 0.1): (0,), (1.5, 0.2): (0, 1), (1.5, 0.3): (0,)}
"""Width and density of each row, and its seeds."""

BAR = 0.006
"""`results/mnist.ticket` is the smallest file whose validation error is at most this, whatever its test error."""

PUBLISHED = {"LeNet-300-100": (27_000, 1.58), "LeNet-5": (44_000, 0.74)}
"""(bytes, test error in per cent) of Deep Compression: Han, Mao & Dally 2016, table 1."""


def _group(width: float, density: float, seeds: Sequence[int]) -> Group:
    job = Job(model="small_conv", width=width, data="mnist", recipe=RECIPE, search=SearchOptions(density=density))
    return Group(f"width {width:g}, density {density:g}", trainings(job, seeds))


def _error(score: Scored) -> float:
    """Return the error in per cent."""
    return 100 - 100 * score.accuracy


def _row(results: Sequence[JobResult]) -> list[str]:
    first = results[0]
    sizes = ", ".join(f"{result.bytes:,}" for result in results)
    scores = [[result.validation for result in results], [result.test for result in results]]
    errors = [", ".join(f"{_error(score):.2f}" for score in each) + " %" for each in scores]
    counts = [f"{first.prunable:,}", f"{first.kept:,}"]
    return [sizes, *errors, *counts, f"{mean([result.seconds for result in results]).value:.0f}"]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figure()
    results = [result for row in found.values() for result in row]
    for color, width in colored(sorted({width for width, _ in SIZES})):
        points = [_point(result) for result in results if result.config["width"] == width]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, "o", color=color, label=f"width {width:g}, at its density")
    for result in results:
        density = f"{result.config['search']['density']:g}"
        axes.annotate(density, _point(result), (0, 7), textcoords="offset points", fontsize=8, ha="center")
    for label, (size, error) in PUBLISHED.items():
        axes.plot(size / 1000, error, "*", color=COLORS[-1], markersize=10)
        axes.annotate(label, (size / 1000, error), (-8, 5), textcoords="offset points", fontsize=8, ha="right")
    axes.axhline(
        PUBLISHED["LeNet-5"][1], color=COLORS[-1], linestyle="--", linewidth=1, label="Deep Compression, published"
    )
    for number, (label, compressed) in enumerate(_compressed().items()):
        x, y = zip(*(_point(result) for result in compressed), strict=True)
        axes.plot(x, y, "x", color=COLORS[2], label="Deep Compression, run here" if not number else None)
        axes.annotate(label, (x[0], y[0]), (8, -3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="bytes of the file / 1,000", ylabel="test error (%)", xlim=(0, 57), ylim=(0, None))
    axes.set(title="MNIST: strong tickets of small_conv beside Deep Compression")
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def _compressed() -> dict[str, list[JobResult]]:
    """Return what Deep Compression came to here, where it was run, by network."""
    try:
        return {label: found for label, found in read_results(deep_compression.EXPERIMENT).items() if found}
    except SupermaskError:
        return {}


def _point(result: JobResult) -> tuple[float, float]:
    return result.bytes / 1000, _error(result.test)


_NOTE = (
    "Bytes: of the ticket's file, everything in it but the code. Where a row has several seeds, each has its own"
    " number. The best step of a run was chosen on the validation split and the test set read once in each run."
    " `mnist.ticket` beside this is the network.ticket of the smallest file whose validation error is at most 0.6 %, a"
    " bar set before any test error was seen. Seconds: on one core that others used too."
)

EXPERIMENT = Experiment(
    name="smallest_ticket",
    title="The smallest accurate ticket for MNIST",
    source=(
        "Our own question, held against Deep Compression (Han, Mao & Dally 2016, table 1: LeNet-300-100 in 27 KB at"
        " 1.58 % error, LeNet-5 in 44 KB at 0.74 %), which trains its weights. Here no weight is trained: edge-popup"
        " over signed constants in `small_conv`, whose group norm has nothing to store, so that a file is a seed, masks"
        " and a header. Adam 0.02, no weight decay, cosine, batch 128, 40 epochs of 55,000 examples shifted by up to 2"
        " pixels, 5,000 for validation."
    ),
    groups=tuple(_group(*size, seeds) for size, seeds in SIZES.items()),
    table=Table(header=("bytes", "validation error", "test error", "weights", "kept", "seconds"), row=_row, note=_NOTE),
    plot=_plot,
)
