"""Experiment 2 of Pensia et al. 2020: the runs are as published, and the plot shows what is there."""

from dataclasses import replace

import pytest
import torch

from experiments.pensia_edge_popup import DENSITIES, EXPERIMENT, NETWORKS, SEEDS
from supermask import models
from supermask.runs import JobResult
from supermask.search import EdgePopup
from supermask.training.result import Scored


def jobs():
    return [task.job for group in EXPERIMENT.groups for task in group.tasks]


def test_every_network_runs_at_every_density():
    assert len(jobs()) == len(NETWORKS) * len(DENSITIES) * len(SEEDS)
    assert {(job.model, job.search.density) for job in jobs()} == {
        (network.model, density) for network in NETWORKS for density in DENSITIES
    }


def test_the_settings_are_the_published_ones():
    for job in jobs():
        recipe, search = job.recipe, job.settled().search
        assert (job.method, job.data, recipe.optimizer, recipe.decay) == ("edge_popup", "mnist", "sgd", "cosine")
        assert (recipe.batch_size, recipe.peak, recipe.momentum, recipe.effective_weight_decay) == (64, 0.1, 0.9, 5e-4)
        assert (search.weights, search.scaled, search.scope, search.bias) == ("kaiming_normal", False, "layer", "none")


def test_the_three_networks_have_one_size():
    with torch.device("meta"):
        built = [models.build(network.model, width=network.width) for network in NETWORKS]
    counts = [sum(p.numel() for name, p in model.named_parameters() if name.endswith("weight")) for model in built]
    assert counts == [1_991_420, 1_991_420, 1_991_352]  # as the authors' logs print them


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.label)
def test_every_density_has_its_published_number(network):
    assert tuple(network.published) == DENSITIES
    # a fraction written for a percentage would be below the worst of ten classes' chance
    assert all(5 < log.percent < 100 for log in network.published.values())


@pytest.mark.filterwarnings("ignore:The scores of")  # a tiny network has dead units
def test_a_run_carries_out(tmp_path):
    job = jobs()[0]
    tiny = replace(job, data="synthetic", width=0.1, recipe=replace(job.recipe, epochs=1))
    task = replace(EXPERIMENT.groups[0].tasks[0], job=tiny)
    result = task.run(tmp_path / "run", device="cpu", data_folder=None)
    model = models.build(job.model, input_shape=(1, 8, 8), width=0.1)
    search = tiny.search.start(tiny.algorithm.rule, model, tiny.seed, tiny.training, steps=1)
    assert isinstance(search, EdgePopup)
    assert result.kept == search.ticket().kept > 0


def results(accuracy):
    score = Scored(correct=0, total=100, loss=1.0, accuracy=accuracy)
    counts = {"best_step": 1, "steps": 1, "seconds": 1.0, "kept": 1, "prunable": 2, "bytes": 8}
    return [JobResult(validation=score, test=score, **counts)]


@pytest.mark.parametrize("rows", [[], ["wide, density 0.5"], [group.label for group in EXPERIMENT.groups]])
def test_the_plot_takes_what_is_finished(rows, tmp_path):
    EXPERIMENT.plot({row: results(0.9) for row in rows}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
