"""Weak tickets of networks with other inputs, outputs and losses than images and classes."""

import pytest
import torch
from plain_training import work
from torch import nn
from torch.nn import functional

from supermask import SupermaskError
from supermask.baselines import SNIP, GraSP, MagnitudeAtInitialisation, RandomUniform, SynFlow
from supermask.baselines.at_initialisation.examples import Given
from supermask.baselines.during_training.rigl import RigL
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.data import from_tensors
from supermask.models import CharGPT
from supermask.training import Objective, Recipe

METHODS = [SNIP(), GraSP(), SynFlow(iterations=4), MagnitudeAtInitialisation(), RandomUniform()]
BY_NAME = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(12, 6, generator=DRAWN)
Y, R = X[:, :3].argmax(1), X[:, :3] * 2.0
IDS = torch.randint(0, 9, (4, 5), generator=DRAWN)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Outputs(nn.Module):
    """Called by keywords, as networks of transformers are, with a loss of its own where it gets labels."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, values, labels=None):
        logits = self.inner(values)
        return {"loss": None if labels is None else functional.cross_entropy(logits, labels), "logits": logits}


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, u, v):
        return self.last(torch.relu(self.first(u) + self.second(v)))


def words():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 9))


CASES = {
    "several inputs": (Two, (X, X.flip(1), Y), None),
    "a dictionary": (Outputs, {"values": X, "labels": Y}, None),
    "regression": (linear, (X, R), functional.mse_loss),
    "tokens": (words, (IDS, IDS.roll(-1, 1)), None),
    "a language model": (lambda: CharGPT(9, 5, units=8), (IDS, IDS.roll(-1, 1)), None),
    "several devices": (lambda: nn.DataParallel(linear()), (X, Y), None),
}


@BY_NAME
@pytest.mark.parametrize("case", CASES)
def test_every_method_makes_tickets_of_every_kind_of_network(method, case):
    build, examples, loss = CASES[case]
    ticket = method.ticket(build(), density=0.25, examples=examples, loss=loss)
    assert abs(ticket.kept - ticket.prunable / 4) <= len(ticket.masks) / 2
    plain = build().module if case == "several devices" else build()
    assert all(parameter.isfinite().all() for parameter in ticket.apply(plain).parameters())


def test_a_dictionary_and_a_pair_give_one_score():
    inner, outer = linear(), Outputs()
    outer.inner.load_state_dict(inner.state_dict())
    pair = Sparse(inner, whole_ticket(inner, seed=0))
    named = Sparse(outer, whole_ticket(outer, seed=0))
    outer.inner.load_state_dict(inner.state_dict())
    for method in METHODS[:3]:
        first = method.scores(pair, Given(0, (X, Y)))
        second = method.scores(named, Given(0, {"values": X, "label": Y}))
        if method.name != "grasp":  # whose temperature divides no logits within a network's own loss
            assert all(torch.equal(score, second[f"inner.{name}"]) for name, score in first.items())


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda method: method.name)
def test_float_targets_are_not_taken_for_probabilities(method):
    with pytest.raises(SupermaskError, match="which may be numbers, probabilities or several labels"):
        method.ticket(linear(), density=0.25, examples=(X, R.softmax(1)))


def test_snip_of_a_regression_is_its_formula():
    network = Sparse(linear(), whole_ticket(linear(), seed=0))
    scores = SNIP().scores(network, Given(0, (X, R), Objective(functional.mse_loss)))
    functional.mse_loss(network.model(X), R).backward()
    for name, parameter in network.model.named_parameters():
        if name in scores:
            torch.testing.assert_close(scores[name], (parameter * parameter.grad).abs().detach())


def test_the_flow_through_each_layer_of_a_network_of_tokens_is_the_same_and_does_not_depend_on_the_tokens():
    """Theorem 2 of Tanaka et al. 2020 for a chain that begins with an embedding."""
    network = Sparse(words(), whole_ticket(words(), seed=0))
    scores = SynFlow().scores(network, Given(0, (IDS, IDS)))
    weights = {name: weight.double().abs() for name, weight in network.weights().items()}
    # all ones at each of the 5 positions, in the place of one-hot vectors
    flow = torch.ones(5, 9, dtype=torch.float64) @ weights["0.weight"] @ weights["1.weight"].T @ weights["3.weight"].T
    sums = torch.stack([score.sum() for score in scores.values()])
    assert len(sums) == 3
    torch.testing.assert_close(sums, flow.sum().expand(3))
    other = SynFlow().scores(network, Given(0, (IDS * 0, IDS)))
    assert all(torch.equal(scores[name], other[name]) for name in scores)


def test_a_network_is_rewired_while_it_is_trained_on_numbers():
    parts = from_tensors((X, R), (X, R), (X, R))
    recipe = Recipe(iterations=6, batch_size=4)
    context = work(recipe, data_set=parts, build=linear, loss=functional.mse_loss)
    found = RigL(interval=2).run(context)
    assert found.outcome.test.correct is None
    assert found.outcome.test.loss < found.outcome.history[0]["validation_loss"]
    assert not torch.equal(found.subject.masks()["0.weight"], RigL(interval=2).network(context).masks()["0.weight"])


@pytest.mark.parametrize("method", METHODS[:3], ids=lambda method: method.name)
def test_networks_of_transformers_are_taken(method):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
        max_position_embeddings=8,
    )
    batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": torch.arange(4) % 3}
    ticket = method.ticket(transformers.BertForSequenceClassification(config), density=0.25, examples=batch)
    assert ticket.kept == round(0.25 * ticket.prunable)
