"""Centroids trained by two processes: both hold the same, and all but the order of sums is that of one process."""

import sys
from pathlib import Path

import pytest
import torch
from compressed_networks import shared

from supermask import data, models
from supermask.training import Recipe, train

sys.path.append(str(Path(__file__).parents[2] / "training"))
from together import together

RECIPE = Recipe(iterations=6, batch_size=64, learning_rate=0.001, evaluate_every=3)


def ended():
    """Return the centroids after a few steps, as plain values."""
    torch.set_num_threads(1)
    network = shared(models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1), density=0.3, clusters=8)
    train(network, data.load("synthetic", seed=0), RECIPE, seed=0, progress=False)
    return {name: found.centroids.tolist() for name, found in network.sharing.items()}


def test_two_processes_hold_the_same_bits_and_those_of_one_up_to_rounding():
    first, second = together(2, ended)
    assert first == second
    for name, centroids in ended().items():
        assert first[name] == pytest.approx(centroids, abs=1e-5), name
