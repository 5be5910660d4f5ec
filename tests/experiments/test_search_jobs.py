"""The sentence that says whether a search is above the dense network."""

from types import SimpleNamespace

import pytest

from experiments.framework.search_jobs import beside_dense


def runs(accuracies, model="lenet_300_100"):
    return [
        SimpleNamespace(config={"model": model, "seed": seed}, test=SimpleNamespace(accuracy=value, total=10_000))
        for seed, value in enumerate(accuracies)
    ]


def test_rows_are_counted_by_their_intervals():
    found = {
        "dense": runs([0.98, 0.981, 0.979]),
        "above": runs([0.985, 0.986, 0.9841]),
        "below": runs([0.97, 0.971, 0.9691]),
        "wide": runs([0.99, 0.96, 0.98]),
        "one seed": runs([0.5]),
        "another network": runs([0.1, 0.1, 0.1], model="small_conv"),
    }
    said = beside_dense(found)
    assert "of 3 rows 1 are above it (above) and 1 below" in said
    assert "The best is above: +0.50 ± " in said
    assert "0 are above it and 1 below" in beside_dense({name: found[name] for name in ("dense", "below", "wide")})


def test_seeds_are_paired_by_their_number_and_not_by_their_place():
    found = {"dense": runs([0.90, 0.95, 0.99]), "same": runs([0.90, 0.95, 0.99])[::-1]}
    assert "The best is same: +0.00 ± 0.01 points" in beside_dense(found)


@pytest.mark.parametrize("found", [{"edge_popup": runs([0.9, 0.9])}, {"dense": runs([0.9]), "edge_popup": runs([0.9])}])
def test_without_enough_runs_nothing_is_claimed(found):
    assert "above" not in beside_dense(found)
