"""Real images: a supermask is far from chance after one epoch, and a random mask is not."""

import os
from dataclasses import replace

import pytest

from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA names no folder of data sets"),
]


@pytest.mark.parametrize(("data", "least"), [("mnist", 0.94), ("fashion_mnist", 0.82)])
def test_one_epoch_of_edge_popup(data, least, tmp_path):
    job = Job(data=data, recipe=Recipe(epochs=1))
    assert run(job, tmp_path / "found")["test"]["accuracy"] > least
    assert run(replace(job, method="random_mask"), tmp_path / "random")["test"]["accuracy"] < 0.3


def test_a_convolutional_network_learns_colours(tmp_path):
    search = SearchOptions(density=0.5, scaled=False)
    job = Job(model="conv2", width=0.25, data="cifar10", recipe=Recipe(epochs=1), search=search)
    assert run(job, tmp_path)["test"]["accuracy"] > 0.3
