"""S1: the masks of the GPU against a stable sort; a mask that changes between equal runs would be a race."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.gpu.bench import Bench
from supermask.masking.kernels.plain import PlainSelector
from supermask.masking.kernels.top_k import TopK

_REPEATS = 3  # a race seldom gives the same wrong mask three times


@dataclass(frozen=True)
class SelectionCase:
    """Scores, and how many of them are kept."""

    name: str
    scores: tuple[Tensor, ...]
    kept: int


def run(bench: Bench) -> None:
    """Select every case three times for both rankings, each time into masks that hold the wrong answer."""
    from supermask.masking.kernels.gpu import GpuSelector  # where Triton is

    for case in _cases(bench):
        if bench.left() < 2:
            bench.note("cases left out for lack of time, from", case.name)
            return
        for signed in (False, True):
            wrong = _wrong(case, signed, GpuSelector(signed), PlainSelector(signed=signed))
            name = f"{case.name}, keep {case.kept:,}, {'signed' if signed else 'magnitude'}"
            bench.note(name, wrong, "wrong entries", right=wrong == 0)


def _wrong(case: SelectionCase, signed: bool, selector: object, oracle: PlainSelector) -> int:
    expected = _masks(case, value=False)
    oracle.select([TopK(case.scores, case.kept, expected)])
    wrong = 0
    for repeat in range(_REPEATS):
        found = _masks(case, value=repeat % 2 == 0)
        selector.select([TopK(case.scores, case.kept, found)])  # type: ignore[attr-defined]
        wrong += sum(int((one != other).sum()) for one, other in zip(found, expected, strict=True))
    return wrong


def _masks(case: SelectionCase, *, value: bool) -> tuple[Tensor, ...]:
    return tuple(torch.full_like(scores, value, dtype=torch.bool) for scores in case.scores)


def _cases(bench: Bench) -> Iterator[SelectionCase]:
    generator = torch.Generator(device=bench.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=bench.device)

    block = bench.size(4096, 64)
    for size in (1, block - 1, block, block + 1, bench.size(1_000_000, 3000)):
        yield from (SelectionCase(f"{size:,} normal", (normal(size),), kept) for kept in {0, 1, size // 2, size})
    many = bench.size(25_000_000, 5000)
    yield SelectionCase(f"{many:,} normal", (normal(many),), many // 2)
    size = bench.size(3_000_000, 2000)
    yield SelectionCase("all equal", (torch.full((size,), 0.25, device=bench.device),), size // 3)
    yield SelectionCase("ties across blocks", (torch.round(normal(size) * 2) / 2,), size // 2)
    zeros = torch.where(normal(size) > 0, 0.0, -0.0)
    yield SelectionCase("zeros of both signs", (zeros,), size // 2)
    extreme = normal(size)
    extreme[::7], extreme[3::11] = math.inf, -math.inf
    yield SelectionCase("infinities", (extreme,), size // 10)
    for dtype in (torch.bfloat16, torch.float16):
        yield SelectionCase(str(dtype).removeprefix("torch."), (normal(size).to(dtype),), size // 2)
    side = bench.size(64, 4)
    images = normal(side, side, 3, 3).to(memory_format=torch.channels_last)
    yield SelectionCase("channels last", (torch.round(images * 4),), images.numel() // 2)
    yield SelectionCase("transposed", (torch.round(normal(side * 4, side).mT * 4),), side * side * 2)
    yield SelectionCase("strided", (normal(side * side, 2)[:, 0],), side * side // 2)
    tensors = (normal(side, side), normal(7), torch.round(normal(side * side, 3)), normal(1))
    yield SelectionCase("several tensors", tensors, sum(tensor.numel() for tensor in tensors) // 2)
