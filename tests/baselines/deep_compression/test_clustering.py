"""k-means on a line against a slow loop and scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from supermask import SupermaskError
from supermask.baselines.deep_compression.shared import kmeans

VALUES = st.lists(st.floats(-8, 8, width=16), min_size=1, max_size=40)


def slow_kmeans(values, centroids):
    """Lloyd's iterations with every distance looked at; the lower of two nearest, empty clusters stay."""
    centroids = list(centroids)
    while True:
        indices = [min(range(len(centroids)), key=lambda k: (abs(v - centroids[k]), k)) for v in values]
        means = [
            float(np.mean(own))
            if (own := [v for v, i in zip(values, indices, strict=True) if i == k])
            else centroids[k]
            for k in range(len(centroids))
        ]
        if means == centroids:
            return centroids, indices
        centroids = means


@settings(deadline=None, max_examples=150)
@given(VALUES, st.integers(1, 9))
def test_the_clusters_are_those_of_a_slow_loop(values, count):
    values = np.array(values)
    centroids, indices = kmeans(values, count)
    expected, where = slow_kmeans(values.tolist(), np.linspace(values.min(), values.max(), count).tolist())
    np.testing.assert_allclose(centroids[indices], np.array(expected)[where], atol=1e-9)
    assert len(centroids) == len(set(indices.tolist()))  # none is empty
    assert (np.diff(centroids) > 0).all()


@pytest.mark.parametrize(("count", "seed"), [(4, 0), (8, 1), (12, 2)])
def test_the_clusters_are_those_of_scikit_learn(count, seed):
    values = np.sort(np.random.default_rng(seed).normal(size=2000)).astype(np.float32).astype(np.float64)
    centroids, indices = kmeans(values, count)
    begun = np.linspace(values.min(), values.max(), count)[:, None]
    other = KMeans(count, init=begun, n_init=1, tol=0, max_iter=5000, algorithm="lloyd").fit(values[:, None])
    assert len(centroids) == count  # scikit-learn moves an empty cluster away; here none is
    np.testing.assert_allclose(centroids, other.cluster_centers_[:, 0], atol=1e-6)
    assert (indices == other.labels_).mean() > 0.999  # which rounds where a value lies between two


def test_a_cluster_that_stays_without_values_is_left_out():
    values = np.array([0.0, 0.1, 0.9, 1.0])
    centroids, indices = kmeans(values, 5)
    assert centroids == pytest.approx([0.05, 0.95])
    assert indices.tolist() == [0, 0, 1, 1]


def test_each_centroid_is_the_mean_of_its_values_and_nearest_to_them():
    values = np.random.default_rng(5).laplace(size=5000)
    centroids, indices = kmeans(values, 64)
    np.testing.assert_allclose(centroids, np.bincount(indices, values) / np.bincount(indices))
    assert (indices == np.abs(values[:, None] - centroids).argmin(1)).all()


def test_a_value_in_the_middle_goes_to_the_lower_centroid():
    centroids, indices = kmeans(np.array([0.0, 1.0, 2.0]), 2)
    assert (centroids.tolist(), indices.tolist()) == ([0.5, 2.0], [0, 0, 1])


def test_equal_values_are_one_cluster():
    centroids, indices = kmeans(np.full(7, 0.1), 32)
    assert (centroids.tolist(), indices.tolist()) == ([pytest.approx(0.1)], [0] * 7)


def test_no_values_have_no_clusters():
    centroids, indices = kmeans(np.empty(0), 4)
    assert len(centroids) == len(indices) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused(bad):
    with pytest.raises(SupermaskError, match="is not finite; lower the learning rate"):
        kmeans(np.array([0.0, bad]), 2)
