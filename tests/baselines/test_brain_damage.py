"""Optimal brain damage against finite differences, and against its own definition weight by weight."""

from dataclasses import replace

import pytest
import torch
from plain_training import SGD, work
from small_networks import DOUBLES, chain, sparse, with_norm
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from supermask import SupermaskError
from supermask.baselines.curvature import curvatures
from supermask.baselines.rounds import OptimalBrainDamage
from supermask.baselines.rounds.engine import RoundsDetails
from supermask.data.batch import Batch
from supermask.training.objective import Objective

STEP = 1e-3  # in float64 the rounding is 1e-16 / 1e-6 = 1e-10, and the fourth derivative adds about as much


def second_differences(model, batch, loss):
    """Return the second derivative of the loss by each weight, from three losses."""

    @torch.no_grad()
    def by(flat, place):
        value, losses = float(flat[place]), []
        for moved in (value + STEP, value, value - STEP):
            flat[place] = moved
            losses.append(float(loss(model(batch.inputs), batch.targets)))
        flat[place] = value
        return (losses[0] - 2 * losses[1] + losses[2]) / STEP**2

    model.eval()
    return {
        name: torch.tensor([by(weight.view(-1), k) for k in range(weight.numel())]).view(weight.shape)
        for name, weight in model.named_parameters()
        if weight.ndim > 1
    }


def pooled():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("build", [lambda: chain(16, 5, 4, 3), pooled, with_norm], ids=["linear", "conv", "norm"])
def test_the_diagonal_is_that_of_finite_differences(build):
    network = sparse(build().double())
    found = curvatures(network, Batch(*DOUBLES), Objective())
    expected = second_differences(network.model, Batch(*DOUBLES), cross_entropy)
    assert found.keys() == expected.keys()
    for name, curved in found.items():
        torch.testing.assert_close(curved, expected[name].double(), rtol=1e-4, atol=1e-6)
        assert float(curved.max()) > 1e-3


def test_a_loss_of_the_callers_own_has_its_own_curvature():
    network = sparse(chain(16, 5, 3).double())
    batch = Batch(DOUBLES[0], torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    found = curvatures(network, batch, Objective(mse_loss))
    expected = second_differences(network.model, batch, mse_loss)
    for name, curved in found.items():
        torch.testing.assert_close(curved, expected[name].double(), rtol=1e-4, atol=1e-6)


def test_of_a_smooth_network_it_is_the_part_that_is_not_negative():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    network = sparse(model)
    inputs, targets = DOUBLES
    found = curvatures(network, Batch(inputs, targets), Objective())
    slow = torch.zeros_like(model[1].weight)
    for image in inputs:
        logits = model(image[None])[0]
        chances = logits.softmax(0).detach()
        for c in range(3):  # H = sum of p_c (e_c - p) (e_c - p)^T, so that the diagonal is a sum of squares
            (slope,) = torch.autograd.grad(
                (logits * (torch.eye(3)[c] - chances)).sum(), model[1].weight, retain_graph=True
            )
            slow += chances[c] * slope**2 / len(inputs)
    torch.testing.assert_close(found["1.weight"], slow)


def test_examples_that_do_not_fit_at_once_add_up(monkeypatch):
    network = sparse(chain(16, 5, 3).double())
    whole = curvatures(network, Batch(*DOUBLES), Objective())
    monkeypatch.setattr("supermask.baselines.curvature._NUMBERS", 700)  # two of the nine examples
    parts = curvatures(network, Batch(*DOUBLES), Objective())
    for name, curved in whole.items():
        torch.testing.assert_close(parts[name], curved)


def test_outputs_at_each_position_are_refused():
    network = sparse(nn.Linear(4, 3))
    with pytest.raises(SupermaskError, match=r"one row of outputs for each example; these are \(4, 3\)"):
        curvatures(network, Batch(torch.ones(2, 4, 4), torch.zeros(2, 4).long()), Objective())


def test_each_round_prunes_what_the_loss_rises_least_without():
    task = work(replace(SGD, epochs=2), density=0.3)
    method = OptimalBrainDamage(rate=0.4, examples=60)
    found = method.run(task)
    assert isinstance(found.details, RoundsDetails)
    assert [record.kept for record in found.details.rounds] == [1776, 1066, 639, 533]
    network = task.sparse()
    trained = task.train(network)
    network.load_weights(trained.last["model"])
    curved = curvatures(network, task.sample.batch(60), Objective())
    saliency = {name: curved[name] * weight**2 / 2 for name, weight in network.weights().items()}
    order = torch.cat([each.flatten() for each in saliency.values()]).argsort(stable=True, descending=True)
    expected = torch.zeros(1776, dtype=torch.bool)
    expected[order[:1066]] = True
    first = method.run(replace(task, density=0.6)).subject.masks()
    assert torch.equal(torch.cat([mask.flatten() for mask in first.values()]), expected)
    last = found.subject.masks()
    assert not any((last[name] & ~first[name]).any() for name in first)  # what was pruned does not come back


def test_it_beats_magnitude_where_inputs_differ_in_scale():
    """A weight on an input of scale 0.01 may be large and do nothing; magnitude keeps it, the curvature does not."""
    model = nn.Linear(2, 2, bias=False)
    network = sparse(model)
    network.load_weights({"weight": torch.tensor([[5.0, 1.0], [-5.0, -1.0]])})
    inputs = torch.tensor([[0.01, 1.0], [-0.01, -1.0], [0.01, -1.0]])
    curved = curvatures(network, Batch(inputs, torch.tensor([0, 1, 1])), Objective())["weight"]
    saliency = curved * network.weights()["weight"] ** 2
    assert bool((saliency[:, 1] > 100 * saliency[:, 0]).all())


@pytest.mark.parametrize("options", [{"examples": 0}, {"slower": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match="do not fit: give 1 example or more"):
        OptimalBrainDamage(**options)
