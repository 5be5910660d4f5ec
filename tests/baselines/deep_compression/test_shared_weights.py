"""Weights that share their values: the gradient of a centroid, its training, and what stays zero."""

import pytest
import torch
from compressed_networks import bits_of, shared
from torch import nn
from torch.nn.functional import cross_entropy

from supermask.baselines.deep_compression.shared import Sharing


def network(seed=0, clusters=3):
    torch.manual_seed(seed)
    return shared(nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).double(), 0.6, clusters)


INPUTS = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()
LABELS = torch.arange(8) % 4


def loss_of(subject, decay=0.0):
    """Return the loss, with a penalty on every weight and bias."""
    penalty = sum(parameter.square().sum() for parameter in subject.model.parameters())
    return cross_entropy(subject.model(INPUTS), LABELS) + 0.5 * decay * penalty


def centroids_of(subject):
    return {name: found.centroids for name, found in subject.sharing.items()}


def with_centroid(subject, name, place, change):
    """Return the subject with one centroid moved."""
    state = subject.state_dict()
    centroids = {key: tensor.clone() for key, tensor in state["centroids"].items()}
    centroids[name][place] += change
    subject.load_state_dict({**state, "centroids": centroids})
    return subject


def test_kept_weights_have_the_values_of_their_centroids_and_pruned_ones_are_zero():
    subject = network()
    for name, found in subject.sharing.items():
        flat = subject.weights()[name].reshape(-1)
        mask = subject.masks()[name].reshape(-1)
        assert flat[mask].equal(found.centroids[found.indices])
        assert found.places.equal(mask.nonzero().reshape(-1))
        assert bits_of(flat[~mask]) == bits_of(torch.zeros_like(flat[~mask]))
        assert len(set(flat[mask].tolist())) == len(found.centroids) <= 3


@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_the_gradient_of_a_centroid_is_that_of_finite_differences(decay):
    subject = network()
    optimizer = torch.optim.SGD(subject.parameters(), lr=1.0, weight_decay=decay)
    loss_of(subject).backward()
    before = centroids_of(subject)
    subject.before_step(optimizer)
    optimizer.step()
    subject.step()
    # at a rate of 1, a centroid moves by its gradient
    moved = {name: before[name] - tensor for name, tensor in centroids_of(subject).items()}
    for name, gradients in moved.items():
        assert len(gradients) == 3
        for place, gradient in enumerate(gradients.tolist()):
            above, below = (loss_of(with_centroid(network(), name, place, side), decay) for side in (1e-6, -1e-6))
            assert gradient == pytest.approx(float((above - below).detach()) / 2e-6, rel=1e-5, abs=1e-8)


def test_a_slow_sum_over_each_cluster():
    indices, places = torch.tensor([1, 0, 1]), torch.tensor([0, 2, 5])
    found = Sharing(torch.tensor([0.5, -1.0]), indices, places)
    gradient = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert found.gradient(gradient).tolist() == [4.0, 33.0]
    assert found.gradient(gradient.t().contiguous().t()).tolist() == [4.0, 33.0]  # whatever its layout in memory
    assert found.counts.tolist() == [1, 2]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_many_steps_leave_pruned_weights_at_zero_and_clusters_together(optimizer):
    subject = network()
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    made = optimizer(subject.parameters(), lr=0.02, weight_decay=0.1, **options)
    clusters = {name: found.indices.clone() for name, found in subject.sharing.items()}
    biases = subject.model[0].bias.detach().clone()
    first = loss_of(subject).detach()
    for _ in range(20):
        made.zero_grad()
        loss_of(subject).backward()
        subject.before_step(made)
        made.step()
        subject.step()
        for name, mask in subject.masks().items():
            weight = subject.weights()[name]
            assert bits_of(weight[~mask]) == bits_of(torch.zeros_like(weight[~mask]))
            assert weight[mask].equal(subject.sharing[name].centroids[clusters[name]])
    assert loss_of(subject).detach() < first
    assert not subject.model[0].bias.equal(biases)  # what is not pruned is trained
    assert subject.steps == 20


def test_the_optimizer_gets_each_centroid_and_each_other_parameter_once():
    subject = network()
    given = list(subject.parameters())
    assert [tuple(parameter.shape) for parameter in given] == [(3,), (3,), (3,), (4,)]
    weights = {id(subject.model[place].weight) for place in (0, 3)}
    assert not weights & {id(parameter) for parameter in given}


def test_gradients_do_not_add_up_from_step_to_step():
    subject = network()
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(subject).backward()
        subject.before_step(optimizer)
        seen.append([parameter.grad.clone() for parameter in subject.parameters()])
        subject.step()
    assert all(one.equal(two) for one, two in zip(*seen, strict=True))


def test_a_state_is_taken_up_in_place():
    subject, other = network(), network()
    parameters = list(other.parameters())
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.1)
    loss_of(subject).backward()
    subject.before_step(optimizer)
    optimizer.step()
    subject.step()
    other.load_state_dict(subject.state_dict())
    assert all(one is two for one, two in zip(other.parameters(), parameters, strict=True))
    assert loss_of(other).equal(loss_of(subject))
    assert other.steps == 1


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_layers_without_weights_or_without_zeros_train(density):
    subject = shared(nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.Linear(5, 4)).double(), density, clusters=1)
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(subject).backward()
        subject.before_step(optimizer)
        optimizer.step()
        subject.step()
    values = {name: set(weight.reshape(-1).tolist()) for name, weight in subject.weights().items()}
    assert all(len(own) == 1 for own in values.values())
    assert (values["1.weight"] == {0.0}) == (density == 0.0)
