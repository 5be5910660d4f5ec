"""Meet in the middle for one block of problems, compiled for the CPU.

The coefficients are split in two halves and two spare ones. The sums of all subsets of a half are sorted by merging: a
coefficient c turns the sorted list L into the merge of L and L + c. All lists of a half are kept (the shorter ones
together are as long as the last), so only sums are merged, and the subset of the sum that is chosen is found afterwards
by going back through them. For each subset of the two spare coefficients two indices walk the last lists, one up and
one down, toward the target less that subset.

A step of a walk waits for its own loads and comparisons, so the four walks take their steps in turn; a merge works from
both ends of its lists for the same reason. No branch depends on a comparison that falls either way equally often.
"""

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled

Floats = NDArray[np.float64]

SPARE = 2  # coefficients that are in neither half
_0 = np.uint64(0)
_1 = np.uint64(1)


def numbers_needed(n: int) -> int:
    """Return how many float64 numbers of scratch one thread needs for problems of n coefficients."""
    first = max(n - SPARE, 0) // 2
    second = max(n - SPARE, 0) - first
    return (2 << first) + first + 1 + (2 << second) + second + 1


@compiled
def _start(k: int) -> int:
    """Return where the list of k coefficients starts: after the shorter ones, and one gap before each list."""
    return (1 << k) + k


@compiled
def _merge(low: Floats, shift: float, out: Floats) -> None:
    """Merge the sorted `low` with `low + shift` into `out`, of twice the length: half from each end."""
    m = np.uint64(low.size)
    last = np.uint64(out.size - 1)
    i, j, up, down = _0, _0, m - _1, m - _1
    for step in range(m):
        k = np.uint64(step)
        x, y = low[i], low[j] + shift
        smaller = y < x
        out[k] = y if smaller else x
        j += np.uint64(smaller)
        i += np.uint64(not smaller)
        x, y = low[up], low[down] + shift
        smaller = y < x
        out[last - k] = x if smaller else y
        up -= np.uint64(smaller)
        down -= np.uint64(not smaller)


@compiled
def _fill(coefficients: Floats, lists: Floats) -> None:
    """Write the sorted sums of the first 0, 1, ... coefficients into `lists`, one list after another."""
    lists[_start(0)] = 0.0
    for k in range(coefficients.size):
        low = lists[_start(k) : _start(k) + (1 << k)]
        _merge(low, coefficients[k], lists[_start(k + 1) : _start(k + 1) + (2 << k)])


@compiled
def _first(low: Floats, shift: float, value: float) -> int:
    """Return the first index of the sorted `low` with low + shift >= value; the length if there is none."""
    left, right = 0, low.size
    while left < right:
        middle = (left + right) // 2
        if low[middle] + shift < value:
            left = middle + 1
        else:
            right = middle
    return left


@compiled
def _recover(coefficients: Floats, lists: Floats, value: float, mask: NDArray[np.bool_]) -> None:
    """Write the subset whose sum, as the merges computed it, is `value`; later ones left out if possible."""
    for k in range(coefficients.size - 1, -1, -1):
        low = lists[_start(k) : _start(k) + (1 << k)]
        i = _first(low, 0.0, value)
        mask[k] = i == low.size or low[i] != value
        if mask[k]:
            value = low[_first(low, coefficients[k], value)]


@compiled
def _walk(first: Floats, second: Floats, targets: Floats, errors: Floats, pairs: NDArray[np.uint64]) -> None:
    """Find for each of four targets the pair of sums that comes closest to it, and its error.

    `first` ends in +infinity, `second` begins with -infinity: an index at its end stays there, and the other one moves.
    In step k the indices are i = k - last + j, so j alone is kept.
    """
    last = np.uint64(second.size - 1)
    t0, t1, t2, t3 = targets[0], targets[1], targets[2], targets[3]
    j0 = j1 = j2 = j3 = last
    errors[:] = np.inf
    e0 = e1 = e2 = e3 = np.inf
    for step in range(first.size + second.size - 3):
        k = np.uint64(step) - last
        total = first[k + j0] + second[j0]
        if abs(total - t0) < e0:
            e0 = abs(total - t0)
            pairs[0, 0], pairs[0, 1] = k + j0, j0
        j0 -= np.uint64(total > t0)
        total = first[k + j1] + second[j1]
        if abs(total - t1) < e1:
            e1 = abs(total - t1)
            pairs[1, 0], pairs[1, 1] = k + j1, j1
        j1 -= np.uint64(total > t1)
        total = first[k + j2] + second[j2]
        if abs(total - t2) < e2:
            e2 = abs(total - t2)
            pairs[2, 0], pairs[2, 1] = k + j2, j2
        j2 -= np.uint64(total > t2)
        total = first[k + j3] + second[j3]
        if abs(total - t3) < e3:
            e3 = abs(total - t3)
            pairs[3, 0], pairs[3, 1] = k + j3, j3
        j3 -= np.uint64(total > t3)
    errors[0], errors[1], errors[2], errors[3] = e0, e1, e2, e3


@compiled
def solve_block(coefficients: Floats, targets: Floats, scratch: Floats, mask: NDArray[np.bool_]) -> None:
    """Write the best mask of each problem (batch, n), n >= 2; `scratch` holds `numbers_needed(n)` numbers."""
    h = (coefficients.shape[1] - SPARE) // 2
    n = coefficients.shape[1] - SPARE
    end = _start(h) + (1 << h)
    lists_1, lists_2 = scratch[: end + 1], scratch[end + 1 :]
    first = lists_1[_start(h) : end + 1]
    second = lists_2[_start(n - h) - 1 : _start(n - h) + (1 << (n - h))]
    near, errors, pairs = np.empty(4), np.empty(4), np.zeros((4, 2), np.uint64)
    for row in range(targets.size):
        c, x, y = coefficients[row], coefficients[row, n], coefficients[row, n + 1]
        _fill(c[:h], lists_1)
        _fill(c[h:n], lists_2)
        first[first.size - 1] = np.inf
        second[0] = -np.inf
        near[0], near[1], near[2], near[3] = targets[row], targets[row] - x, targets[row] - y, targets[row] - (x + y)
        _walk(first, second, near, errors, pairs)
        best = np.argmin(errors)
        _recover(c[:h], lists_1, first[pairs[best, 0]], mask[row, :h])
        _recover(c[h:n], lists_2, second[pairs[best, 1]], mask[row, h:n])
        mask[row, n], mask[row, n + 1] = best % 2 == 1, best >= 2
