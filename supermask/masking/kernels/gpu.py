"""Selection and masking on a GPU, in a fixed number of launches for all tensors, and without waiting for the device.

Not to be imported where `available` says no: Triton need not be installed there.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from supermask.masking.kernels import gpu_blocks, gpu_kernels, gpu_writes, plain
from supermask.masking.kernels.gpu_plan import DTYPES, GpuPlan, digits, have_equal_strides, plan_for, signature_of
from supermask.masking.kernels.top_k import Sgd, TopK, Trained

_BLOCK = 4096
# keys counted one by one around the last threshold: +-0.4 % of it in float32, of which a step moves it by about 0.1 %
_WINDOW = 1 << 16
# below this a problem's bytes are counted in the shadow of the launches, and its bins would outweigh its scores
_LARGE = 1 << 18
_ELEMENTWISE_BLOCK = 4096
# there is nothing to fuse in these kernels, and to leave that unsaid draws a warning from some versions of Triton
_OPTIONS = {"num_warps": 8, "enable_fp_fusion": False}
# so that four programs share a multiprocessor, and one loads while another counts
_SELECT_OPTIONS = {**_OPTIONS, "maxnreg": 64}


class GpuSelector:
    """Select the largest scores of problems, exactly; ties go to the lowest flat index.

    What a selection needs on the device (tables, counters, copies of tensors that are not dense) is made by the first
    call and kept for as long as the tensors stay the same, so that later calls neither allocate nor wait. A CUDA graph
    may capture `select` after such a call; it stays valid until the selector is given other tensors. One selector
    serves one stream at a time.

    Args:
        signed: whether scores are ranked with their sign or by magnitude; -0.0 equals +0.0.
        block: scores per program, a power of two from 16.
        window: keys that are counted one by one around the last threshold, a power of two from 256.
        large: scores from which a problem has such a window.

    Attributes:
        nans: int64 device tensor, for each problem how many NaN the last selection met; its masks are then arbitrary.

    """

    nans: Tensor | None = None
    kept: list[int] | None = None  # the host does not know

    def __init__(self, signed: bool, *, block: int = _BLOCK, window: int = _WINDOW, large: int = _LARGE) -> None:
        self._signed = signed
        self._block, self._window, self._large = block, window, large
        self._plan: GpuPlan | None = None

    @torch.no_grad()
    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems.

        Args:
            problems: their scores are float32, bfloat16 or float16, and all on one device.

        Raises:
            SupermaskError: a problem has 2^31 entries or more, or keeps more than it has; tensors are on several
                devices; or the tensors are new while a CUDA graph is captured.

        """
        signature = signature_of(problems)
        if self._plan is None or self._plan.signature != signature:
            self._plan = plan_for(problems, self._block, signature, window=self._window, large=self._large)
        plan = self._plan
        self.nans = plan.nans
        plan.keep([problem.kept for problem in problems])
        for staged in plan.scores:
            staged.buffer.copy_(problems[staged.problem].scores[staged.index])
        try:
            if plan.blocks.numel():
                self._launch(plan)
        except BaseException:
            self._plan = None  # counters that only the last launches empty may hold counts of this selection
            raise
        if plan.values:
            torch.autograd.graph.increment_version(plan.values)
        for staged in plan.masks:
            problems[staged.problem].masks[staged.index].copy_(staged.buffer)
        for problem, index in plan.followers:
            weights = problems[problem].weights[index]
            mask_weights(weights.frozen, problems[problem].masks[index], weights.value)

    @torch.no_grad()
    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores: torch's own launches."""
        for each in trained:
            plain.descend(each, sgd)

    def _launch(self, plan: GpuPlan) -> None:
        constants = {"SIGNED": self._signed, "DTYPE": plan.dtype, "BLOCK": self._block, **_SELECT_OPTIONS}
        window = {"WINDOW": self._window}
        known = (plan.kept, plan.states, plan.histograms, plan.ties)
        all_blocks, all_problems = (len(plan.blocks),), (len(plan.kept),)
        with _on(plan.kept.device):
            if len(plan.fine):
                counts = (plan.windows, plan.coarse, plan.fine)
                gpu_kernels.count_window[all_blocks](plan.blocks, *counts, plan.nan_counts, **constants, **window)
                gpu_kernels.decide[all_problems](plan.kept, plan.states, *counts, plan.hits, **window, **_OPTIONS)
            for byte in range(gpu_blocks.BYTES.value):
                gpu_kernels.histogram[all_blocks](
                    plan.blocks, *known, plan.nan_counts, plan.windows, plan.hits, BYTE=byte, **constants
                )
            gpu_kernels.count_ties[all_blocks](plan.blocks, *known, plan.layouts, plan.hits, **constants)
            gpu_kernels.find_cut[all_problems](
                plan.blocks,
                plan.runs,
                *known[1:],
                plan.layouts,
                plan.cuts,
                plan.nan_counts,
                plan.nans,
                plan.windows,
                plan.hits,
                **constants,
                **window,
            )
            gpu_writes.write[all_blocks](
                plan.blocks,
                plan.runs,
                plan.states,
                plan.layouts,
                plan.cuts,
                plan.windows,
                plan.fine,
                WEIGHT=plan.weight,
                **constants,
                **window,
            )


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@torch.no_grad()
def mask_weights(frozen: Tensor, mask: Tensor, out: Tensor) -> None:
    """Write the frozen weights into `out` where the mask is True, and +0 elsewhere.

    Args:
        frozen: floating.
        mask: bool of the same shape.
        out: of the shape and dtype of `frozen`.

    """
    if frozen.dtype is not out.dtype or not _are_alike(frozen, mask, out):
        plain.mask_weights(frozen, mask, out)
        return
    with _on(frozen.device):
        gpu_writes.mask_weights[_grid(frozen)](frozen, mask, out, frozen.numel(), BLOCK=_ELEMENTWISE_BLOCK, **_OPTIONS)
    torch.autograd.graph.increment_version(out)  # the kernel wrote past autograd, which must still see the change


@torch.no_grad()
def straight_through(gradient: Tensor, frozen: Tensor, scores: Tensor | None) -> Tensor:
    """Return the gradient of the scores: gradient x frozen, and x sign(scores) where they rank by magnitude.

    Args:
        gradient: of the masked weight.
        frozen: of the same shape.
        scores: of the same shape; None for scores that rank with their sign.

    """
    tensors = (gradient, frozen) if scores is None else (gradient, frozen, scores)
    one_dtype = gradient.dtype in DTYPES and all(tensor.dtype is gradient.dtype for tensor in tensors)
    if not one_dtype or not _are_alike(*tensors):
        return plain.straight_through(gradient, frozen, scores)
    out = torch.empty_like(gradient)
    with _on(gradient.device):
        gpu_writes.straight_through[_grid(gradient)](
            gradient,
            frozen,
            gradient if scores is None else scores,
            out,
            gradient.numel(),
            SIGNED=scores is None,
            BLOCK=_ELEMENTWISE_BLOCK,
            **_OPTIONS,
        )
    return out


def _are_alike(first: Tensor, *others: Tensor) -> bool:
    """Return whether the tensors' entries lie at equal places of dense memory, some of them at all."""
    return (
        first.numel() > 0
        and all(first.shape == other.shape and have_equal_strides(first, other) for other in others)
        and (first.is_contiguous() or digits(first) is not None)
    )


def _grid(tensor: Tensor) -> tuple[int]:
    return (math.ceil(tensor.numel() / _ELEMENTWISE_BLOCK),)


SELECTOR = GpuSelector
