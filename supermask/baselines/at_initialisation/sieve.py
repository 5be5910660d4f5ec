"""Which weights fall in a step of SynFlow: found in one pass over the weights that are left and their slopes.

Scores are not written anywhere: those that are surely kept are looked at once, and the others are put on a list. What
lies between is bracketed by a sample, as in `masking.kernels.wide`. The pass reads 17 bytes for a weight that is left
and one for eight that are not; scores, their selection and what follows from it take three times as many.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.compiled import compiled
from supermask.masking.budget import Pool

_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_INFINITY = 0x7FF0000000000000
_SAMPLE = 1 << 13
"""Scores that are sorted to bracket the threshold; each is three reads far from the others."""
_DEVIATIONS = 4.0
"""Standard deviations of the sample's rank on each side; what lies outside is left to a selection of all scores."""
_LARGEST_LAYER = 1 << 31
_FEW = 0.25
"""Density below which the places of what is left are kept, four bytes each."""
_BLOCK = 64
"""Scores that are computed before a look at which of them are listed; a block without weights is passed over."""


class Sieve:
    """Lets weights fall step by step; all of its tensors are on the CPU and contiguous.

    Args:
        masks: bool by name, written.
        weights: float64 by name, 0 where they are pruned, written.
        order: float64 by name, written: see `fall`.

    """

    def __init__(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], order: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._layers = {
            name: _Layer(
                mask.view(torch.uint8).view(-1).numpy(), weights[name].view(-1).numpy(), order[name].view(-1).numpy()
            )
            for name, mask in masks.items()
        }
        self._scores: NDArray[np.float64] = np.empty(0)
        self._places: NDArray[np.int32] = np.empty(0, np.int32)

    @classmethod
    def suits(cls, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
        """Return whether these tensors can be sieved."""
        tensors = [*masks.values(), *weights.values()]
        return all(each.is_cpu and each.is_contiguous() and each.numel() < _LARGEST_LAYER for each in tensors)

    def fall(self, slopes: Mapping[str, Tensor], pool: Pool, step: int, *, last: bool) -> bool:
        """Keep the largest scores, weight times slope; among equal ones the first.

        Where a weight falls, mask and weight become 0, and the order step + score / (2 x the largest score). After the
        last step the order of those that stay is written too.

        Args:
            slopes: float64 by name.
            pool: all layers, with the number of weights that are kept and the floor of each layer.
            step: the number of the step.
            last: whether it is the last.

        Returns:
            Whether it was done; else nothing was written, and all scores have to be selected: a score is not finite, a
            layer would have less than its floor, or the sample misled.

        """
        layers = [self._layers[name] for name in pool.names]
        for layer, name in zip(layers, pool.names, strict=True):
            layer.slope = slopes[name].contiguous().view(-1).numpy()
        left = sum(layer.count() for layer in layers)
        if not 0 < pool.kept < left:
            return False
        low, high = self._bracket(layers, pool.kept, left)
        largest = self._list(layers, high, left - pool.kept + left // 8 + 2 * _BLOCK)
        listed = layers[-1].stop
        if largest is None or listed >= len(self._scores):
            return False
        found = self._bound(layers, low, pool.kept - (left - listed), pool.floor or 0)
        if found is None:
            return False
        bound, rank = found
        for layer in layers:
            if last:
                _place(layer.weight, layer.slope, layer.mask, layer.order, float(step), 2 * largest)
            part = slice(layer.start, layer.stop)
            args = layer.weight, layer.mask, layer.order, self._scores[part], self._places[part]
            rank, layer.left = _let_fall(*args, bound, rank, float(step), 2 * largest, layer.left)
            layer.look()
        torch.autograd.graph.increment_version(
            tuple(self._weights.values())
        )  # written past autograd, which must see it
        return True

    def forget(self) -> None:
        """Count what is left again, because others have written the masks."""
        for layer in self._layers.values():
            layer.left, layer.few = -1, None

    def _bracket(self, layers: "list[_Layer]", kept: int, left: int) -> tuple[float, float]:
        """Return two scores between which that of the last kept weight most likely lies, both included."""
        stride, sample, count, start = left // _SAMPLE + 1, np.empty(2 * _SAMPLE), 0, 0
        for layer in layers:
            count = _sample(layer.weight, layer.slope, layer.mask, start, stride, sample, count)
            start = (start - len(layer.mask)) % stride
        if not count:
            return -np.inf, np.inf
        ordered = np.sort(sample[:count])
        place = count * (1.0 - kept / left)
        reach = _DEVIATIONS * np.sqrt(max(0.0, place * (1.0 - place / count))) + 2.0
        first, last = int(place - reach), int(place + reach)
        return ordered[first] if place >= reach else -np.inf, ordered[last] if last < count else np.inf

    def _list(self, layers: "list[_Layer]", high: float, room: int) -> float | None:
        """List what is not above a score; return the largest score, None if none is positive or one is not finite."""
        if len(self._scores) < room:
            self._scores, self._places = np.empty(room), np.empty(room, np.int32)
        count, largest, magnitude = 0, np.int64(0), np.int64(0)
        for layer in layers:
            layer.start = count
            args = high, self._scores, self._places, count
            if layer.few is None:
                count, top, far = _list(layer.weight, layer.slope, layer.mask, *args)
            else:
                count, top, far = _list_few(layer.weight, layer.slope, layer.few, *args)
            layer.stop = count
            largest, magnitude = max(largest, top), max(magnitude, far)
        return None if largest <= 0 or magnitude >= _INFINITY else float(np.int64(largest).view(np.float64))

    def _bound(self, layers: "list[_Layer]", low: float, kept: int, floor: int) -> tuple[float, int] | None:
        """Return the last score of the list that is kept, and how many equal to it are; None if it cannot be told.

        A layer that would keep less than the floor has its largest scores raised above all others; who needed it
        once most likely needs it again, and otherwise keeps these scores anyway.
        """
        lacking = [layer for layer in layers if layer.raised] if floor else []
        while True:
            for layer in lacking:
                if not self._raise(layer, min(floor, len(layer.mask))):
                    return None
            bound, rank = _threshold(self._scores[: layers[-1].stop], low, kept)
            if rank < 0 or bound == np.inf:
                return None
            lacking = self._lacking(layers, floor, bound, rank) if floor else []
            if not lacking:
                return bound, rank
            if any(layer.raised for layer in lacking):
                return None

    def _lacking(self, layers: "list[_Layer]", floor: int, bound: float, rank: int) -> "list[_Layer]":
        found = []
        for layer in layers:
            fallen, rank = _falling(self._scores[layer.start : layer.stop], bound, rank)
            if layer.left - fallen < min(floor, len(layer.mask)):
                found.append(layer)
        return found

    def _raise(self, layer: "_Layer", floor: int) -> bool:
        """Make the largest listed scores of a layer infinite, as many as it lacks; return whether there are as many."""
        listed = self._scores[layer.start : layer.stop]
        lacks = floor - (layer.left - len(listed))
        layer.raised = True
        if lacks > len(listed):
            return False
        if lacks == 1:  # among equal ones the first, as always
            listed[listed.argmax()] = np.inf
        elif lacks > 1:
            listed[np.argsort(-listed, kind="stable")[:lacks]] = np.inf
        return True


class _Layer:
    """The arrays of a layer, its part of the list, how many of its weights are left, and whether it lacked some once.

    -1 are left where that is unknown.
    """

    def __init__(self, mask: NDArray[np.uint8], weight: NDArray[np.float64], order: NDArray[np.float64]) -> None:
        self.mask, self.weight, self.order, self.slope = mask, weight, order, weight
        self.start = self.stop = 0
        self.left = -1
        self.raised = False
        self.few: NDArray[np.int32] | None = None

    def look(self) -> None:
        """Find the places of what is left, where that is little: a cache line then holds few of them."""
        if self.few is not None:
            self.few = self.few[: _still(self.few, self.mask)]
        elif self.left < _FEW * len(self.mask):
            self.few = np.flatnonzero(self.mask).astype(np.int32)

    def count(self) -> int:
        """Return how many of its weights are left."""
        if self.left < 0:
            self.left = int(np.count_nonzero(self.mask))
        return self.left


@compiled
def _sample(weight: Any, slope: Any, mask: Any, start: int, stride: int, found: Any, count: int) -> int:
    """Write every so many scores of what is left behind those that are there, as far as there is room."""
    for i in range(start, mask.size, stride):
        if mask[i] and count < found.size:
            found[count] = weight[i] * slope[i]
            count += 1
    return count


@compiled
def _list(
    weight: Any, slope: Any, mask: Any, high: float, scores: Any, places: Any, count: int
) -> tuple[Any, Any, Any]:
    """List what is left and not above a score; return the length, the largest score and magnitude, both as bits.

    Where there is no room for more, the length is that of the list.
    """
    largest, magnitude = np.int64(0), np.int64(0)
    block = np.empty(_BLOCK)
    for first in range(0, mask.size, _BLOCK):
        if count + _BLOCK > scores.size:
            return scores.size, largest, magnitude
        part = slice(first, first + _BLOCK)
        kept = mask[part]
        if kept.size == _BLOCK:
            if not _any(kept):
                continue
            largest, magnitude = _write_scores(weight[part], slope[part], kept, block, largest, magnitude)
        else:
            for i in range(kept.size):
                block[i] = weight[first + i] * slope[first + i]
                if kept[i]:
                    bits = np.float64(block[i]).view(np.int64)
                    largest, magnitude = max(largest, bits), max(magnitude, bits & _MAGNITUDE)
        count = _append(block, kept, high, first, scores, places, count)
    return count, largest, magnitude


@compiled
def _any(kept: Any) -> bool:
    some = np.uint8(0)
    for i in range(_BLOCK):  # a constant count here and below: the compiler makes vectors of the loop
        some |= kept[i]
    return some != 0


@compiled
def _write_scores(weight: Any, slope: Any, kept: Any, block: Any, largest: int, magnitude: int) -> tuple[Any, Any]:
    """Write the scores of a block; return the bits of the largest score and of the largest magnitude so far."""
    all_bits = block.view(np.int64)
    for i in range(_BLOCK):
        block[i] = weight[i] * slope[i]
    for i in range(_BLOCK):
        # integers, because a maximum of floats, whose NaN must be passed on, is not made of vectors
        bits = all_bits[i] & -np.int64(kept[i])
        largest, magnitude = max(largest, bits), max(magnitude, bits & _MAGNITUDE)
    return largest, magnitude


@compiled
def _append(block: Any, kept: Any, high: float, first: int, scores: Any, places: Any, count: int) -> Any:
    """List the scores of a block that are not above `high`; return the length of the list."""
    stop, start = np.uint64(count), np.int32(first)  # unsigned: an index that may be negative is looked at twice
    for i in range(kept.size):
        # always written, because a branch on it would be foreseen wrongly
        scores[stop], places[stop] = block[i], start + i
        stop += np.uint64(np.uint8(block[i] <= high) & kept[i])
    return np.int64(stop)


@compiled
def _list_few(
    weight: Any, slope: Any, few: Any, high: float, scores: Any, places: Any, count: int
) -> tuple[Any, Any, Any]:
    """Do what `_list` does, by the places of what is left."""
    largest, magnitude = np.int64(0), np.int64(0)
    stop, room = np.uint64(count), np.uint64(scores.size)
    for place in few:
        if stop == room:
            return scores.size, largest, magnitude
        at = np.uint32(place)
        score = weight[at] * slope[at]
        bits = np.float64(score).view(np.int64)
        largest, magnitude = max(largest, bits), max(magnitude, bits & _MAGNITUDE)
        scores[stop], places[stop] = score, place
        stop += np.uint64(score <= high)
    return np.int64(stop), largest, magnitude


@compiled
def _still(few: Any, mask: Any) -> Any:
    """Move the places that are left to the front; return how many they are."""
    count = np.uint64(0)
    for place in few:
        few[count] = place
        count += np.uint64(mask[np.uint32(place)])
    return np.int64(count)


@compiled
def _threshold(scores: Any, low: float, kept: int) -> tuple[Any, Any]:
    """Return the last score that is kept, and how many equal to it are; -1 where it is below `low` or not here."""
    within = scores[scores >= low]
    place = within.size - kept
    if not 0 <= place < within.size:
        return 0.0, -1
    bound = np.partition(within, place)[place]
    return bound, kept - np.sum(within > bound)


@compiled
def _falling(scores: Any, bound: float, rank: int) -> tuple[int, int]:
    """Return how many of these scores fall, and how many equal to the bound may still be kept after them."""
    below, equal = 0, 0
    for score in scores:
        below += score < bound
        equal += score == bound
    return below + max(0, equal - rank), max(0, rank - equal)


@compiled
def _let_fall(
    weight: Any,
    mask: Any,
    order: Any,
    scores: Any,
    places: Any,
    bound: float,
    rank: int,
    start: float,
    scale: float,
    left: int,
) -> tuple[int, int]:
    """Let the listed weights fall; return how many equal to the bound may still be kept, and how many are left."""
    for entry in range(scores.size):
        score, i = scores[entry], places[entry]
        if score > bound:
            continue
        if score == bound and rank > 0:
            rank -= 1
            continue
        mask[i] = 0
        weight[i] = 0.0
        order[i] = start + score / scale
        left -= 1
    return rank, left


@compiled
def _place(weight: Any, slope: Any, mask: Any, order: Any, start: float, scale: float) -> None:
    for i in range(mask.size):
        if mask[i]:
            order[i] = start + weight[i] * slope[i] / scale
