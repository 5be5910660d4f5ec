"""Selection and masking on the CPU: counting instead of sorting, in compiled loops.

The threshold of a contest, the key of its last kept entry, is found in one pass when it lies near the one of the
step before: the keys in a window around that are counted one by one, those above it together. The window is as wide as
the threshold has lately moved, twice over. Where it misses, three passes find the threshold digit by digit. Both ways
are exact; which of them was taken changes only the time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.masking.kernels import counting, plain
from supermask.masking.kernels.contest import Contest
from supermask.masking.kernels.layout import in_memory_order

_FIRST, _NARROWEST, _WIDEST = 1 << 13, 1 << 11, 1 << 17  # keys from the middle of a window to its end
_FADING = 0.9  # of a move, with each step after it
_LEAST = 1 << 13  # fewer entries are counted by digits faster than a window is cleared
_DIGITS = ((21, 11), (10, 11), (0, 10))  # (bits below the digit, bits of the digit)
_INFINITY = 0x7F800000
_LOWEST = -(1 << 31)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Threshold(NamedTuple):
    """Kept is what has a greater key, and of those that have this one the first `rank`, which may be all."""

    key: int
    rank: int
    ties_cut: bool


class _Memory(NamedTuple):
    """The last threshold of a contest, and how far from it the next one is looked for."""

    key: int
    reach: int

    def after(self, key: int) -> "_Memory":
        """Return the memory of the next threshold; one great move alone only doubles the reach."""
        reach = max(min(2 * abs(key - self.key), 2 * self.reach), int(_FADING * self.reach))
        return _Memory(key, min(max(reach, _NARROWEST), _WIDEST))


class _Part(NamedTuple):
    """One tensor of a contest: the bits of its scores and its mask, both flat and in the same order."""

    bits: NDArray[np.int32]
    mask: NDArray[np.bool_]
    row_major: bool
    behind: tuple[Tensor, Tensor] | None  # the mask that is asked for, and the flat one that is written

    def finish(self) -> None:
        if self.behind is not None:
            mask, flat = self.behind
            mask.copy_(flat.view(mask.shape))


class CpuSelector:
    """Selection for scores on the CPU of at most 32 bits; the arguments and attributes are those of `PlainSelector`."""

    def __init__(self, *, signed: bool) -> None:
        self.signed = signed
        self.nans: Tensor | None = None
        self._memories: dict[int, _Memory] = {}  # by the place of the contest
        self._window = np.zeros(2 * _WIDEST, np.int32)

    @torch.no_grad()
    def select(self, contests: Sequence[Contest]) -> None:
        """Write the masks of all contests."""
        self.nans = torch.zeros(len(contests), dtype=torch.int64)
        for place, contest in enumerate(contests):
            parts = [_part(scores, mask) for scores, mask in zip(contest.scores, contest.masks, strict=True)]
            found = self._threshold(parts, contest, place)
            if found is None:
                self.nans[place] = sum(int(np.isnan(part.bits.view(np.float32)).sum()) for part in parts)
                continue
            if found.ties_cut and not all(part.row_major for part in parts):
                parts = [_copied(scores, mask) for scores, mask in zip(contest.scores, contest.masks, strict=True)]
            self._write(parts, found)

    def _threshold(self, parts: Sequence[_Part], contest: Contest, place: int) -> Threshold | None:
        """Return the threshold, or None where a score is NaN: then the masks stay as they are."""
        memory = self._memories.get(place) if contest.size >= _LEAST else None
        found = self._in_window(parts, contest.kept, memory) if memory else None
        if found is None:
            if any(counting.largest_magnitude(part.bits) > _INFINITY for part in parts):
                return None
            found = self._by_digits(parts, contest) if contest.kept else Threshold(_INFINITY + 1, 0, ties_cut=False)
        self._memories[place] = memory.after(found.key) if memory else _Memory(found.key, _FIRST)
        return found

    def _in_window(self, parts: Sequence[_Part], kept: int, memory: _Memory) -> Threshold | None:
        histogram = self._window[: 2 * memory.reach]
        low = memory.key - memory.reach  # far from the ends of int32, which only a NaN comes near
        histogram[:] = 0
        above = 0
        for part in parts:
            more, largest = counting.count_window(part.bits, self.signed, low, histogram)
            if largest > _INFINITY:
                return None  # the other way looks into it
            above += more
        if kept <= above:
            return None
        bin_, rank = counting.pick(histogram, kept - above)
        return None if bin_ < 0 else Threshold(low + bin_, rank, ties_cut=rank < histogram[bin_])

    def _by_digits(self, parts: Sequence[_Part], contest: Contest) -> Threshold:
        prefix, rank, equal = 0, contest.kept, 0
        for shift, width in _DIGITS:
            histogram = np.zeros(1 << width, np.int32)
            for part in parts:
                counting.count_digit(part.bits, self.signed, prefix, shift, width, histogram)
            bin_, rank = counting.pick(histogram, rank)
            prefix, equal = prefix << width | bin_, histogram[bin_]
        return Threshold(prefix + _LOWEST, rank, ties_cut=rank < equal)

    def _write(self, parts: Sequence[_Part], found: Threshold) -> None:
        left = found.rank
        for part in parts:
            cut = part.bits.size if left else 0
            if found.ties_cut and left:
                cut, left = counting.index_after(part.bits, self.signed, found.key, left)
            counting.write_mask(part.bits, self.signed, found.key, cut, part.mask)
            part.finish()


def mask_weights(frozen: Tensor, mask: Tensor, out: Tensor) -> None:
    """Write the frozen weights where the mask is True, and +0 elsewhere."""
    flat = in_memory_order(frozen, mask, out)
    if flat is None or frozen.dtype != out.dtype:
        plain.mask_weights(frozen, mask, out)
        return
    kind = _INTEGERS[frozen.element_size()]
    counting.write_masked(flat[0].view(kind).numpy(), flat[1].numpy(), flat[2].view(kind).numpy())
    torch.autograd.graph.increment_version(out)  # NumPy wrote past autograd, which must still see the change


def straight_through(gradient: Tensor, frozen: Tensor, scores: Tensor | None) -> Tensor:
    """Return gradient x frozen, x sign(scores) where there are any."""
    if scores is None or not gradient.dtype == frozen.dtype == scores.dtype == torch.float32:
        return plain.straight_through(gradient, frozen, scores)
    product = torch.empty_like(frozen)
    flat = in_memory_order(gradient, frozen, scores, product)
    if flat is None:
        return plain.straight_through(gradient, frozen, scores)
    counting.write_signed_products(*(tensor.numpy() for tensor in flat))
    return product


def write_signs(bits: Tensor, magnitude: Tensor, out: Tensor) -> None:
    """Write plus the magnitude where the bit is set, lowest bit of a byte first, and minus the magnitude elsewhere."""
    if out.dtype is not torch.float32 or not out.is_contiguous():
        plain.write_signs(bits, magnitude, out)
        return
    counting.write_signs(bits.numpy(), np.float32(magnitude.item()), out.view(-1).numpy())
    torch.autograd.graph.increment_version(out)


def _part(scores: Tensor, mask: Tensor) -> _Part:
    flat = in_memory_order(scores, mask)
    if flat is None:
        return _copied(scores, mask)
    return _Part(_bits(flat[0]), flat[1].numpy(), scores.is_contiguous(), None)


def _copied(scores: Tensor, mask: Tensor) -> _Part:
    """Return a part in row-major order whatever the memory format."""
    flat = torch.empty(mask.numel(), dtype=torch.bool)
    return _Part(_bits(scores.reshape(-1)), flat.numpy(), True, (mask, flat))


def _bits(flat: Tensor) -> NDArray[np.int32]:
    bits: NDArray[Any] = flat.float().contiguous().view(torch.int32).numpy()
    return bits
