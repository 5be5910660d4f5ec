"""Pruning at a later step, and concrete ticket search: both against the same in the open."""

from dataclasses import replace

import pytest
import torch
from plain_training import SGD, work
from small_networks import chain, sparse
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.baselines.at_initialisation import SNIP, ConcreteTickets, MagnitudeAtInitialisation, SynFlow
from supermask.baselines.at_initialisation.concrete import reverse_divergence
from supermask.baselines.at_initialisation.examples import Given


@pytest.mark.parametrize(("prune_step", "state_step"), [(9, None), (9, 0), (0, 9), (5, 9)])
def test_the_mask_is_of_one_step_and_the_weights_of_another(prune_step, state_step):
    task = work(replace(SGD, epochs=1), density=0.3)
    start = prune_step if state_step is None else state_step
    found = SNIP(batch=30, prune_step=prune_step, state_step=state_step).run(task)
    dense = task.sparse()
    states = task.train(dense, keep={prune_step, start}).kept
    looked_at = task.sparse()
    looked_at.load_weights(states[prune_step].model)
    images, labels = task.sample.batch(30)
    weights = [slot.parameter for slot in looked_at.prunable.values()]
    slopes = torch.autograd.grad(cross_entropy(looked_at.model(images), labels), weights)
    scores = torch.cat([(w * g).abs().flatten() for w, g in zip(weights, slopes, strict=True)])
    expected = torch.zeros(len(scores), dtype=torch.bool)
    expected[scores.argsort(descending=True, stable=True)[: round(0.3 * len(scores))]] = True
    masks = found.subject.masks()
    assert torch.equal(torch.cat([mask.flatten() for mask in masks.values()]), expected)
    pruned = task.sparse(masks)
    pruned.load_weights(states[start].model)
    outcome = task.train(pruned, start=start)
    assert found.outcome.test == outcome.test
    assert found.outcome.history[0]["step"] == start
    for name, weight in found.subject.weights().items():
        assert torch.equal(weight, pruned.weights()[name])


def test_step_zero_is_pruning_at_initialisation():
    task = work(replace(SGD, epochs=1), density=0.3)
    assert SynFlow(state_step=0).run(task).outcome.test == SynFlow().run(task).outcome.test
    assert "prune_step" not in SNIP().recorded_options()
    assert SNIP(prune_step=3).recorded_options()["prune_step"] == 3


@pytest.mark.parametrize("options", [{"prune_step": 15}, {"state_step": 15}])
def test_steps_that_never_come_are_refused(options):
    with pytest.raises(SupermaskError, match="is not one of the training's; give prune_step and state_step from 0 to"):
        MagnitudeAtInitialisation(**options).run(work(replace(SGD, epochs=1)))


@pytest.mark.parametrize("method", [MagnitudeAtInitialisation, SynFlow])
@pytest.mark.parametrize("options", [{"state_step": -1}, {"prune_step": -2}])
def test_steps_below_0_are_refused_where_they_are_named(method, options):
    with pytest.raises(SupermaskError, match="do not fit; give steps of 0 or more"):
        method(**options)


def test_a_ticket_of_ones_own_module_is_pruned_at_its_initialisation_alone():
    with pytest.raises(SupermaskError, match="prune_step=3, state_step=None need a training"):
        MagnitudeAtInitialisation(prune_step=3).ticket(chain(4, 3), density=0.5)


def test_the_reverse_divergence_is_a_sum_over_classes():
    sparse_logits, dense_logits = torch.randn(5, 4), torch.randn(5, 4)
    q, p = sparse_logits.softmax(1), dense_logits.softmax(1)
    slow = sum(float(q[n, c]) * float((q[n, c] / p[n, c]).log()) for n in range(5) for c in range(4)) / 5
    assert float(reverse_divergence(sparse_logits, dense_logits)) == pytest.approx(slow, rel=1e-4)
    assert float(reverse_divergence(dense_logits, dense_logits)) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(SupermaskError, match="give objective=loss"):
        reverse_divergence({"a": q, "b": p}, p)


def test_what_the_dense_network_needs_is_kept():
    """Of eight inputs two are always zero: their weights do nothing, and half of the others would be missed."""
    network = sparse(chain(8, 6, 3))
    images = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    images[:, 5:] = 0.0
    labels = torch.zeros(256).long()
    method = ConcreteTickets(steps=300, batch=64)
    masks, _ = method.choose(network, Given(0, (images, labels)), 0.5)
    assert sum(int(mask.sum()) for mask in masks.values()) == 33
    assert masks["1.weight"][:, :5].float().mean() > 2 * masks["1.weight"][:, 5:].float().mean()
    kept = {name: weight * masks[name] for name, weight in network.weights().items()}
    shuffled = {
        name: weight * masks[name].flatten().roll(7).view(weight.shape) for name, weight in network.weights().items()
    }

    def distance(weights):
        with torch.no_grad():
            found = torch.func.functional_call(network.model, weights, (images,))
            return float(reverse_divergence(found, network.model(images)))

    assert distance(kept) < 0.5 * distance(shuffled)
    again, _ = method.choose(network, Given(0, (images, labels)), 0.5)
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())


def test_the_density_due_falls_to_the_density_in_half_of_the_steps():
    method = ConcreteTickets(steps=100)
    assert method.density_due(0, 0.05) == 0.9
    assert method.density_due(25, 0.05) == pytest.approx((0.9 * 0.05) ** 0.5)
    assert method.density_due(50, 0.05) == method.density_due(99, 0.05) == pytest.approx(0.05)


def test_the_expected_density_ends_near_the_one_that_was_asked_for():
    task = work(density=0.2)
    _, scores = ConcreteTickets(steps=300).choose(task.sparse(), task.sample, 0.2)
    chances = torch.cat([score.sigmoid().flatten() for score in scores.values()])
    assert float(chances.mean()) == pytest.approx(0.2, abs=0.04)


def test_it_takes_the_loss_too():
    found = ConcreteTickets(objective="loss", steps=60).run(work(replace(SGD, epochs=2), density=0.3))
    assert sum(int(mask.sum()) for mask in found.subject.masks().values()) == round(0.3 * 1776)
    assert found.outcome.test.accuracy > 0.3


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"rate": 0.0}, {"temperature": -1.0}, {"first_chance": 1.0}, {"objective": "forward_kl"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match="concrete_tickets"):
        ConcreteTickets(**options)
