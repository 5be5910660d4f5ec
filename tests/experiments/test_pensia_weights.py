import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from experiments import pensia_weights
from experiments.pensia_weights import (
    EPSILON,
    EXPERIMENT,
    METHODS,
    Replacement,
    ReplacementResult,
    fewest_terms,
    fresh_draws,
    row_draws,
    smallest_error,
)


def layers():
    """Weights of a 4-3-2 network whose range is near symmetric, so that 21 numbers reach all of them."""
    generator = np.random.default_rng(0)
    return [generator.uniform(-0.2, 0.2, (3, 4)), generator.uniform(-0.3, 0.3, (2, 3))]


def tiny():
    network = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        for weight, values in zip(network.parameters(), layers(), strict=True):
            weight.copy_(torch.from_numpy(values))
    return network


@pytest.mark.parametrize("n", [1, 4, 9])
def test_fewest_terms_are_those_of_all_subsets(n):
    generator = np.random.default_rng(n)
    items, weights = generator.uniform(-0.2, 0.2, (5, 1, n)), generator.uniform(-0.3, 0.3, (5, 6))
    masks = fewest_terms(items, weights)
    for row, column in product(range(5), range(6)):
        best = min(
            ((sum(s), abs(np.dot(s, items[row, 0]) - weights[row, column])) for s in product((0, 1), repeat=n)),
            key=lambda found: (found[1] > EPSILON, *found),
        )
        mask = masks[row, column]
        if best[1] > EPSILON:
            assert not mask.any()
        else:
            assert mask.sum() == best[0]
            error = abs(np.dot(mask, items[row, 0]) - weights[row, column])
            assert error == pytest.approx(best[1], abs=1e-15)


@pytest.mark.parametrize("draw", [row_draws, fresh_draws])
def test_smallest_errors_are_those_of_all_subsets(draw, monkeypatch):
    monkeypatch.setattr(pensia_weights, "ITEMS", 6)
    for items, weights in zip(draw(layers(), 1), layers(), strict=True):
        masks, each = smallest_error(items, weights), np.broadcast_to(items, (*weights.shape, 6))
        for place in np.ndindex(weights.shape):
            errors = [abs(np.dot(s, each[place]) - weights[place]) for s in product((0, 1), repeat=6)]
            assert abs(np.dot(masks[place], each[place]) - weights[place]) == pytest.approx(min(errors), abs=1e-15)


def test_rows_draw_one_after_the_other_on_the_range_of_the_network():
    generator = np.random.RandomState(1)
    everything = np.concatenate([layer.ravel() for layer in layers()])
    for layer, items in zip(layers(), row_draws(layers(), 1), strict=True):
        assert items.shape == (len(layer), 1, 21)
        for (row,) in items:
            np.testing.assert_array_equal(row, generator.uniform(everything.min(), everything.max(), 21))


def test_fresh_draws_are_in_the_unit_of_twice_the_largest_weight():
    for layer, items in zip(layers(), fresh_draws(layers(), 1), strict=True):
        assert items.shape == (*layer.shape, 21)
        assert len(np.unique(items)) == items.size
        assert 0.9 < np.abs(items).max() / (2 * np.abs(layer).max()) <= 1
        assert items.min() < 0 < items.max()


@pytest.mark.parametrize("method", METHODS)
def test_a_replaced_network_has_the_sums_for_weights(method):
    network = tiny()
    found = Replacement(method, 1).replace(network)
    errors = [np.abs(w.detach().numpy() - old) for w, old in zip(network.parameters(), layers(), strict=True)]
    assert found.largest_error == max(error.max() for error in errors) > 0
    assert found.within == sum((error <= EPSILON).sum() for error in errors)
    assert sum(found.terms) == found.weights == 18


def test_a_tiny_version_has_its_rows_and_its_plot(report, monkeypatch):
    def measure(task, _):
        return ReplacementResult(sums=task.replace(tiny()), correct=9719, target_correct=9719)

    monkeypatch.setattr(Replacement, "_measure", measure)
    shown = report(EXPERIMENT)
    row = next(line for line in shown.splitlines() if line.startswith("| smallest error, draws shared"))
    assert "| 97.19, 97.19, 97.19 % |" in row
    assert "|             yes |" in row
    assert row.endswith("3,725,871 kept; 97.19 %; 77,266 s |")


NETWORK = Path(os.environ.get("SUPERMASK_DATA", "data"), "pensia2020", "fc2.pt")
real = [
    pytest.mark.data,
    pytest.mark.skipif(not NETWORK.exists(), reason="the folder of data sets has no pensia2020/fc2.pt"),
]


@pytest.mark.parametrize(
    ("method", "least", "most", "largest", "correct"),
    [
        pytest.param("fewest terms, draws shared by rows", 0.5, 0.6, 0.01, 9600, marks=real),
        pytest.param("smallest error, draws shared by rows", 9, 11, 1.2e-3, 9710, marks=[*real, pytest.mark.slow]),
    ],
)
def test_the_network_of_the_paper(method, least, most, largest, correct, tmp_path):
    result = Replacement(method, 1).run(tmp_path, device="cpu", data_folder=None)
    assert result.sums.weights == 397_000 == result.sums.within
    assert least < sum(n * count for n, count in enumerate(result.sums.terms)) / 397_000 < most
    assert result.sums.largest_error <= largest
    assert result.target_correct == 9719
    assert result.correct >= correct
