"""Where tensors lie in the memory of the CPU, and the table of them that the compiled loops read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.masking.kernels import counting
from supermask.masking.kernels.top_k import TopK, Weights, refuse_scattered

Copy = tuple[Tensor, Tensor]
"""What is written, and what it is a copy of."""


@dataclass(frozen=True)
class CpuPlan:
    """The table of tensors, and the copies that stand for tensors which the loops cannot read or write in place.

    Attributes:
        tensors: all of the problems, kept alive so that no others come to be in their place.
        identities, addresses: of them.
        scores: those among them.
        addresses_of_scores: row by row.
        sizes: how many scores each problem has.
        values: the masked weights among them.
        rows, ends: as `counting.select` has them.
        before: copies of scores and masks to be made first.
        after: masks to be copied from what was written.
        followers: masks with the weights that are written after them, not with them.

    """

    tensors: Sequence[Tensor]
    identities: list[int]
    addresses: list[int]
    scores: Sequence[Tensor]
    addresses_of_scores: list[int]
    sizes: list[int]
    values: Sequence[Tensor]
    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    before: Sequence[Copy]
    after: Sequence[Copy]
    followers: Sequence[tuple[Tensor, Weights]]

    def holds_for(self, problems: Sequence[TopK]) -> bool:
        """Return whether these problems are of the same tensors in the same places."""
        tensors = _tensors(problems)
        return (
            [*map(id, tensors)] == self.identities
            and [*map(Tensor.data_ptr, tensors)] == self.addresses
            and [len(problem.scores) for problem in problems] == self.sizes
        )


def _tensors(problems: Sequence[TopK]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for problem in problems:
        tensors += problem.scores
        tensors += problem.masks
        for pair in problem.weights:
            tensors += pair
    return tensors


def plan_of(problems: Sequence[TopK], *, row_major: bool = False) -> CpuPlan:
    """Return the plan of some problems.

    Args:
        problems: on the CPU.
        row_major: copy what does not lie in row-major order, as ties at the threshold want it.

    """
    refuse_scattered(problems)
    made = _Maker(row_major)
    for problem in problems:
        for place, (scores, mask) in enumerate(zip(problem.scores, problem.masks, strict=True)):
            made.add(scores, mask, problem.weights[place] if problem.weights else None)
        made.ends.append(len(made.rows))
    rows = np.array(made.rows, np.int64).reshape(-1, counting.COLUMNS)
    tensors = _tensors(problems)
    identities, addresses = [*map(id, tensors)], [*map(Tensor.data_ptr, tensors)]
    sizes = [len(problem.scores) for problem in problems]
    values = [pair.value for problem in problems for pair in problem.weights]
    return CpuPlan(
        tensors,
        identities,
        addresses,
        [tensor for problem in problems for tensor in problem.scores],
        rows[:, counting.SCORES].tolist(),
        sizes,
        values,
        rows,
        np.array(made.ends, np.int64),
        made.before,
        made.after,
        made.followers,
    )


def lone_plan(scores: Sequence[Tensor]) -> CpuPlan:
    """Return a plan of scores that are not selected: dense tensors of float32, whose masks are nowhere."""
    rows = np.zeros((len(scores), counting.COLUMNS), np.int64)
    addresses = [*map(Tensor.data_ptr, scores)]
    rows[:, counting.SCORES], rows[:, counting.SIZE] = addresses, [*map(Tensor.numel, scores)]
    ends = np.array([len(scores)], np.int64)
    return CpuPlan(scores, [*map(id, scores)], addresses, scores, addresses, [len(scores)], (), rows, ends, (), (), ())


class _Maker:
    def __init__(self, row_major: bool) -> None:
        self._row_major = row_major
        self.rows: list[list[int]] = []
        self.ends: list[int] = []
        self.before: list[Copy] = []
        self.after: list[Copy] = []
        self.followers: list[tuple[Tensor, Weights]] = []

    def add(self, scores: Tensor, mask: Tensor, weights: Weights | None) -> None:
        asked, alike = mask, lie_alike(scores, mask)
        # written in the same loop, which knows float32 and one layout
        together = weights is not None and mask.numel() > 0 and _are_floats(*weights) and lie_alike(mask, *weights)
        if not (alike and _are_floats(scores) and (scores.is_contiguous() or not self._row_major)):
            scores = self._copied(scores, torch.float32)
            if not mask.is_contiguous():
                mask = self._copied(mask, torch.bool)
                self.after.append((asked, mask))
        row = [0] * counting.COLUMNS
        row[counting.SCORES], row[counting.MASK] = scores.data_ptr(), mask.data_ptr()
        row[counting.SIZE], row[counting.ROW_MAJOR] = scores.numel(), scores.is_contiguous()
        if weights is not None and together and mask is asked:
            row[counting.FROZEN], row[counting.VALUE] = weights.frozen.data_ptr(), weights.value.data_ptr()
        elif weights is not None:
            self.followers.append((asked, weights))
        self.rows.append(row)

    def _copied(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        copy = torch.empty(tensor.shape, dtype=dtype, device="cpu")
        self.before.append((copy, tensor))
        return copy


def _are_floats(*tensors: Tensor) -> bool:
    return all(tensor.dtype is torch.float32 for tensor in tensors)


def in_memory_order(*tensors: Tensor) -> tuple[Tensor, ...] | None:
    """Return 1-D views of tensors of one shape, entry by entry alike, or None where they do not lie alike and dense.

    Row-major tensors come in row-major order; channels_last and transposed ones in that of their memory.
    """
    if all(tensor.is_contiguous() for tensor in tensors):
        return tuple(tensor.view(-1) for tensor in tensors)
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    turned = [tensor.permute(order) for tensor in tensors]
    if not all(tensor.is_contiguous() for tensor in turned):
        return None
    return tuple(tensor.view(-1) for tensor in turned)


def lie_alike(*tensors: Tensor) -> bool:
    """Return whether tensors are dense on the CPU, of one shape, with each entry at the same place in all of them."""
    first = tensors[0].shape
    if not all(tensor.is_cpu and tensor.shape == first for tensor in tensors):
        return False  # a loop would read beyond the shorter one
    return all(map(Tensor.is_contiguous, tensors)) or in_memory_order(*tensors) is not None
