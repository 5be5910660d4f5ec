"""L0 by hard concrete gates: its formulas against integration, its gradients against those of the product."""

import math
from dataclasses import replace

import pytest
import torch
from plain_training import SGD, counts, watched, work
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.baselines.during_training.hard_concrete import (
    L0,
    concrete,
    open_chance,
    stretched,
    without_noise,
)
from supermask.training.batches import Batches

FINE = 200_000  # midpoints of u, so that a chance is right to half of one: 2.5e-6


@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 2.5])
def test_the_chance_of_an_open_gate_is_the_share_of_noise_that_opens_it(log_alpha):
    u = (torch.arange(FINE, dtype=torch.float64) + 0.5) / FINE
    gates = stretched(concrete(torch.tensor(log_alpha, dtype=torch.float64), u))
    share = float((gates > 0).double().mean())
    assert share == pytest.approx(float(open_chance(torch.tensor(log_alpha))), abs=1e-5)
    assert float(gates.min()) >= 0.0
    assert float(gates.max()) <= 1.0


def test_the_formulas_are_those_of_the_paper_number_by_number():
    for log_alpha, u in [(-2.0, 0.7), (0.3, 0.2), (3.0, 0.9), (1.0, 0.05)]:
        s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) / (2 / 3)))
        assert float(concrete(torch.tensor(log_alpha), torch.tensor(u))) == pytest.approx(s, rel=1e-5)
        assert float(stretched(torch.tensor(s))) == pytest.approx(min(1.0, max(0.0, s * 1.2 - 0.1)), rel=1e-5)
        still = 1 / (1 + math.exp(-log_alpha))
        assert float(without_noise(torch.tensor(log_alpha))) == pytest.approx(min(1.0, max(0.0, still * 1.2 - 0.1)))


def one_step(task, method):
    """Return a network after a training step's backward pass, with the gradients that reach its own parameters."""
    network = method.network(task)
    batch = Batches(task.data, task.recipe, seed=0, device=task.device).batch(0)
    network.model.train()
    cross_entropy(network.model(batch.inputs), batch.targets).backward()
    return network, batch


def test_gradients_of_weights_and_gates_are_those_of_the_product():
    method = L0(penalty=3.0, first_chance=0.6)
    network, batch = one_step(work(), method)
    drawn = {name: each.clone() for name, each in network._drawn.items()}
    free = {name: each.detach().clone().requires_grad_() for name, each in network._free.items()}
    alphas = {name: each.detach().clone() for name, each in network.log_alpha.items()}
    noise = {name: network._uniform(name, alphas[name]) for name in alphas}
    for each in alphas.values():
        each.requires_grad_()
    gates = {name: stretched(concrete(alphas[name], noise[name])) for name in alphas}
    for name in gates:
        torch.testing.assert_close(stretched(drawn[name]), gates[name].detach())
    biases = {name: each for name, each in network.model.named_parameters() if name not in free}
    outputs = torch.func.functional_call(
        network.model, {**biases, **{name: free[name] * gates[name] for name in free}}, (batch.inputs,)
    )
    size = sum(each.numel() for each in free.values())
    penalty = 3.0 * sum(open_chance(each).sum() for each in alphas.values()) / size
    (cross_entropy(outputs, batch.targets) + penalty).backward()
    network._gates.step = lambda: None  # so that the gradients can be looked at
    network.before_step(None)
    for name in free:
        torch.testing.assert_close(network._free[name].grad, free[name].grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(network.log_alpha[name].grad, alphas[name].grad, rtol=1e-4, atol=1e-8)


def test_evaluation_takes_the_gates_without_noise_and_training_those_of_the_step():
    network, _ = one_step(work(), L0(first_chance=0.6))
    in_training = network.weights()["1.weight"].clone()
    expected = network._free["1.weight"] * stretched(network._drawn["1.weight"])
    assert torch.equal(in_training, expected)
    network.model.eval()
    network.model(torch.zeros(1, 1, 8, 8))
    still = network._free["1.weight"] * without_noise(network.log_alpha["1.weight"])
    assert torch.equal(network.weights()["1.weight"], still.detach())


def test_the_largest_log_alphas_are_kept_exactly_and_pruned_weights_stay_zero():
    task = work(density=0.2)
    network = L0(end=0.5).network(task)
    seen = watched(network)
    task.train(network)
    for step, record in enumerate(seen, 1):
        assert record["complete"] == (step >= 28)
        assert sum(counts(record["masks"]).values()) == (1776 if step < 28 else round(0.2 * 1776))
    for record in seen[27:]:
        for name, mask in record["masks"].items():
            assert not record["weights"][name][~mask].any()
            assert record["weights"][name][mask].any()
    log_alpha = torch.cat([each.detach().flatten() for each in network.log_alpha.values()])
    mask = torch.cat([each.flatten() for each in network.masks().values()])
    assert log_alpha[mask].min() >= log_alpha[~mask].max()
    assert not torch.equal(seen[28]["weights"]["1.weight"], seen[-1]["weights"]["1.weight"])  # what is left is trained


def test_the_penalty_follows_the_density():
    """It rises while gates are open beyond the density; the expected density falls with it."""

    def found(density):
        return L0(dual_rate=5.0).run(work(replace(SGD, epochs=20), density=density)).details.found

    low, high = found(0.05), found(0.7)
    assert low < 0.4
    assert 0.55 < high < 0.85


def test_a_run_that_goes_on_ends_as_the_run_that_was_not_stopped():
    task = work(replace(SGD, epochs=2), density=0.3)
    kept = task.train(L0().network(task), keep=[5, 24])
    for step in (5, 24):  # among the gates, and after them
        last = task.train(L0().network(task), start=kept.kept[step]).last
        for part in ("model", "free", "log_alpha"):
            assert all(torch.equal(last[part][name], each) for name, each in kept.last[part].items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"penalty": -1.0}, "penalty=-1.0"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"end": 1.5}, "end=1.5 is out of range"),
        ({"first_chance": 1.0}, "first_chance=1.0 is out of range"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        L0(**options)
