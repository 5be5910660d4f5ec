"""k-means of the weights of one layer, on a line.

Han, Mao & Dally 2016, section 3.1, equation 2, and section 3.2: of three ways to begin, centroids that lie evenly
between the least and the largest weight served best, because they keep the few large weights apart.
"""

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 10_000  # far more than Lloyd's iterations take; sums that round could go in circles


def linear_centroids(values: Reals, count: int) -> Reals:
    """Return `count` centroids evenly from the least to the largest value, float64 (count,); none without values."""
    if not len(values):
        return np.empty(0)
    return np.linspace(values.min(), values.max(), count)


def kmeans(values: Reals, centroids: Reals) -> tuple[Reals, Integers]:
    """Return the centroids that Lloyd's iterations come to, and the index of each value's centroid.

    A value goes to its nearest centroid, the lower one of two; a cluster without values stays where it is until it gets
    some, and is left out in the end.

    Args:
        values: float64 (n,), finite.
        centroids: to begin with, float64 (k,), rising.

    Returns:
        Centroids float64 (clusters,), rising, each the mean of its values; indices int64 (n,).

    Raises:
        SupermaskError: a value is not finite.

    """
    if not np.isfinite(values).all():
        raise SupermaskError("A weight that is to share its value is not finite; lower the learning rate.")
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    ends = _ends(ordered, centroids)
    for _ in range(_ROUNDS):
        centroids = _means(ordered, sums, ends, centroids)
        before, ends = ends, _ends(ordered, centroids)
        if np.array_equal(before, ends):
            break
    counts = np.diff(ends)
    indices = np.empty(len(values), np.int64)
    indices[order] = np.repeat(np.arange(np.count_nonzero(counts)), counts[counts > 0])
    return centroids[counts > 0], indices


def _ends(ordered: Reals, centroids: Reals) -> Integers:
    """Return where each cluster begins and ends in the ordered values: int64 (k + 1,)."""
    middles = centroids[:-1] + 0.5 * np.diff(centroids)
    inner = np.searchsorted(ordered, middles, side="right")
    return np.concatenate([[0], inner, [len(ordered)]])[: len(centroids) + 1]


def _means(ordered: Reals, sums: Reals, ends: Integers, centroids: Reals) -> Reals:
    """Return the mean of each cluster's values, from the sums of the first values; an empty one keeps its centroid."""
    counts = np.diff(ends)
    full = counts > 0
    means = centroids.copy()
    # a difference of sums rounds; no mean may leave its cluster, or the centroids would not rise
    least, largest = ordered[ends[:-1][full]], ordered[ends[1:][full] - 1]
    means[full] = np.clip(np.diff(sums[ends])[full] / counts[full], least, largest)
    return means
