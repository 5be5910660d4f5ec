"""How a mask is tiled: rows and kernels, blocks that go whole, groups that all keep the same number, images."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled

Bits = NDArray[np.uint8]

WIDEST_GROUP = 1 << 16  # keeps the search for groups short; N:M patterns have groups of 4 to 64
_NARROWEST_IMAGE, _WIDEST_IMAGE = 8, 256  # of the data sets that fully connected layers see, with room
_SEEN = 1 << 16  # entries; enough to see how wide the images are


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return rows (output units), columns (inputs of each) and entries of a kernel of a weight of this shape."""
    if len(shape) < 2:
        return 1, math.prod(shape), 1
    return shape[0], math.prod(shape[1:]), math.prod(shape[2:])


def block(matrix: Bits) -> tuple[int, int]:
    """Return the largest height and width of blocks that tile the matrix and are constant each."""
    rows, columns = matrix.shape
    return _period(matrix[1:] != matrix[:-1], 1, rows), _period(matrix[:, 1:] != matrix[:, :-1], 0, columns)


def _period(changes: NDArray[np.bool_], axis: int, size: int) -> int:
    return int(np.gcd.reduce(np.flatnonzero(changes.any(axis)) + 1, initial=size))


def turned(bits: Bits, kernel: int, columns: int) -> Bits:
    """Return the entries with the input channels, not the places in the kernel, next to each other."""
    return np.ascontiguousarray(bits.reshape(-1, columns // kernel, kernel).transpose(0, 2, 1)).reshape(-1)


def group(bits: Bits) -> tuple[int, int] | None:
    """Return the smallest M > 1 and N for which each M consecutive entries keep exactly N of them, or None."""
    kept = int(bits.sum())
    for size in _divisors(bits.size, bits.size // math.gcd(bits.size, kept)):
        if size > 1 and _is_even(bits[: 64 * size], size) and _is_even(bits, size):
            return size, kept * size // bits.size
    return None


def _divisors(number: int, of: int) -> list[int]:
    """Return the divisors of a number, except itself, that are multiples of another, the smallest first."""
    parts = range(of, min(number // 2, WIDEST_GROUP) + 1, of)
    return [part for part in parts if number % part == 0]


def _is_even(bits: Bits, size: int) -> bool:
    sums = bits.reshape(-1, size).sum(1)
    return bool((sums == sums[0]).all())


def image_width(wanted: Bits, columns: int) -> int:
    """Return the distance at which the columns of a fully connected layer agree most: the width of the images.

    Args:
        wanted: uint8 (n,), the sign that is wanted at each place, 0 or 1.
        columns: of the matrix.

    """
    steps = range(_NARROWEST_IMAGE, min(_WIDEST_IMAGE, columns // 2) + 1)
    if not steps:
        return 1
    rows = wanted.reshape(-1, columns)[: max(1, _SEEN // columns)]
    pairs = len(rows) * (columns - np.arange(steps.start, steps.stop))
    sums = pairs - 2 * _changes(rows, steps.start, steps.stop)
    # the mean over the pairs in units of 2**-20, in integers: the same width on every machine
    return steps[int(((sums << 20) // pairs).argmax())]


@compiled
def _changes(rows: Any, first: int, end: int) -> Any:
    """Return how many pairs of entries of a row differ that are `first`, ..., `end` - 1 apart, int64 (end - first,)."""
    found = np.zeros(end - first, np.int64)
    for r in range(rows.shape[0]):
        row = rows[r]
        for step in range(first, end):
            later = row[step:]
            total = 0
            for i in range(later.size):
                total += row[i] ^ later[i]
            found[step - first] += total
    return found
