"""Deep Compression of the two networks on MNIST: bytes and errors of each stage beside the published ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.training import trainings
from supermask.baselines.deep_compression import DeepCompression
from supermask.baselines.deep_compression.method import CompressionDetails
from supermask.baselines.deep_compression.pruning import LENET5_CAFFE, LENET_300_100, density_of
from supermask.report import Mean, mean
from supermask.report.plot import colored, new_figure, plain_log, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.training import Recipe

SEEDS = (0, 1, 2)
STAGES = {"dense": "o", "pruned": "s", "quantised": "D", "huffman": "*"}
"""CompressionStage to its marker."""

_CODED = ("quantised", "huffman")  # whose bytes depend on the seed

PUBLISHED = {"lenet_300_100": ((1.64, 1_070), (1.58, 27)), "lenet5_caffe": ((0.80, 1_720), (0.74, 44))}
"""Model to (error in per cent, KB) of the reference and the compressed network: Han, Mao & Dally 2016, table 1."""

JOBS = {
    "lenet_300_100": Job(
        method="deep_compression",
        model="lenet_300_100",
        data="mnist",
        recipe=Recipe(epochs=12, weight_decay=5e-4),
        search=SearchOptions(density=density_of(LENET_300_100)),
        options=DeepCompression(
            rate=0.72, layers="published", retraining=0.5, fc_bits=6, conv_gap_bits=5, fc_gap_bits=5
        ),
    ),
    "lenet5_caffe": Job(
        method="deep_compression",
        model="lenet5_caffe",
        data="mnist",
        recipe=Recipe(epochs=3, batch_size=64, learning_rate=0.02, weight_decay=5e-4, channels_last=True),
        search=SearchOptions(density=density_of(LENET5_CAFFE)),
        initial="xavier_normal",
        options=DeepCompression(rate=0.72, layers="published", retraining=0.5, conv_gap_bits=5, fc_gap_bits=5),
    ),
}


def _row(results: Sequence[JobResult]) -> list[str]:
    errors = [_error(results, stage) for stage in ("dense", "pruned", "huffman")]
    before = {stage: _details(results[0]).stages[stage].bytes / 1000 for stage in ("dense", "pruned")}
    quantised, size = (mean([_details(result).stages[stage].bytes / 1000 for result in results]) for stage in _CODED)
    layers = [layer for result in results for layer in _details(result).layers.values()]
    return [
        *(f"{_text(error, 2)} %" for error in errors),
        *(f"{kilobytes:,.1f}" for kilobytes in before.values()),
        *(_text(kilobytes, 1) for kilobytes in (quantised, size)),
        f"{before['dense'] / size.value:.0f}",
        _extremes([layer.index_bits[1] for layer in layers]),
        _extremes([layer.gap_bits[1] for layer in layers]),
        f"{mean([_seconds(result) for result in results]).value:.0f}",
    ]


def _error(results: Sequence[JobResult], stage: str) -> Mean:
    """Return the mean test error of a stage in per cent."""
    return mean([100 - 100 * _details(result).stages[stage].test_accuracy for result in results])


def _text(value: Mean, digits: int) -> str:
    interval = "" if value.half_width is None else f" ± {value.half_width:.{digits}f}"
    return f"{value.value:.{digits}f}{interval}"


def _seconds(result: JobResult) -> float:
    """Return the time of all trainings."""
    return result.seconds + sum(each.seconds for each in _details(result).rounds)


def _details(result: JobResult) -> CompressionDetails:
    return result.detail(CompressionDetails)


def _extremes(coded: Sequence[float]) -> str:
    """Return the least and the most bits of an entry after Huffman coding, over the layers and the seeds."""
    return f"{min(coded):.1f}-{max(coded):.1f}"


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figure(width=7.2)
    for color, (label, results) in colored(found.items()):
        points = [_point(results, stage) for stage in STAGES]
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1, label=label)
        for (size, error), marker in zip(points, STAGES.values(), strict=True):
            axes.plot(size, error, marker=marker, color=color, markersize=9 if marker == "*" else 5)
        published = [(1000 * kilobytes, error) for error, kilobytes in PUBLISHED[label]]
        axes.plot(
            *zip(*published, strict=True),
            color=color,
            linewidth=1,
            linestyle="--",
            marker="x",
            label=f"{label}, published",
        )
    for stage, marker in STAGES.items():
        axes.plot([], [], color="k", linestyle="none", marker=marker, label=stage)
    axes.set(xlabel="bytes", ylabel="test error (%)", title="Deep Compression on MNIST", ylim=(0, None))
    plain_log(axes)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _point(results: Sequence[JobResult], stage: str) -> tuple[float, float]:
    """Return the mean bytes and the mean error in per cent of a stage."""
    return mean([_details(result).stages[stage].bytes for result in results]).value, _error(results, stage).value


def _published(model: str) -> Published:
    (error, size), (after, small) = PUBLISHED[model]
    return Published(
        f"{error:.2f} -> {after:.2f} %, {size:,} -> {small} KB",
        "Han, Mao & Dally 2016, table 1",
        "read in a text copy of it",
    )


EXPERIMENT = Experiment(
    name="deep_compression",
    title="Deep Compression on MNIST: LeNet-300-100 and Caffe's LeNet-5",
    source=(
        "Han, Mao & Dally 2016, tables 1 to 3: the fractions of each layer that they keep, 6 bits for a weight of"
        " LeNet-300-100, 8 (convolutions) and 5 bits for one of LeNet-5, 5 bits for a difference of places. How its"
        " networks were trained is not in it. Here, and short: SGD with momentum 0.9, weight decay 5e-4, cosine;"
        " LeNet-300-100 from Kaiming normal weights, rate 0.1, batch 128, 12 epochs, LeNet-5 from Glorot normal ones,"
        " rate 0.02, batch 64, 3 epochs; pruned in two rounds, each retrained at a tenth of the rate for half as many"
        " epochs; the centroids at rate 1e-4 for as long. 55,000 examples train, 5,000 choose the best step of each"
        " training."
    ),
    groups=tuple(Group(model, trainings(job, SEEDS), _published(model)) for model, job in JOBS.items()),
    table=Table(
        header=(
            *("dense error", "pruned", "compressed"),
            *("dense KB", "pruned KB", "quantised KB", "file KB", "times smaller"),
            *("weight bits", "gap bits", "seconds"),
        ),
        row=_row,
        note=(
            "Test errors: means and 95 % intervals (Student's t) over n seeds; compressed is that of the network read"
            " back from its file. KB: 1,000 bytes; pruned is in CSR format with numbers of 32 bits, quantised has"
            " codebooks and entries of fixed length, the file is all of it, with biases, tables and names. Weight bits,"
            " gap bits: of an entry after Huffman coding, from the layer with the least to the one with the most; the"
            " paper has 4.3 to 4.4 and 3.2 to 4.3 for LeNet-300-100, 4.5 to 7.2 and 1.5 to 4.5 for LeNet-5. Seconds:"
            " of all trainings of a run, on a core that others used too. What is lost is lost in pruning, not in"
            " coding: the last retraining of LeNet-5 was at its best at its last step in every run, so that a longer"
            " one may lose less."
        ),
    ),
    plot=_plot,
)
