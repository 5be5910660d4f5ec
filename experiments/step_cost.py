"""What one optimizer step of edge-popup costs beside a dense one of the same network, ours and as published."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.plots import plot_ratios
from experiments.measuring.published_selection import PUBLISHED
from experiments.measuring.step_times import BYTES_PER_WEIGHT, Cost, CostResult
from experiments.measuring.training_step import DENSITY, WAYS, Setting

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
        *(f"{train.ratio[way].value:.2f}" for way in PUBLISHED),
        f"{floor_ratio(result):.2f}",
        f"{ours_bytes / dense_bytes:.2f}" if ours_bytes and dense_bytes else "-",
        f"{len(train.ms['ours'])}, {len(train.ms['sort'])}",
    ]


def _milliseconds(value: float) -> str:
    """Return three digits, and no power of ten."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _plot(found: Mapping[str, Sequence[CostResult]], path: Path) -> None:
    rows = [result for (result,) in found.values()]
    plot_ratios(
        list(found),
        {way: [row.train.ratio[way] for row in rows] for way in _SEARCHES},
        {way: [row.evaluate.ratio[way] for row in rows] for way in _SEARCHES},
        [floor_ratio(row) for row in rows],
        path,
        "Cost of a masked step over a dense one",
    )


_MNIST, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
_LENETS = {
    f"lenet_300_100, {batch}": Cost(Setting("lenet_300_100", _MNIST, batch), rounds=60, every=3, burst=10)
    for batch in (60, 128, 512)
}
_CONV4, _CONV6 = Setting("conv4", _CIFAR, 128), Setting("conv6", _CIFAR, 128)
_RESNET18 = Setting("torchvision:resnet18", _CIFAR, 128)
_RESNET50 = Setting("torchvision:resnet50", _IMAGENET, 4, classes=1000)
_ON_CPU = {
    **_LENETS,
    "conv4, 128": Cost(_CONV4, rounds=18, every=3),
    "conv6, 128": Cost(_CONV6, rounds=18, every=3),
    "resnet18, 128": Cost(_RESNET18, rounds=18, every=3),
    "resnet50, 4": Cost(_RESNET50, rounds=6),
}
_ON_GPU = {
    **_LENETS,
    "conv4, 128": Cost(_CONV4, rounds=200),
    "conv6, 128": Cost(_CONV6, rounds=200),
    "resnet18, 512": Cost(replace(_RESNET18, batch=512, bf16=True), rounds=100),
    "resnet50, 128": Cost(replace(_RESNET50, batch=128, bf16=True, channels_last=True), rounds=60, every=2),
}


def _groups(costs: Mapping[str, Cost]) -> tuple[Group, ...]:
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
        header=("dense ms", "ours ms", "ours/dense", *PUBLISHED, "floor", "memory", "steps"),
        row=_row,
        note=(
            "Rows: network and batch. Ours/dense: the median of the ratios of steps taken in the same round, with its"
            " distribution-free 95 % interval; sort, kthvalue and topk likewise over dense. Floor: what ours/dense"
            " would be if a masked step only moved 20 more bytes for each weight at the speed of a large copy; weights"
            " that stay in the caches move faster. Memory: ours over dense, at the peak of a step, without the"
            " program's own. Steps: timed of dense and ours, and of each published way."
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
