"""Which scores are the largest by magnitude, according to a sort: what a selection is checked against."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

_INFINITY = 0x7F800000
Scores = NDArray[np.float32]


def kth_largest(scores: Scores, k: int) -> np.float32:
    """Return the k-th largest magnitude, 1 <= k <= scores.size, by sorting as many parts as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda part: np.sort(np.abs(part)), np.array_split(scores, pool._max_workers)))
    low, high = 0, _INFINITY  # of numbers that are not negative, the bits are in the order of the numbers
    while low < high:
        middle = (low + high + 1) // 2
        at_least = sum(part.size - int(np.searchsorted(part, _float(middle))) for part in parts)
        low, high = (middle, high) if at_least >= k else (low, middle - 1)
    return _float(low)


def wrong_entries(scores: Scores, k: int, mask: NDArray[np.bool_], threshold: np.float32) -> int:
    """Return in how many entries a mask differs from that of the k largest magnitudes, ties to the lowest index.

    Args:
        scores: float32 (n,).
        k: how many are kept.
        mask: bool (n,).
        threshold: what `kth_largest` says.

    """
    magnitudes = np.abs(scores)
    expected = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    expected[tied[: k - int(np.count_nonzero(expected))]] = True
    return int(np.count_nonzero(expected != mask))


def _float(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)
