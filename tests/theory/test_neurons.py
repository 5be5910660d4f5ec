"""Pruning units and weights for one neuron, against dense grids and all subsets."""

import itertools

import numpy as np
import pytest

from supermask.errors import SupermaskError
from theory.neurons import best_subset, by_weights, floor_of_subsets, found_subset, supremum


def drawn(units, seed):
    random = np.random.default_rng(seed)
    angle = random.uniform(0, 2 * np.pi)
    return random.uniform(-1, 1, (units, 2)), random.uniform(-1, 1, units), np.array([np.cos(angle), np.sin(angle)])


def on_a_grid(directions, strengths, target, count=20_000):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    errors = []
    for x in np.stack([np.cos(angles), np.sin(angles)], axis=1):
        hidden = sum(v * max(u @ x, 0.0) for u, v in zip(directions, strengths, strict=True))
        errors.append(abs(max(hidden, 0.0) - max(target @ x, 0.0)))
    return max(errors)


@pytest.mark.parametrize("units", [0, 1, 2, 7])
def test_the_supremum_is_that_of_a_fine_grid(units):
    for seed in range(3):
        network = drawn(units, seed)
        grid = on_a_grid(*network, count=1000)
        assert grid <= supremum(*network) * (1 + 1e-12) <= grid + 2e-2 * (1 + np.abs(network[1]).sum())


def subset(network, mask):
    directions, strengths, target = network
    return directions[mask], strengths[mask], target


@pytest.mark.parametrize("units", [1, 2, 5, 7])
def test_of_all_subsets_none_is_below_the_floor_or_the_best_on_points(units):
    for seed in range(4):
        network = drawn(units, 10 * units + seed)
        target = network[2]
        angles = np.arctan2(target[1], target[0]) + 2 * np.pi * np.arange(16) / 16
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        wholes, points = [], []
        for bits in itertools.product([False, True], repeat=units):
            u, v, _ = subset(network, np.array(bits))
            wholes.append(supremum(u, v, target))
            output = np.maximum(np.maximum(circle @ u.T, 0.0) @ v, 0.0)
            points.append(np.abs(output - np.maximum(circle @ target, 0.0)).max())
        mask, least = best_subset(*network, points=16)
        assert least == pytest.approx(min(points), abs=1e-12)
        assert least <= min(wholes) + 1e-12
        assert supremum(*subset(network, mask)) >= least - 1e-12
        assert 0.0 < floor_of_subsets(*network) <= min(wholes) + 1e-12
        assert min(wholes) - 1e-12 <= supremum(*subset(network, found_subset(*network, seed=0)))


def test_the_floor_falls_with_the_units_and_is_far_from_nothing():
    floors = [np.median([floor_of_subsets(*drawn(units, seed)) for seed in range(9)]) for units in (8, 64, 512)]
    assert floors[0] > 4 * floors[1] > 16 * floors[2] > 0.0


def test_a_neuron_that_is_in_the_layer_is_found():
    directions, strengths, target = drawn(10, 3)
    directions[4], strengths[4] = target, 1.0
    mask, least = best_subset(directions, strengths, target)
    assert least <= 1e-15
    assert supremum(directions[mask], strengths[mask], target) <= 1e-12
    assert mask[4]
    assert floor_of_subsets(directions, strengths, target) <= 1e-12


def test_weights_do_in_few_units_what_neurons_do_not():
    for seed in range(3):
        network = drawn(96, seed)
        directions, strengths = by_weights(*network)
        assert ((directions == 0.0).sum(axis=1) == 1).all()
        for row, v in zip(directions, strengths, strict=True):  # each is a unit of the network without one weight
            (unit,) = np.flatnonzero(network[1] == v)
            assert all(kept in (0.0, given) for kept, given in zip(row, network[0][unit], strict=True))
        assert (
            supremum(directions, strengths, network[2])
            < 1e-4
            < supremum(*subset(network, found_subset(*network, seed=0, starts=1)))
        )


def test_too_many_units_are_refused():
    with pytest.raises(SupermaskError, match=r"^30 hidden units have more subsets than are tried; give at most 24\.$"):
        best_subset(*drawn(30, 0))
