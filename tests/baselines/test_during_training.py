"""What must hold of every method that changes its mask while it trains."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from plain_training import ADAM, OPTIMIZERS, SGD, counts, watched, work

from supermask import Ticket, data
from supermask.baselines.during_training.admm import ADMM
from supermask.baselines.during_training.gradual import Gradual
from supermask.baselines.during_training.rigl import RigL
from supermask.baselines.during_training.set import SET
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe, Stopped

ALL = (
    Gradual(interval=7, begin=0.25, end=0.8),
    RigL(interval=6, alpha=0.4, end=0.8),
    SET(zeta=0.25, interval=9),
    ADMM(rho=0.3, interval=5, warm=0.25, penalised=0.5),
)
EACH = pytest.mark.parametrize("method", ALL, ids=[method.name for method in ALL])
FULL = {"gradual": 45, "admm": 42}  # the first step after which the density is what was asked


@EACH
@OPTIMIZERS
def test_pruned_weights_are_zero_after_every_step(method, recipe):
    task = work(replace(recipe, weight_decay=0.01), density=0.2)
    network = method.network(task)
    seen = watched(network)
    task.train(network)
    for record in seen:
        for name, mask in record["masks"].items():
            pruned = record["weights"][name][~mask]
            assert not pruned.any()
            assert not pruned.signbit().any()


@EACH
@pytest.mark.parametrize("recipe", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("at", [7, 21, 43])
def test_a_run_that_died_and_resumed_ends_bit_identical(method, recipe, at, tmp_path):
    task = work(recipe, density=0.2, folder=tmp_path, resume=True)
    network = method.network(task)
    step = network.step

    def stopping():
        step()
        if network.steps == at:
            os.kill(os.getpid(), signal.SIGTERM)

    network.step = stopping
    with pytest.raises(Stopped, match=f"stopped after step {at} of 56"):
        task.train(network)
    found, whole = method.run(task), method.run(work(recipe, density=0.2))
    assert found.outcome.history == whole.outcome.history
    assert (found.outcome.test, found.outcome.best_step) == (whole.outcome.test, whole.outcome.best_step)
    mine, other = found.outcome.last, whole.outcome.last
    for key in other.keys() - {"steps"}:
        assert mine[key].keys() == other[key].keys()
        assert all(torch.equal(mine[key][name], tensor) for name, tensor in other[key].items())
    assert found.subject.complete


@EACH
def test_the_best_step_is_none_before_the_density_is_reached(method):
    recipe = replace(SGD, evaluate_every=1, learning_rate=0.3)
    task = work(recipe, density=0.05)
    found = method.run(task)
    accuracy = {record["step"]: record["validation_accuracy"] for record in found.outcome.history}
    begins = FULL.get(method.name, 0)
    best = max(value for step, value in accuracy.items() if step >= begins)
    assert found.outcome.best_step == min(step for step, value in accuracy.items() if value == best and step >= begins)
    if begins:
        assert max(accuracy.values()) > best, "the test needs a dense network that does better"
    kept = sum(counts(found.subject.masks()).values())
    assert kept == (77 + 12 if begins else round(0.05 * 1776))


@EACH
def test_the_test_set_is_read_once(method):
    fresh = data.load("synthetic", seed=0)
    task = work(data_set=fresh)
    network = method.network(task)
    reads, step = [], network.step
    network.step = lambda: (step(), reads.append(fresh.test_reads))[0]
    task.train(network)
    assert set(reads) == {0}
    assert fresh.test_reads == 1


@EACH
def test_a_job_leaves_a_network_of_the_exact_density(method, tmp_path):
    job = Job(
        method=method.name,
        data="digits",
        recipe=Recipe(epochs=2, batch_size=50),
        search=SearchOptions(density=0.1),
        options=replace(method),
    )
    result = run(job, tmp_path)
    ticket = Ticket.load(tmp_path / "network.ticket")
    sizes = (64 * 300, 300 * 100, 100 * 10)
    assert result.kept == ticket.kept == sum(round(0.1 * size) for size in sizes) == round(0.1 * sum(sizes))
    assert result.config["options"]["interval"] == method.interval
    assert result.test.accuracy > 0.5
    again = run(replace(job, seed=1), tmp_path / "again")
    assert again.history != result.history


@EACH
def test_each_runs_with_its_defaults_on_few_steps(method, tmp_path):
    job = Job(method=method.name, data="synthetic", recipe=Recipe(epochs=1, batch_size=100))
    assert run(job, tmp_path).kept == pytest.approx(0.3 * (64 * 300 + 300 * 100 + 1000), abs=1)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA names no folder of data sets")
@EACH
def test_two_epochs_of_fashion_mnist(method, tmp_path):
    job = Job(method=method.name, data="fashion_mnist", recipe=Recipe(epochs=2), search=SearchOptions(density=0.1))
    result = run(job, tmp_path)
    assert (result.kept, result.prunable) == (26_620, 266_200)
    masks = Ticket.load(tmp_path / "network.ticket").masks
    # Erdos-Renyi: the last layer is whole, and the others share 25,620 as 784 + 300 and 300 + 100
    expected = {"rigl": [18_714, 6_906, 1_000], "set": [18_714, 6_906, 1_000]}
    assert [int(mask.sum()) for mask in masks.values()] == expected.get(method.name, [23_520, 3_000, 100])
    assert result.test.accuracy > 0.8
