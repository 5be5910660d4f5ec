"""Meet in the middle by the number of terms, for one block of problems, compiled for the CPU.

The coefficients are split in two halves. Of the first k coefficients of a half, the sums of all subsets of j are one
sorted list: the merge of the list (k - 1, j) and of the list (k - 1, j - 1) plus the coefficient k. The lists of j
terms need those of j - 1 only, so they are made as subsets of more terms come to be asked for. All of them are kept,
and the subset of the sum that is chosen is found afterwards by going back through them.

A subset of t terms has i of them in the first half and t - i in the second: for each i two indices walk the two lists,
one up and one down, toward the target.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def numbers_needed(n: int, terms: int) -> int:
    """Return how many float64 numbers of scratch one thread needs for subsets of up to `terms` of n coefficients."""
    return sum(comb(half + 1, j + 1) for half in (n // 2, n - n // 2) for j in range(min(half, terms) + 1))


def binomials(n: int, terms: int) -> Counts:
    """Return C(k, j) for the lists of `terms` of n coefficients: k up to half of n and one, j up to terms and one."""
    half = n - n // 2
    table = [[comb(k, j) for j in range(min(half, terms) + 2)] for k in range(half + 2)]
    return np.array(table, np.int64)


@compiled
def _start(choose: Counts, half: int, terms: int, k: int) -> int:
    """Return where the list of `terms` of the first k coefficients starts: behind those of fewer terms, or fewer k.

    There are C(k, j) sums of j of the first k; over all k below some k they add up to C(k, j + 1).
    """
    start = 0
    for fewer in range(terms):
        start += choose[half + 1, fewer + 1]
    return start + choose[k, terms + 1]


@compiled
def _group(lists: Floats, choose: Counts, half: int, terms: int, k: int) -> Floats:
    """Return the list of `terms` of the first k coefficients; an empty one where there are not as many."""
    start = _start(choose, half, terms, k)
    return lists[start : start + choose[k, terms]]


@compiled
def _merge(one: Floats, other: Floats, shift: float, out: Floats) -> None:
    """Merge the sorted lists `one` and `other + shift` into `out`."""
    i, j = 0, 0
    while i < one.size and j < other.size:
        x, y = one[i], other[j] + shift
        smaller = y < x
        out[i + j] = y if smaller else x
        j += smaller
        i += not smaller
    while i < one.size:
        out[i + j] = one[i]
        i += 1
    while j < other.size:
        out[i + j] = other[j] + shift
        j += 1


@compiled
def _grow(coefficients: Floats, lists: Floats, choose: Counts, terms: int) -> None:
    """Write the lists of `terms` of the first k coefficients, for each k; those of one term fewer are there."""
    half = coefficients.size
    if terms == 0:
        lists[: half + 1] = 0.0
        return
    for k in range(terms, half + 1):
        without = _group(lists, choose, half, terms, k - 1)
        added = _group(lists, choose, half, terms - 1, k - 1)
        _merge(without, added, coefficients[k - 1], _group(lists, choose, half, terms, k))


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
def _recover(
    coefficients: Floats, lists: Floats, choose: Counts, terms: int, value: float, mask: NDArray[np.bool_]
) -> None:
    """Write the subset of `terms` whose sum, as the merges computed it, is `value`; later ones left out if possible."""
    half = coefficients.size
    for k in range(half, 0, -1):
        low = _group(lists, choose, half, terms, k - 1)
        i = _first(low, 0.0, value)
        mask[k - 1] = i == low.size or low[i] != value
        if mask[k - 1]:
            terms -= 1
            low = _group(lists, choose, half, terms, k - 1)
            value = low[_first(low, coefficients[k - 1], value)]


@compiled
def _walk(first: Floats, second: Floats, target: float) -> tuple[float, int, int]:
    """Return the least error of a sum of one of each list, and where its two parts are."""
    i, j = 0, second.size - 1
    best, at, and_at = np.inf, 0, 0
    while i < first.size and j >= 0:
        total = first[i] + second[j]
        if abs(total - target) < best:
            best, at, and_at = abs(total - target), i, j
        above = total > target
        j -= above
        i += not above
    return best, at, and_at


@compiled
def solve_block(
    coefficients: Floats,
    targets: Floats,
    sizes: Counts,
    enough: Floats,
    choose: Counts,
    scratch: Floats,
    mask: NDArray[np.bool_],
    found: Counts,
) -> None:
    """Write for each problem the best mask of the smallest size whose best error is enough.

    Args:
        coefficients: (batch, n).
        targets: (batch,).
        sizes: the first and the last number of terms to be tried, (batch, 2).
        enough: the error at which no larger subset is tried, (batch,).
        choose: the binomial coefficients C(k, j).
        scratch: the lists of both halves.
        mask: (batch, n), all False; the answers are written into it.
        found: the numbers of terms, (batch,); -1 where no error is small enough.

    """
    n = coefficients.shape[1]
    h = n // 2
    middle = 0
    for terms in range(min(h, sizes[:, 1].max()) + 1):
        middle += choose[h + 1, terms + 1]
    lists_1, lists_2 = scratch[:middle], scratch[middle:]
    for row in range(targets.size):
        c_1, c_2 = coefficients[row, :h], coefficients[row, h:]
        grown, found[row] = 0, -1
        for size in range(sizes[row, 0], sizes[row, 1] + 1):
            for terms in range(grown, size + 1):
                if terms <= h:
                    _grow(c_1, lists_1, choose, terms)
                if terms <= n - h:
                    _grow(c_2, lists_2, choose, terms)
            grown = size + 1
            best, terms_1, value_1, value_2 = np.inf, 0, 0.0, 0.0
            for terms in range(max(0, size - (n - h)), min(h, size) + 1):
                first = _group(lists_1, choose, h, terms, h)
                second = _group(lists_2, choose, n - h, size - terms, n - h)
                error, i, j = _walk(first, second, targets[row])
                if error < best:
                    best, terms_1, value_1, value_2 = error, terms, first[i], second[j]
            if best <= enough[row]:
                _recover(c_1, lists_1, choose, terms_1, value_1, mask[row, :h])
                _recover(c_2, lists_2, choose, size - terms_1, value_2, mask[row, h:])
                found[row] = size
                break
