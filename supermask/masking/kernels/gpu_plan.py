"""What a selection on a GPU keeps there: where every block of scores and masks lies, and room for its counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.kernels import gpu_blocks
from supermask.masking.kernels.top_k import TopK, Weights

_ALIGNMENT = 16  # bytes; torch's own allocations have it, odd views into them may not
_INTEGERS = {0: tl.int32, 2: tl.int16, 4: tl.int32}  # by the bytes of a weight; 0 where none follow
DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True)
class Staged:
    """A copy that stands for a tensor which the kernels cannot read or write in place."""

    problem: int
    index: int
    buffer: Tensor


@dataclass(frozen=True)
class GpuPlan:
    """Everything on the device that a selection among certain tensors needs; the kernels' file says what is what."""

    signature: tuple[Any, ...]
    dtype: Any
    totals: list[int]
    kept_before: list[int]
    scores: list[Staged]
    masks: list[Staged]
    weight: Any  # an integer type as wide as the weights that the kernels write
    followers: list[tuple[int, int]]  # problem and place of the weights that they do not
    values: list[Tensor]  # masked weights that they write, past autograd, which must see it
    blocks: Tensor  # int64 [blocks, 9]
    runs: Tensor  # int64 [problems, 2]: a problem's first block and how many it has
    layouts: Tensor  # int64 [layouts, 3, 5]
    kept: Tensor  # int64 [problems]
    states: Tensor  # int64 [problems, 4, 3]
    histograms: Tensor  # int32 [problems, 4, 256]; zero between selections
    ties: Tensor  # int32 [blocks]
    cuts: Tensor  # int32 [problems]
    nan_counts: Tensor  # int32 [problems]; zero between selections
    nans: Tensor  # int64 [problems]
    windows: Tensor  # int64 [problems, 2]: the lowest key of a problem's window or -1, its row in fine or -1
    coarse: Tensor  # int32 [problems, 258]; zero between selections
    fine: Tensor  # int32 [large problems, window]; zero between selections
    hits: Tensor  # int32 [problems]

    def keep(self, kept: list[int]) -> None:
        """Bring the device's counts up to date."""
        if kept == self.kept_before:
            return
        if self.kept.is_cuda and torch.cuda.is_current_stream_capturing():
            raise SupermaskError(
                "The number of kept weights changed while a CUDA graph was captured, which would replay the old number;"
                " select once with it before, and use no schedule of the density in a graph."
            )
        for count, total in zip(kept, self.totals, strict=True):
            if not 0 <= count <= total:
                raise SupermaskError(f"Cannot keep {count} of {total} scores; keep from 0 to all of them.")
        self.kept.copy_(
            _pinned(torch.tensor(kept, dtype=torch.int64, device="cpu"), self.kept.device), non_blocking=True
        )
        self.kept_before[:] = kept


def signature_of(problems: Sequence[TopK]) -> tuple[Any, ...]:
    """Return what the addresses and shapes in the tables depend on."""
    return tuple(
        tuple((tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) for tensor in _tensors(one))
        for one in problems
    )


def _tensors(problem: TopK) -> list[Tensor]:
    followers = [tensor for pair in problem.weights for tensor in pair]
    return [*problem.scores, *problem.masks, *followers]


def plan_for(problems: Sequence[TopK], block: int, signature: tuple[Any, ...], *, window: int, large: int) -> GpuPlan:
    """Return the plan of problems whose `signature_of` is given.

    Args:
        problems: all on one device.
        block: scores per program.
        signature: what `signature_of` says of the problems.
        window: keys that are counted one by one around the last threshold.
        large: scores from which a problem has a window.

    Raises:
        SupermaskError: as `GpuSelector.select`.

    """
    device = _device(problems)
    totals = [_total(problem) for problem in problems]
    dtype = _common_dtype(problems)
    tables = _Tables(dtype, block)
    for number, problem in enumerate(problems):
        tables.add(number, problem)

    def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    count = len(problems)
    rows = [-1] * count
    for row, number in enumerate(place for place, total in enumerate(totals) if total >= large):
        rows[number] = row
    blocks = torch.cat([torch.empty(0, gpu_blocks.COLUMNS.value, dtype=torch.int64, device="cpu"), *tables.blocks])
    return GpuPlan(
        signature=signature,
        dtype=DTYPES[dtype],
        totals=totals,
        kept_before=[0] * count,
        scores=tables.scores,
        masks=tables.masks,
        weight=_INTEGERS[tables.width],
        followers=tables.followers,
        values=tables.values,
        blocks=_upload(blocks, device),
        runs=_upload(torch.tensor(tables.runs, dtype=torch.int64, device="cpu"), device),
        layouts=_upload(torch.tensor(tables.layouts, dtype=torch.int64, device="cpu"), device),
        kept=zeros(count, dtype=torch.int64),
        states=zeros(count, gpu_blocks.BYTES.value, 3, dtype=torch.int64),
        histograms=zeros(count, gpu_blocks.BYTES.value, gpu_blocks.BINS.value, dtype=torch.int32),
        ties=zeros(len(blocks), dtype=torch.int32),
        cuts=zeros(count, dtype=torch.int32),
        nan_counts=zeros(count, dtype=torch.int32),
        nans=zeros(count, dtype=torch.int64),
        windows=_upload(
            torch.tensor([[-1, row] for row in rows], dtype=torch.int64, device="cpu").reshape(-1, 2), device
        ),
        coarse=zeros(count, gpu_blocks.GROUPS.value + 2, dtype=torch.int32),
        fine=zeros(max(rows, default=-1) + 1, window, dtype=torch.int32),
        hits=zeros(count, dtype=torch.int32),
    )


def _device(problems: Sequence[TopK]) -> torch.device:
    devices = {tensor.device for problem in problems for tensor in _tensors(problem)}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise SupermaskError(f"Cannot select among tensors on {names} at once; put scores and masks on one device.")
    device = devices.pop() if devices else torch.device("cpu")
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise SupermaskError("Cannot select among new tensors in a CUDA graph; select once before it is captured.")
    return device


def _total(problem: TopK) -> int:
    total = sum(scores.numel() for scores in problem.scores)
    if total >= 2**31:
        raise SupermaskError(f"Cannot select among {total} scores at once; a GPU counts fewer than 2^31 of them.")
    return total


def _common_dtype(problems: Sequence[TopK]) -> torch.dtype:
    """Return the dtype that the kernels read; float32 holds the numbers of both others."""
    dtypes = {scores.dtype for problem in problems for scores in problem.scores}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


class _Tables:
    """The kernels' tables while they grow tensor by tensor."""

    def __init__(self, dtype: torch.dtype, block: int) -> None:
        self.blocks: list[Tensor] = []
        self.runs: list[tuple[int, int]] = []
        self.layouts: list[list[list[int]]] = []
        self.scores: list[Staged] = []
        self.masks: list[Staged] = []
        self.width = 0
        self.followers: list[tuple[int, int]] = []
        self.values: list[Tensor] = []
        self._dtype = dtype
        self._block = block

    def add(self, number: int, problem: TopK) -> None:
        start = sum(map(len, self.blocks))
        base = 0
        for index, (scores, mask) in enumerate(zip(problem.scores, problem.masks, strict=True)):
            if scores.numel():
                weights = problem.weights[index] if problem.weights else None
                asked = mask
                scores, mask = self._in_place_or_staged(scores, mask, number, index)
                if weights is not None and not (mask is asked and self._follow(scores, weights)):
                    self.followers.append((number, index))
                    weights = None
                self.blocks.append(self._rows(scores, mask, weights, number, base))
            base += scores.numel()
        self.runs.append((start, sum(map(len, self.blocks)) - start))

    def _in_place_or_staged(self, scores: Tensor, mask: Tensor, number: int, index: int) -> tuple[Tensor, Tensor]:
        """Return a pair that the kernels can work on: dense, with equal strides, aligned and of the one dtype."""
        if scores.dtype is not self._dtype or digits(scores) is None or not _is_aligned(scores):
            scores = torch.empty(scores.shape, dtype=self._dtype, device=scores.device)
            self.scores.append(Staged(number, index, scores))
        if not have_equal_strides(scores, mask) or not _is_aligned(mask):
            mask = torch.empty_strided(scores.shape, scores.stride(), dtype=torch.bool, device=scores.device)
            self.masks.append(Staged(number, index, mask))
        return scores, mask

    def _follow(self, scores: Tensor, weights: Weights) -> bool:
        """Return whether the kernels can write these weights: as wide as the others, and lying like their scores."""
        width = weights.frozen.element_size()
        alike = all(have_equal_strides(scores, tensor) for tensor in weights)
        if width not in _INTEGERS or self.width not in (0, width) or not alike:
            return False
        if weights.frozen.dtype is not weights.value.dtype:
            return False
        self.width = width
        self.values.append(weights.value)
        return True

    def _rows(self, scores: Tensor, mask: Tensor, weights: Weights | None, number: int, base: int) -> Tensor:
        first = torch.arange(0, scores.numel(), self._block, device="cpu")
        columns = torch.empty(len(first), gpu_blocks.COLUMNS.value, dtype=torch.int64, device="cpu")
        columns[:, gpu_blocks.SCORES.value] = scores.data_ptr() + first * scores.element_size()
        columns[:, gpu_blocks.MASK.value] = mask.data_ptr() + first
        columns[:, gpu_blocks.LIVE.value] = (scores.numel() - first).clamp(max=self._block)
        columns[:, gpu_blocks.PROBLEM.value] = number
        columns[:, gpu_blocks.FIRST.value] = first
        columns[:, gpu_blocks.BASE.value] = base
        columns[:, gpu_blocks.LAYOUT.value] = self._layout(scores)
        for column, tensor in zip((gpu_blocks.FROZEN, gpu_blocks.VALUE), weights or (), strict=False):
            columns[:, column.value] = tensor.data_ptr() + first * tensor.element_size()
        if weights is None:
            columns[:, gpu_blocks.FROZEN.value :] = 0
        return columns

    def _layout(self, scores: Tensor) -> int:
        parts = digits(scores)
        assert parts is not None
        if len(parts) <= 1:
            return -1
        padded = parts + [(1, 1, 1)] * (gpu_blocks.DIMS.value - len(parts))
        self.layouts.append([list(column) for column in zip(*padded, strict=True)])
        return len(self.layouts) - 1


def digits(tensor: Tensor) -> list[tuple[int, int, int]] | None:
    """Return size, row-major stride and stride in memory of the dimensions, those merged that stay together.

    None for a tensor that is not dense, or has more such dimensions than the kernels' tables.
    """
    merged: list[tuple[int, int, int]] = []
    row_major = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        if size > 1 and merged and stride == merged[-1][0] * merged[-1][2]:
            merged[-1] = (merged[-1][0] * size, *merged[-1][1:])
        elif size > 1:
            merged.append((size, row_major, stride))
        row_major *= size
    expected = 1
    for size, _, stride in sorted(merged, key=lambda digit: digit[2]):
        if stride != expected:
            return None
        expected *= size
    return merged if len(merged) <= gpu_blocks.DIMS.value else None


def _is_aligned(tensor: Tensor) -> bool:
    return tensor.data_ptr() % _ALIGNMENT == 0


def have_equal_strides(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of one shape, if they are dense, have their entries at equal places."""
    return one.stride() == other.stride() or (one.is_contiguous() and other.is_contiguous())


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return it where a copy to the device need not wait."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    return _pinned(tensor, device).to(device, non_blocking=True)
