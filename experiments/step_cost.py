"""What one optimizer step of edge-popup costs beside a dense one of the same network, ours and as published."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.framework.experiment import Experiment, Group, Table
from experiments.measuring.step_times import BYTES_PER_WEIGHT, CostResult, StepCost
from experiments.measuring.training_step import DENSITY, OTHERS, WAYS, StepSetting
from supermask.report.plot import colored, new_figure, save_figure
from theory.laws import Estimate

_SEARCHES = [way for way in WAYS if way != "dense"]


def floor_ratio(result: CostResult) -> float:
    """Return a masked step over a dense one, if all it did besides were to move the bytes that it must."""
    floor = 1000 * BYTES_PER_WEIGHT * result.weights / result.bytes_per_second
    return 1 + floor / result.train.median_ms["dense"]


def _row(results: Sequence[CostResult]) -> list[str]:
    (result,) = results
    train, ours = result.train, result.train.ratio["ours"]
    ours_bytes, dense_bytes = result.peak_bytes["ours"], result.peak_bytes["dense"]
    return [
        *(_milliseconds(train.median_ms[way]) for way in ("dense", "ours")),
        f"{ours.value:.2f} ({ours.low:.2f}-{ours.high:.2f})",
        *(f"{train.ratio[way].value:.2f}" if way in train.ratio else "-" for way in OTHERS),
        f"{floor_ratio(result):.2f}",
        f"{ours_bytes / dense_bytes:.2f}" if ours_bytes and dense_bytes else "-",
        f"{len(train.ms['ours'])}, {len(train.ms['sort'])}",
    ]


def _milliseconds(value: float) -> str:
    """Return three digits, and no power of ten."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _plot_ratios(
    labels: Sequence[str],
    bars: Mapping[str, Sequence[Estimate]],
    points: Mapping[str, Sequence[Estimate]],
    floors: Sequence[float],
    path: Path,
    title: str,
) -> None:
    """Draw ratios to a dense step on a log axis: a bar and a point per row and way, and the floor of each row.

    Args:
        labels: of the rows.
        bars: way to the ratio of a training step in each row, with its interval.
        points: the same of an evaluation pass.
        floors: of each row.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure(height=0.6 + 0.65 * len(labels))
    rows, thick = np.arange(len(labels)), 0.8 / len(bars)
    for place, (color, (way, ratios)) in enumerate(colored(bars.items())):
        y, values = rows + (place + 0.5) * thick - 0.4, np.array([ratio.value for ratio in ratios])
        reach = [values - [ratio.low for ratio in ratios], [ratio.high for ratio in ratios] - values]
        axes.barh(y, values - 1, thick, left=1, color=color, xerr=reach, error_kw={"linewidth": 0.8}, label=way)
        axes.plot([point.value for point in points[way]], y, "kD", markersize=3, label="evaluation" * (place == 0))
    axes.vlines(floors, rows - 0.45, rows + 0.45, colors="k", linestyles="dotted", label="floor")
    axes.axvline(1, color="k", linewidth=0.8)
    axes.set(xscale="log", xlabel="time over that of the dense network", title=title)
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _plot(found: Mapping[str, Sequence[CostResult]], path: Path) -> None:
    rows = [result for (result,) in found.values()]
    _plot_ratios(
        list(found),
        {way: [row.train.ratio[way] for row in rows] for way in _SEARCHES},
        {way: [row.evaluate.ratio[way] for row in rows] for way in _SEARCHES},
        [floor_ratio(row) for row in rows],
        path,
        "Cost of a masked step over a dense one",
    )


_MNIST, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
_LENETS = {
    f"lenet_300_100, {batch}": StepCost(StepSetting("lenet_300_100", _MNIST, batch), rounds=60, every=3, burst=10)
    for batch in (60, 128, 512)
}
_CONV4, _CONV6 = StepSetting("conv4", _CIFAR, 128), StepSetting("conv6", _CIFAR, 128)
_RESNET18 = StepSetting("torchvision:resnet18", _CIFAR, 128)
_RESNET50 = StepSetting("torchvision:resnet50", _IMAGENET, 4, classes=1000)
_ON_CPU = {
    **_LENETS,
    "conv4, 128": StepCost(_CONV4, rounds=18, every=3),
    "conv6, 128": StepCost(_CONV6, rounds=18, every=3),
    "resnet18, 128": StepCost(_RESNET18, rounds=18, every=3),
    "resnet50, 4": StepCost(_RESNET50, rounds=6),
}
_ON_GPU = {
    **_LENETS,
    "conv4, 128": StepCost(_CONV4, rounds=200),
    "conv6, 128": StepCost(_CONV6, rounds=200),
    "resnet18, 512": StepCost(replace(_RESNET18, batch=512, bf16=True), rounds=100),
    "resnet50, 128": StepCost(replace(_RESNET50, batch=128, bf16=True, channels_last=True), rounds=60, every=2),
}


def _groups(costs: Mapping[str, StepCost]) -> tuple[Group, ...]:
    return tuple(Group(label, (cost,)) for label, cost in costs.items())


EXPERIMENT = Experiment(
    name="step_cost",
    title="What a step of edge-popup costs beside a dense one",
    source=(
        "One optimizer step of SGD on random images: forward, backward, update and the choice of masks at density"
        f" {DENSITY}, on all cores. Ours selects once after each update. Published codes select in every forward pass,"
        " evaluation too: by a full sort (Ramanujan et al. 2020), by kthvalue or by topk, written again here. All ways"
        " take the same batch in turn in one process, LeNet-300-100 in turns of ten steps. Times depend on the machine"
        " and on what else it does; run with one worker and nothing beside it."
    ),
    groups=_groups(_ON_CPU),
    table=Table(
        header=("dense ms", "ours ms", "ours/dense", *OTHERS, "floor", "memory", "steps"),
        row=_row,
        note=(
            "Rows: network and batch. Ours/dense: the median of the ratios of steps taken in the same round, with its"
            " distribution-free 95 % interval; sort, kthvalue and topk likewise over dense, and torchao's"
            " SupermaskLinear, of fully connected networks alone and where it was installed. Floor: what ours/dense"
            " would be if a masked step only moved 20 more bytes for each weight at the speed of a large copy;"
            " weights that stay in the caches move faster. Memory: ours over dense, at the peak of a step, without"
            " the program's own. Steps: timed of dense and ours, and of each other way."
        ),
    ),
    plot=_plot,
)

ON_GPU = replace(
    EXPERIMENT,
    name="step_cost_gpu",
    title=f"{EXPERIMENT.title}, on a GPU",
    source=f"{EXPERIMENT.source} The ResNets run under bfloat16 autocast, ResNet-50 with its channels last.",
    groups=_groups(_ON_GPU),
    needs_gpu=True,
)
