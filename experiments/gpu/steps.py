"""S4: a training step of edge-popup beside a dense one, eagerly and as a CUDA graph, and the memory at their peaks."""

import gc
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch

from experiments.gpu.bench import Bench
from experiments.measuring.training_step import StepSetting, TrainingStep

_MNIST, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)


class StepRow(NamedTuple):
    """A network with its batch, how many rounds are timed, and the seconds that it takes at most."""

    label: str
    setting: StepSetting
    rounds: int
    seconds: float


# what decides comes first: the largest network, then those that are bound by launches
ROWS = (
    StepRow("resnet50, 128, bf16", StepSetting("torchvision:resnet50", _IMAGENET, 128, 1000, True, True), 20, 30),
    StepRow("resnet18, 512, bf16", StepSetting("torchvision:resnet18", _CIFAR, 512, 10, True, True), 40, 12),
    StepRow("conv4, 128", StepSetting("conv4", _CIFAR, 128), 60, 8),
    StepRow("lenet_300_100, 128", StepSetting("lenet_300_100", _MNIST, 128), 100, 5),
    StepRow("lenet_300_100, 60", StepSetting("lenet_300_100", _MNIST, 60), 100, 5),
    StepRow("lenet_300_100, 512", StepSetting("lenet_300_100", _MNIST, 512), 100, 5),
    StepRow("conv6, 128", StepSetting("conv6", _CIFAR, 128), 60, 8),
)
_TINY = (StepRow("lenet_300_100, 4", StepSetting("lenet_300_100", _MNIST, 4), 2, 1),)


def run(bench: Bench) -> None:
    """Time every row that there is time for."""
    torch.backends.cudnn.benchmark = True  # the dense step at its best is what ours is held against
    for row in _TINY if bench.tiny else ROWS:
        if bench.left() < row.seconds:
            bench.note(f"{row.label}: left out", f"{row.seconds:.0f} s needed, {bench.left():.0f} s left")
            continue
        _measure(bench, row)
        gc.collect()
        torch.cuda.empty_cache()


def _measure(bench: Bench, row: StepRow) -> None:
    peaks, steps = {}, {}
    for way in ("dense", "ours"):
        gc.collect()
        before = torch.cuda.memory_allocated() if bench.device.type == "cuda" else 0
        steps[way] = TrainingStep(row.setting, way, bench.device)
        peaks[way] = _peak(bench, steps[way], before)
    _compare(bench, f"{row.label}, eager", {way: step.train for way, step in steps.items()}, row.rounds)
    if bench.device.type == "cuda":
        bench.note(
            f"{row.label}: peak memory",
            round(peaks["ours"] / peaks["dense"], 4),
            "ours/dense",
            right=peaks["ours"] <= peaks["dense"],
            bytes=peaks,
        )
        for step in steps.values():  # gradients of eager steps lie outside of the graph's own memory
            step.forget_gradients()
        graphs = {way: bench.graphed(step.train) for way, step in steps.items()}
        _compare(bench, f"{row.label}, CUDA graph", graphs, row.rounds)


def _peak(bench: Bench, step: TrainingStep, before: int) -> int:
    for _ in range(2):  # the first makes gradients and momentum
        step.train()
    if bench.device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step.train()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _compare(bench: Bench, label: str, ways: dict[str, Callable[[], object]], rounds: int) -> None:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for work in ways.values():
        bench.milliseconds(work, 1, warm_up=3)
    for turn in range(rounds):
        for way in sorted(ways, reverse=turn % 2 == 1):  # each way is the first of a round in turn
            times[way] += bench.milliseconds(ways[way], 1, warm_up=0)
    ratios = sorted(ours / dense for ours, dense in zip(times["ours"], times["dense"], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
    medians = {way: round(statistics.median(found), 4) for way, found in times.items()}
    bench.note(
        label, round(statistics.median(ratios), 4), "ours/dense", median_ms=medians, quartiles=[low, high], n=rounds
    )
