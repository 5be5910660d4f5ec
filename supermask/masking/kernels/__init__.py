"""The inner loops of masking: compiled for the `cpu`, in Triton for the `gpu`, and `plain` torch for all the rest."""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from supermask.masking.kernels import plain
from supermask.masking.kernels.availability import available
from supermask.masking.kernels.top_k import Sgd, TopK, Trained

_LAUNCH_BOUND = 1 << 22
"""Entries below which torch's three launches take a host less time than one of Triton's saves a GPU.

Triton's takes tens of microseconds of Python; the 16 bytes that the three move besides take 16 us at 4 TB/s. In a CUDA
graph no launch takes the host any time.
"""


class Selector(Protocol):
    """What selects on some kind of device, again and again; `plain.PlainSelector` says what its attributes mean."""

    nans: Tensor | None
    kept: list[int] | None

    def __init__(self, signed: bool) -> None: ...

    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems."""

    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores, before they are selected."""


def selector_class(tensors: Sequence[Tensor]) -> type[Selector]:
    """Return what selects among scores of these dtypes on these devices."""
    modules = {_module(tensor) for tensor in tensors} or {_cpu()}
    if any(tensor.dtype is torch.float64 for tensor in tensors):
        # the other compiled loops rank by the bits of float32
        modules = {_wide() if tensor.is_cpu else plain for tensor in tensors}
    # tensors on several devices have no loop in common
    found: type[Selector] = (plain if len(modules) > 1 else modules.pop()).SELECTOR
    return found


def mask_weights(frozen: Tensor, mask: Tensor, out: Tensor) -> None:
    """Write the frozen weights where the mask is True, and +0 elsewhere.

    Args:
        frozen: floating, of any shape and memory format.
        mask: bool, of the same shape.
        out: like `frozen`.

    """
    _for(frozen).mask_weights(frozen, mask, out)


def straight_through(gradient: Tensor, frozen: Tensor, scores: Tensor | None) -> Tensor:
    """Return gradient x frozen, times the sign of the scores where there are any (the sign of 0 is 0)."""
    loops = _for(frozen)
    small = loops is not plain and frozen.is_cuda and frozen.numel() < _LAUNCH_BOUND
    if small and not torch.cuda.is_current_stream_capturing():  # a question that a compiler cannot trace
        loops = plain
    product: Tensor = loops.straight_through(gradient, frozen, scores)
    return product


def write_products(weight: Tensor, slope: Tensor, mask: Tensor, out: Tensor) -> float:
    """Write weight x slope where the mask is True, and -infinity elsewhere.

    Args:
        weight: float64 of any shape and memory format, 0 where the mask is False.
        slope: like `weight`.
        mask: bool, of the same shape.
        out: like `weight`, written.

    Returns:
        The largest of all products, those of pruned weights among them; NaN where one is not finite.

    """
    largest: float = (_wide() if weight.is_cpu else plain).write_products(weight, slope, mask, out)
    return largest


def let_fall(
    scores: Tensor, before: Tensor, after: Tensor, start: float, scale: float, places: Tensor, weight: Tensor
) -> None:
    """Write start + score / scale where a mask was True and is no longer, and set the weight to 0 there.

    Args:
        scores: float64 of any shape and memory format.
        before: bool, of the same shape.
        after: like `before`.
        start: added to each.
        scale: that scores are divided by.
        places: like `scores`, written.
        weight: like `scores`, written.

    """
    (_wide() if scores.is_cpu else plain).let_fall(scores, before, after, start, scale, places, weight)


def write_signs(bits: Tensor, magnitude: Tensor, out: Tensor) -> None:
    """Write plus the magnitude where the bit is set and minus the magnitude elsewhere.

    Args:
        bits: uint8 (ceil(n / 8),), the lowest bit of a byte first.
        magnitude: without dimensions.
        out: floating, of n entries, written in row-major order.

    """
    (plain if out.is_cuda else _for(out)).write_signs(bits, magnitude, out)


def _for(tensor: Tensor) -> ModuleType:
    # a compiler makes loops of its own out of plain operations, and a second derivative needs their formulas
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return plain
    return _module(tensor)


def _module(tensor: Tensor) -> ModuleType:
    """Return the inner loops for the device of a tensor."""
    if tensor.is_cpu:
        return _cpu()
    if tensor.is_cuda and available():
        from supermask.masking.kernels import gpu  # not to be imported elsewhere

        return gpu
    return plain


@cache
def _wide() -> ModuleType:
    """Return the loops for float64 on the CPU, with which numba is imported too."""
    from supermask.masking.kernels import wide

    return wide


@cache
def _cpu() -> ModuleType:
    """Return the loops for the CPU, with which numba is imported: a tenth of the time that PyTorch takes."""
    from supermask.masking.kernels import cpu

    return cpu
