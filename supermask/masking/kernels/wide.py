"""Selection of float64 scores on the CPU: the threshold is looked for between two scores of a sample.

Two passes find it and write the masks; a stable sort of as many takes twenty times as long. `counting` has the faster
loops for float32, whose keys have half the bits, and remembers where the threshold was.
"""

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from supermask.compiled import compiled
from supermask.masking.kernels import plain
from supermask.masking.kernels.top_k import TopK

# columns of the table of tensors
SCORES, SIZE, MASK, FROZEN, VALUE, KEPT, COLUMNS = range(7)

_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_INFINITY = 0x7FF0000000000000
_SAMPLE = 1 << 15
"""Scores that are sorted to bracket the threshold; more of them take longer than a narrower bracket saves."""
_DEVIATIONS = 3.0
"""Standard deviations of the sample's rank on each side; outside lies one threshold in 370, which is found too."""
_PIECE = 32  # entries that are compared before a look at whether any of them is collected, or changes the mask


class WideSelector(plain.PlainSelector):
    """Selection for scores on the CPU; the arguments and attributes are those of `PlainSelector`."""

    @torch.no_grad()
    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems."""
        kept: list[int] = []
        self.nans = torch.zeros(len(problems), dtype=torch.int64, device="cpu")
        for place, problem in enumerate(problems):
            self.nans[place] = self._write(problem, kept)
        self.kept = None if int(self.nans.sum()) else kept

    def _write(self, problem: TopK, kept: list[int]) -> int:
        """Write the masks of a problem; return how many NaN it has, its masks being arbitrary then."""
        scores = [tensor.double().contiguous() for tensor in problem.scores]  # row-major whatever the memory format
        masks = [
            mask if mask.is_contiguous() else torch.empty(mask.shape, dtype=torch.bool, device="cpu")
            for mask in problem.masks
        ]
        rows = np.zeros((len(scores), COLUMNS), np.int64)
        rows[:, SCORES], rows[:, SIZE] = [*map(Tensor.data_ptr, scores)], [*map(Tensor.numel, scores)]
        rows[:, MASK] = [*map(Tensor.data_ptr, masks)]
        alone = [True] * len(problem.weights)
        for place, (frozen, value) in enumerate(problem.weights):
            both = frozen.dtype is value.dtype is torch.float64 and frozen.is_contiguous() and value.is_contiguous()
            if both and masks[place] is problem.masks[place]:
                rows[place, FROZEN], rows[place, VALUE] = frozen.data_ptr(), value.data_ptr()
                torch.autograd.graph.increment_version(value)  # written past autograd, which must see it
                alone[place] = False
        if not select(rows, problem.kept, self.signed):
            return sum(int(tensor.isnan().sum()) for tensor in scores)
        for mask, written in zip(problem.masks, masks, strict=True):
            if mask is not written:
                mask.copy_(written)
        for mask, weights, apart in zip(problem.masks, problem.weights, alone, strict=False):
            if apart:
                plain.mask_weights(weights.frozen, mask, weights.value)
        kept += rows[:, KEPT].tolist()
        return 0


def write_products(weight: Tensor, slope: Tensor, mask: Tensor, out: Tensor) -> float:
    """Write weight x slope where the mask is True, and -infinity elsewhere; return the largest product."""
    tensors = weight, slope, mask, out
    if not all(map(Tensor.is_contiguous, tensors)):
        return plain.write_products(*tensors)
    largest, magnitude = _write_products(*map(Tensor.data_ptr, tensors), slope.numel())
    if magnitude >= _INFINITY:
        return math.nan
    if largest > 0:
        return float(np.int64(largest).view(np.float64))
    # none is positive, so that the order of their bits is not theirs
    return plain.write_products(*tensors)


def let_fall(
    scores: Tensor, before: Tensor, after: Tensor, start: float, scale: float, places: Tensor, weight: Tensor
) -> None:
    """Write start + score / scale where the first mask is True and the second is not, and set the weight to 0 there."""
    tensors = scores, before, after, places, weight
    if not all(map(Tensor.is_contiguous, tensors)):
        plain.let_fall(scores, before, after, start, scale, places, weight)
        return
    _let_fall(*map(Tensor.data_ptr, tensors), scores.numel(), float(start), float(scale))
    torch.autograd.graph.increment_version((places, weight))  # written past autograd, which must see it


def _from_address(context: Any, address: Any) -> Any:
    """Say how the compiler makes a pointer of an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_from_address)


@compiled
def _integers(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.int64)


@compiled
def _bools(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.uint8)


@compiled
def _doubles(address: int, size: int) -> Any:
    return numba.carray(_pointer(address), size, np.float64)


@compiled
def _bracket(rows: Any, signed: bool, kept: int, size: int) -> tuple[float, float]:
    """Return two numbers between which the threshold most likely lies, both included."""
    stride = size // _SAMPLE + 1
    sample = np.empty(size // stride + len(rows), np.float64)
    count, start = 0, 0
    for row in rows:
        scores = _doubles(row[SCORES], row[SIZE])
        for i in range(start, scores.size, stride):
            sample[count] = scores[i] if signed else abs(scores[i])
            count += 1
        start = (start - scores.size) % stride
    ordered = np.sort(sample[:count])
    place = count * (1.0 - kept / size)
    reach = _DEVIATIONS * np.sqrt(place * (1.0 - place / count)) + 2.0
    first, last = int(place - reach), int(place + reach)
    return ordered[first] if first >= 0 else -np.inf, ordered[last] if last < count else np.inf


@compiled
def _collect(scores: Any, signed: bool, low: float, high: float, found: Any, inside: int) -> tuple[int, int, int]:
    """Collect the scores from `low` to `high` behind those that are there, as far as there is room for them.

    Return how many then lie there, how many are above, and how many are NaN.
    """
    above: Any = 0
    nans: Any = 0
    whole = scores.size // _PIECE * _PIECE
    for first in range(0, whole, _PIECE):
        over, reached = 0, 0
        for i in range(_PIECE):  # a constant count: the compiler unrolls it
            score = scores[first + i] if signed else abs(scores[first + i])
            over += score > high
            reached += score >= low
            nans += score != score
        above += over
        if over != reached:
            inside = _collect_each(scores[first : first + _PIECE], signed, low, high, found, inside)
    for i in range(whole, scores.size):
        above += (scores[i] if signed else abs(scores[i])) > high
        nans += scores[i] != scores[i]
    return _collect_each(scores[whole:], signed, low, high, found, inside), above, nans


@compiled
def _collect_each(scores: Any, signed: bool, low: float, high: float, found: Any, inside: int) -> int:
    for i in range(scores.size):
        score = scores[i] if signed else abs(scores[i])
        # always written, because a branch on it would be foreseen wrongly
        found[min(inside, found.size - 1)] = score
        inside += (low <= score) & (score <= high)
    return inside


@compiled
def _collect_rows(rows: Any, signed: bool, low: float, high: float, found: Any) -> tuple[int, int, int]:
    inside: Any = 0
    above: Any = 0
    nans: Any = 0
    for row in rows:
        inside, over, more = _collect(_doubles(row[SCORES], row[SIZE]), signed, low, high, found, inside)
        above += over
        nans += more
    return inside, above, nans


@compiled
def _threshold(rows: Any, signed: bool, kept: int, size: int) -> tuple[float, int, int]:
    """Return the last score that is kept, how many equal to it are kept, and how many there are; 0 with a NaN."""
    low, high = _bracket(rows, signed, kept, size)
    found = np.empty(size // 8 + 1, np.float64)
    inside, above, nans = _collect_rows(rows, signed, low, high, found)
    if not nans and not (above < kept <= above + inside and inside < found.size):
        found = np.empty(size + 1, np.float64)
        inside, above, nans = _collect_rows(rows, signed, -np.inf, np.inf, found)
    if nans:
        return np.nan, 0, 0
    place = inside - (kept - above)
    ordered = np.partition(found[:inside], place)
    equal = ordered == ordered[place]
    return ordered[place], int(equal[place:].sum()), int(equal.sum())


@compiled
def _write(row: Any, signed: bool, start: int, stop: int, bound: float, equal: bool) -> int:
    """Keep, from `start` to `stop`, what is above the bound, or equal to it too; return how many entries that are.

    The masked weight follows where there is one.

    From one step to the next few entries of a mask change, so that most pieces are only read.
    """
    scores, mask = _doubles(row[SCORES], row[SIZE])[start:stop], _bools(row[MASK], row[SIZE])[start:stop]
    total: Any = 0
    whole = scores.size // _PIECE * _PIECE
    for first in range(0, whole, _PIECE):
        changed, kept = np.uint8(0), np.uint8(0)
        for i in range(_PIECE):
            score = scores[first + i] if signed else abs(scores[first + i])
            keep = np.uint8(score >= bound if equal else score > bound)
            changed = np.uint8(changed | np.uint8(keep ^ mask[first + i]))
            kept = np.uint8(kept + keep)
        total += kept
        if changed:
            _write_piece(row, signed, start + first, start + first + _PIECE, bound, equal)
    return total + _write_piece(row, signed, start + whole, stop, bound, equal)


@compiled
def _write_piece(row: Any, signed: bool, start: int, stop: int, bound: float, equal: bool) -> int:
    scores, mask = _doubles(row[SCORES], row[SIZE])[start:stop], _bools(row[MASK], row[SIZE])[start:stop]
    frozen, value = _integers(row[FROZEN], row[SIZE])[start:stop], _integers(row[VALUE], row[SIZE])[start:stop]
    kept: Any = 0
    follows = row[VALUE] != 0
    for i in range(scores.size):
        score = scores[i] if signed else abs(scores[i])
        keep = np.uint8(score >= bound if equal else score > bound)
        kept += keep
        if keep != mask[i]:
            mask[i] = keep
            if follows:
                value[i] = frozen[i] if keep else 0
    return kept


@compiled
def _index_after(scores: Any, signed: bool, bound: float, rank: int) -> tuple[int, int]:
    """Return the index after the entry that is the rank-th of this size, and the ranks that are left at the end."""
    for i in range(scores.size):
        if rank == 0:
            return i, 0
        rank -= (scores[i] if signed else abs(scores[i])) == bound
    return scores.size, rank


@compiled
def select(rows: NDArray[np.int64], kept: int, signed: bool) -> bool:
    """Write the masks of one problem and the weights that follow them; return False where a score is NaN.

    Args:
        rows: (tensors, COLUMNS): addresses of float64 scores, of the mask, and of float64 frozen and masked weights,
            or 0, with their common size, all in row-major order; the number of entries that the mask keeps is written.
        kept: how many entries are kept.
        signed: whether scores are ranked with their sign or by magnitude.

    """
    size = rows[:, SIZE].sum()
    if not size:
        return True
    # where none is kept, NaN are looked for all the same
    bound, rank, equal = _threshold(rows, signed, max(kept, 1), size)
    if not equal:
        return False
    if not kept:
        bound, rank = np.inf, 0
    for row in rows:
        cut = row[SIZE] if rank else 0
        if rank and rank < equal:
            cut, rank = _index_after(_doubles(row[SCORES], row[SIZE]), signed, bound, rank)
        row[KEPT] = _write(row, signed, 0, cut, bound, True) + _write(row, signed, cut, row[SIZE], bound, False)
    return True


@compiled
def _write_products(weight: int, slope: int, mask: int, out: int, size: int) -> Any:
    """Write the products; return the largest as bits, if one is positive, and the bits of the largest magnitude."""
    weights, slopes, kept = _doubles(weight, size), _doubles(slope, size), _bools(mask, size)
    products = _doubles(out, size)
    # integers, because a maximum of floats, whose NaN must be passed on, is not made of vectors
    largest, magnitude = np.int64(0), np.int64(0)
    for i in range(size):
        product = weights[i] * slopes[i]
        bits = np.float64(product).view(np.int64)
        largest = max(largest, bits)
        magnitude = max(magnitude, bits & _MAGNITUDE)
        products[i] = product if kept[i] else -np.inf
    return largest, magnitude


@compiled
def _let_fall(
    scores: int, before: int, after: int, places: int, weight: int, size: int, start: float, scale: float
) -> None:
    score, out, value = _doubles(scores, size), _doubles(places, size), _doubles(weight, size)
    # eight entries of a mask at once: few have changed
    one, other = _integers(before, size // 8), _integers(after, size // 8)
    for word in range(size // 8):
        fallen = one[word] & ~other[word]
        if fallen:
            for i in range(8 * word, 8 * word + 8):
                if fallen & 1:
                    out[i] = start + score[i] / scale
                    value[i] = 0.0
                fallen >>= 8
    first, last = _bools(before, size), _bools(after, size)
    for i in range(size // 8 * 8, size):
        if first[i] and not last[i]:
            out[i] = start + score[i] / scale
            value[i] = 0.0


SELECTOR = WideSelector
