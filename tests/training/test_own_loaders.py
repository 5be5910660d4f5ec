"""Training on the caller's own data: data loaders, several inputs, dictionaries, regression, sequences."""

import json
import math
import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from supermask import EdgePopup, SupermaskError, data
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.data import Loaders, from_tensors
from supermask.models import CharGPT
from supermask.training import Recipe, Stopped, train

RECIPE = Recipe(epochs=3, batch_size=16)
DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(64, 8, generator=DRAWN)
Y, R = X[:, :3].argmax(1), X[:, :2] * 2


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, outputs))


def search(outputs=3):
    return EdgePopup(network(outputs), density=0.5, seed=0)


def loader(*tensors, **options):
    return DataLoader(TensorDataset(*tensors), 16, **options)


def batches(*tensors):
    """Return the batches of a loader without what it draws from torch's generator, which dropout draws from too."""
    return [*zip(*(tensor.split(16) for tensor in tensors), strict=True)]


def trained(subject, data_set, recipe=RECIPE, **options):
    return train(subject, data_set, recipe, seed=0, progress=False, **options)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.masks().values(), second.masks().values(), strict=True))


def test_a_lone_loader_trains_to_the_last_step():
    outcome = trained(search(), loader(X, Y))
    assert (outcome.best_step, outcome.steps, outcome.test.total) == (12, 12, 0)
    assert outcome.history[-1]["train_loss"] < outcome.history[1]["train_loss"]


def test_a_loader_in_the_order_of_a_data_set_trains_to_the_same_bits():
    own, other = search(), search()
    order = data.epoch_order(64, seed=0, epoch=0)
    recipe = Recipe(iterations=4, batch_size=16)
    first = trained(own, from_tensors((X, Y), (X, Y), (X, Y)), recipe)
    second = trained(other, Loaders(batches(X[order], Y[order]), [(X, Y)], [(X, Y)]), recipe)
    assert same(own, other)
    assert (first.validation, first.test) == (second.validation, second.test)


def test_float_targets_need_a_loss_and_are_measured_by_it(tmp_path):
    parts = Loaders(loader(X, R), loader(X, R), loader(X, R))
    with pytest.raises(SupermaskError, match="which may be numbers, probabilities or several labels"):
        trained(search(2), parts)
    outcome = trained(search(2), parts, loss=functional.mse_loss, folder=tmp_path)
    assert outcome.test.correct is None
    assert math.isnan(outcome.test.accuracy)
    losses = [record["validation_loss"] for record in outcome.history]
    assert outcome.validation.loss == min(losses)  # though the recipe asks for the accuracy
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["validation_accuracy"] for line in lines} == {None}


def test_a_data_set_of_floats_trains_a_regression_as_its_loader_does():
    own, other = search(2), search(2)
    order = data.epoch_order(64, seed=0, epoch=0)
    recipe = Recipe(iterations=4, batch_size=16)
    trained(own, from_tensors((X, R)), recipe, loss=functional.mse_loss)
    trained(other, batches(X[order], R[order]), recipe, loss=functional.mse_loss)
    assert same(own, other)


class Pair(nn.Module):
    """Two inputs, and the outputs of transformers: a dictionary, with a loss where there are labels."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, u, v, labels=None):
        logits = self.last(torch.relu(self.first(u) + self.second(v)))
        return {"logits": logits, "loss": None if labels is None else functional.cross_entropy(logits, labels)}


def test_several_inputs_and_dictionaries_are_one():
    def pair():
        torch.manual_seed(0)
        return EdgePopup(Pair(), density=0.5, seed=0)

    rows = range(0, 64, 16)
    tuples = [(X[i : i + 16], X.flip(1)[i : i + 16], Y[i : i + 16]) for i in rows]
    named = [{"v": v, "labels": y, "u": u} for u, v, y in tuples]
    nested = [((u, v), y) for u, v, y in tuples]
    searches = [pair() for _ in range(3)]
    outcomes = [
        trained(one, Loaders(batches, batches, batches))
        for one, batches in zip(searches, (tuples, named, nested), strict=True)
    ]
    assert same(searches[0], searches[1])
    assert same(searches[0], searches[2])
    assert outcomes[0].test.correct == outcomes[1].test.correct == outcomes[2].test.correct
    assert outcomes[0].test.loss == pytest.approx(outcomes[1].test.loss)


class Stopping(DataLoader):
    """A loader that asks for a stop at one of the batches of all epochs."""

    def __init__(self, *arguments, after, **options):
        super().__init__(*arguments, **options)
        self.after = [None] * after

    def __iter__(self):
        for batch in super().__iter__():
            if self.after and not self.after[1:]:
                os.kill(os.getpid(), signal.SIGTERM)
            self.after = self.after[1:]
            yield batch


@pytest.mark.parametrize("own", [False, True])
def test_a_run_over_a_shuffling_loader_goes_on_at_the_start_of_an_epoch_as_if_never_stopped(tmp_path, own):
    def shuffling(after=0):
        generator = torch.Generator().manual_seed(5) if own else None
        return Loaders(Stopping(TensorDataset(X, Y), 16, shuffle=True, generator=generator, after=after), [(X, Y)])

    whole, stopped, resumed = search(), search(), search()
    expected = trained(whole, shuffling())
    # after two epochs and a half: the checkpoint is that of the end of the second
    with pytest.raises(Stopped, match="after step 10 of 12; it goes on from step 8"):
        trained(stopped, shuffling(10), folder=tmp_path, checkpoint_seconds=0.0)
    found = trained(resumed, shuffling(), folder=tmp_path, resume=True)
    assert found.history == expected.history
    assert same(whole, resumed)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def test_a_loader_without_a_length_is_counted_in_steps():
    batches = DataLoader(Endless(), 16)
    with pytest.raises(SupermaskError, match="has no length"):
        trained(search(), batches)
    outcome = trained(search(), batches, Recipe(iterations=10, evaluate_every=5))
    assert [record["step"] for record in outcome.history] == [0, 5, 10]


@pytest.mark.parametrize(
    ("batches", "recipe", "message"),
    [
        ([], RECIPE, "has no batches"),
        (loader(X, Y), Recipe(epochs=1, augment=True), "augment=True .* augments by itself"),
        (loader(X, Y), Recipe(epochs=1, warp=0.5), "warp=0.5 .* augments by itself"),
        (iter([(X, Y)]), RECIPE, "cannot be iterated again"),
    ],
)
def test_what_loaders_cannot_do_is_refused(batches, recipe, message):
    with pytest.raises(SupermaskError, match=message):
        trained(search(), batches, recipe)


def text():
    """Return a text of words in a fixed order as ids of its characters, (N, T), and what follows each."""
    written = "the mask says which of the weights stay. " * 40
    characters = sorted(set(written))
    ids = torch.tensor([characters.index(each) for each in written])
    windows = ids.unfold(0, 17, 5)
    return windows[:, :-1], windows[:, 1:], len(characters)


@pytest.mark.parametrize("subject", ["search", "dense"])
def test_a_language_model_learns_characters(subject):
    inputs, targets, vocabulary = text()
    parts = from_tensors(
        (inputs, targets), (inputs[:32], targets[:32]), (inputs[:32], targets[:32]), classes=vocabulary
    )
    torch.manual_seed(0)
    model = CharGPT(vocabulary, 16, units=32)
    way = EdgePopup(model, density=0.5, seed=0) if subject == "search" else Sparse(model, whole_ticket(model, seed=0))
    recipe = Recipe(epochs=6, batch_size=32, optimizer="adam", learning_rate=0.01, best="loss")
    outcome = trained(way, parts, recipe)
    first = outcome.history[0]["validation_loss"]
    assert outcome.test.loss < 0.75 * first  # nats per character
    assert outcome.test.total == 32 * 16  # characters


def test_a_language_model_reads_no_later_token():
    torch.manual_seed(0)
    model, ids = CharGPT(7, 6, units=8).eval(), torch.randint(0, 7, (2, 6))
    changed = ids.clone()
    changed[:, 4] = (ids[:, 4] + 1) % 7
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])
