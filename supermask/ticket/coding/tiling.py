"""How a mask is tiled: rows and kernels, blocks that go whole, groups that all keep the same number, images."""

import math

import numpy as np
from numpy.typing import NDArray

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
    signs = 2 * wanted.reshape(-1, columns)[: max(1, _SEEN // columns)].astype(np.int8) - 1
    sums = [int((signs[:, step:] * signs[:, :-step]).sum(dtype=np.int64)) for step in steps]
    # the mean over the pairs in units of 2**-20, in integers: the same width on every machine
    means = [total * (1 << 20) // (len(signs) * (columns - step)) for total, step in zip(sums, steps, strict=True)]
    return steps[means.index(max(means))]
