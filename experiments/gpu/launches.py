"""S3: what one selection costs on the device, alone, eagerly and as a CUDA graph, and each of its kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.gpu.bench import Bench
from supermask import models
from supermask.masking.kernels.top_k import TopK, Weights

_PROFILED = 5  # selections under the profiler


def run(bench: Bench) -> None:
    """Time selections among 25 million scores in one tensor, and among the layers of two networks."""
    _measure(bench, "25 M scores", [(bench.size(25_000_000, 5000),)], followed=False)
    if bench.tiny:
        return
    for name, options in (("torchvision:resnet18", {"classes": 10}), ("torchvision:resnet50", {"classes": 1000})):
        with torch.device("meta"):
            model = models.build(name, input_shape=(3, 32, 32), **options)
        shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.ndim >= 2]
        label = name.partition(":")[2]
        _measure(bench, f"{label}, a problem per layer", shapes, followed=True)
        _measure(bench, f"{label}, one problem", shapes, followed=True, together=True)


def _measure(
    bench: Bench, label: str, shapes: Sequence[tuple[int, ...]], *, followed: bool, together: bool = False
) -> None:
    from supermask.masking.kernels.gpu import GpuSelector  # where Triton is

    scores = [torch.randn(shape, device=bench.device) for shape in shapes]
    velocity = [1e-3 * torch.randn_like(score) for score in scores]
    problems = _problems(scores, followed=followed, together=together)
    selector = GpuSelector(False)

    def select() -> None:
        selector.select(problems)

    def moved() -> None:
        torch._foreach_add_(scores, velocity)  # as a training step moves them: the threshold is another each time
        select()

    move = bench.median(lambda: torch._foreach_add_(scores, velocity), repeats=bench.size(50, 2))
    eager = bench.median(moved, repeats=bench.size(50, 2))
    bench.note(f"{label}: selection, eager", round(eager - move, 4), "ms")
    if bench.device.type != "cuda":
        return
    replay = bench.graphed(moved)
    bench.note(f"{label}: selection, CUDA graph", round(bench.median(replay, repeats=50) - move, 4), "ms")
    for kernel, micro, count in _kernels(moved):
        if "foreach" not in kernel and "multi_tensor" not in kernel:
            bench.note(f"{label}: {kernel}", round(micro, 2), "us", launches=count)


def _problems(scores: Sequence[Tensor], *, followed: bool, together: bool) -> list[TopK]:
    masks = [torch.zeros_like(score, dtype=torch.bool) for score in scores]
    weights = [Weights(torch.randn_like(score), torch.zeros_like(score)) for score in scores] if followed else []
    if together:
        total = sum(score.numel() for score in scores)
        return [TopK(tuple(scores), total // 2, tuple(masks), tuple(weights))]
    return [
        TopK((score,), score.numel() // 2, (mask,), tuple(weights[place : place + 1]))
        for place, (score, mask) in enumerate(zip(scores, masks, strict=True))
    ]


def _kernels(work: object) -> list[tuple[str, float, float]]:
    """Return each kernel's name, its microseconds and its launches in one call of the work."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_PROFILED):
            work()  # type: ignore[operator]
        torch.cuda.synchronize()
    return [
        (event.key, event.device_time_total / _PROFILED, event.count / _PROFILED)
        for event in profile.key_averages()
        if event.device_time_total > 0
    ]
