"""The k largest scores, exactly: the same mask on every device.

The tie rule: among equal scores the lowest flat (row-major) index is kept; in a contest of several tensors the first
tensor comes first.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.kernels.availability import available
from supermask.masking.kernels.contest import Contest, Weights
from supermask.masking.kernels.cpu import CpuSelector
from supermask.masking.kernels.plain import PlainSelector

__all__ = ["Contest", "Selector", "Weights", "keep_largest"]


class Kernel(Protocol):
    """What selects on some kind of device; its arguments and attributes are those of `PlainSelector`."""

    nans: Tensor | None

    def __init__(self, *, signed: bool) -> None: ...

    def select(self, contests: Sequence[Contest]) -> None:
        """Write the masks of all contests."""


class Selector:
    """Selects the largest scores, again and again as they are trained.

    It remembers the thresholds of the step before, which changes only the time that the next selection takes.

    Args:
        signed: whether scores are ranked with their sign or by magnitude; -0 equals +0 and infinities are allowed.

    """

    def __init__(self, *, signed: bool) -> None:
        self.signed = signed
        self._kernels: dict[type[Kernel], Kernel] = {}
        self._latest: Kernel | None = None
        self._count = 0

    def select(self, contests: Sequence[Contest]) -> None:
        """Write the masks of all contests, and the weights that follow them; each keeps exactly its number of entries.

        On a GPU nothing waits for the result; `check` does.

        Raises:
            SupermaskError: a contest cannot keep so many, or on the CPU: a score is NaN.

        """
        for contest in contests:
            if not 0 <= contest.kept <= contest.size:
                raise SupermaskError(
                    f"Cannot keep {contest.kept} of {contest.size} scores; keep from 0 to all of them."
                )
        tensors = [tensor for contest in contests for tensor in contest.scores]
        kind = _kernel(tensors)
        if kind not in self._kernels:
            self._kernels[kind] = kind(signed=self.signed)
        self._latest = self._kernels[kind]
        self._latest.select(contests)
        self._count = sum(contest.size for contest in contests)
        if all(tensor.device.type == "cpu" for tensor in tensors):
            self.check()

    def check(self) -> None:
        """Raise SupermaskError if a score of the last selection was NaN."""
        counted = self._latest.nans if self._latest else None
        nans = 0 if counted is None else int(counted.sum())
        if nans:
            raise SupermaskError(
                f"{nans} of {self._count} scores are NaN, so they have no largest; the training diverged: lower the"
                " learning rate."
            )


def keep_largest(scores: Tensor, k: int) -> Tensor:
    """Return the mask of the k largest entries.

    Args:
        scores: real floating tensor of any shape and memory format; infinities are allowed, NaN is not.
        k: how many to keep, 0 <= k <= scores.numel().

    Returns:
        A bool tensor of the same shape and device, with exactly k entries True.

    Raises:
        SupermaskError: k is out of range, or a score is NaN.

    """
    scores = scores.detach()
    mask = torch.empty_like(scores, dtype=torch.bool)
    selector = Selector(signed=True)
    selector.select([Contest((scores,), k, (mask,))])
    selector.check()
    return mask


def _kernel(tensors: Sequence[Tensor]) -> type[Kernel]:
    """Return what selects among such tensors."""
    if any(tensor.dtype is torch.float64 for tensor in tensors):
        return PlainSelector
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return CpuSelector
    if all(tensor.is_cuda for tensor in tensors) and available():
        from supermask.masking.kernels.gpu import GpuSelector  # not to be imported elsewhere

        return GpuSelector
    return PlainSelector
