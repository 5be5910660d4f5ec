"""Every search over two processes: both hold the same, and all but the order of sums is that of one process."""

import sys
from pathlib import Path

import pytest
import torch
from searches import LINES, STEPS

from supermask import data, models
from supermask.training import Recipe, train

sys.path.append(str(Path(__file__).parents[1] / "training"))
from together import together

RECIPE = Recipe(iterations=STEPS, batch_size=64, evaluate_every=6)


def ended(names):
    """Return masks and scores of the searches after a few steps, as plain values."""
    torch.set_num_threads(1)
    small = data.load("synthetic", seed=0)
    found = {}
    for name in names:
        search = LINES[name].make(models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1))
        train(search, small, RECIPE, seed=0)
        masks = {key: mask.tolist() for key, mask in search.masks().items()}
        found[name] = (masks, {key: score.tolist() for key, score in search.scores().items()})
    return found


def test_two_processes_hold_the_same_bits_and_those_of_one_up_to_rounding():
    names = [*LINES]
    first, second = together(2, ended, names)
    assert first == second
    one = ended(names)
    for name in [name for name in names if name != "coded"]:  # whose noise is drawn for each share of a batch
        for key, score in one[name][1].items():
            difference = (torch.tensor(first[name][1][key]) - torch.tensor(score)).abs().max()
            assert difference == pytest.approx(0.0, abs=1e-4), name
