"""What is scored at the end of a training, in one read of the test set, against networks scored by hand."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines import Dense
from supermask.data import Examples
from supermask.runs import Job, JobResult, run
from supermask.training import Recipe, State, evaluate, reestimate, train
from supermask.training.batches import Batches, Prepared

RECIPE = Recipe(iterations=12, batch_size=100, evaluate_every=4, best="loss", learning_rate=0.5)


@pytest.fixture
def synthetic():
    return data.load("synthetic", seed=0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10))


def trained(synthetic, **options):
    subject = Dense(network())
    recipe = options.pop("recipe", RECIPE)
    return subject, train(subject, synthetic, recipe, seed=0, progress=False, extended=True, **options)


def slow_score(synthetic, state, examples):
    """Return the score of a state dictionary, with the statistics of the first training batches in stored order."""
    model = network()
    model.load_state_dict(state)
    reestimate(model, Batches(synthetic, RECIPE, seed=0, device=torch.device("cpu")).first(100))
    return evaluate(model, Prepared(synthetic, examples, RECIPE))


def test_the_scores_are_those_of_the_states_and_the_test_set_is_read_once(synthetic, monkeypatch):
    monkeypatch.setattr("supermask.training.batches.TRAIN_EXAMPLES", 250)
    _, whole = trained(synthetic, keep=range(13))
    assert synthetic.test_reads == 1
    subject, outcome = trained(synthetic, recipe=replace(RECIPE, test_at=(3, 6)))
    assert synthetic.test_reads == 2
    test, first = synthetic.read_test(), Examples(synthetic.train.images[:250], synthetic.train.labels[:250])
    best = whole.kept[outcome.best_step].model
    assert outcome.tested == {step: slow_score(synthetic, whole.kept[step].model, test) for step in (3, 6)}
    assert outcome.last_test == slow_score(synthetic, whole.last["model"], test)
    assert (outcome.test, outcome.train) == (slow_score(synthetic, best, test), slow_score(synthetic, best, first))
    assert len({outcome.tested[3], outcome.tested[6], outcome.last_test}) == 3
    assert outcome.train.total == 250
    assert all(tensor.equal(best[name]) for name, tensor in subject.model.named_parameters())


def test_the_last_step_differs_from_the_best_where_training_went_on_too_long(synthetic):
    """The best step is the first, because its rate is so large that every step is worse."""
    _, outcome = trained(synthetic, recipe=replace(RECIPE, best="accuracy", learning_rate=1e4, momentum=0.0))
    assert outcome.best_step < 12
    assert outcome.last_test != outcome.test
    nothing = synthetic.validation.select(torch.arange(0))
    _, outcome = trained(replace(synthetic, validation=nothing))
    assert outcome.best_step == 12
    assert outcome.last_test == outcome.test


def test_nothing_is_chosen_on_what_is_tested_on_the_way(synthetic):
    _, plain = trained(synthetic)
    _, tested = trained(synthetic, recipe=replace(RECIPE, test_at=(1, 2, 11)))
    assert (tested.best_step, tested.history, tested.test) == (plain.best_step, plain.history, plain.test)


def test_without_being_asked_only_the_best_step_is_scored(synthetic):
    outcome = train(Dense(network()), synthetic, RECIPE, seed=0, progress=False)
    assert (outcome.train, outcome.last_test, outcome.tested) == (None, None, {})


def test_examples_that_are_drawn_at_each_step_are_not_scored(synthetic):
    drawn = replace(synthetic, draw=lambda images, labels, _: (images, labels))
    _, outcome = trained(drawn)
    assert outcome.train is None
    assert outcome.last_test is not None


def test_steps_before_the_start_are_left_out_and_steps_beyond_the_end_refused(synthetic):
    asked = replace(RECIPE, test_at=(2, 8))
    _, outcome = trained(synthetic, recipe=asked, start=State(5))
    assert list(outcome.tested) == [8]
    with pytest.raises(SupermaskError, match="test_at=13 is not one of the recipe's 12 steps"):
        trained(synthetic, recipe=replace(RECIPE, test_at=(13,)))


def test_a_resumed_training_is_scored_as_one_that_was_not_stopped(synthetic, tmp_path):
    asked = replace(RECIPE, test_at=(3, 6))
    _, whole = trained(synthetic, recipe=asked, folder=tmp_path)
    _, again = trained(synthetic, recipe=asked, folder=tmp_path, resume=True)
    assert (again.tested, again.last_test, again.train) == (whole.tested, whole.last_test, whole.train)


def test_results_hold_the_scores_and_older_ones_still_read(tmp_path):
    recipe = replace(RECIPE, test_at=(3, 6))
    job = Job("dense", "lenet_300_100", data="synthetic", recipe=recipe)
    result = run(job, tmp_path / "new", progress=False)
    stored = json.loads((tmp_path / "new" / "result.json").read_text())
    assert stored["config"]["recipe"]["test_at"] == [3, 6]
    assert set(result.tested) == {3, 6}
    assert result.gap == result.train.accuracy - result.test.accuracy
    assert {"train", "last_test", "tested"} <= stored.keys()
    older = JobResult.from_json({key: stored[key] for key in stored.keys() - {"train", "last_test", "tested"}})
    assert (older.train, older.last_test, older.tested, older.gap) == (None, None, None, None)
    assert "test_at" not in replace(job, recipe=RECIPE).config()["recipe"]
    # checkpoints of before are still taken up
    plain = run(replace(job, recipe=RECIPE), tmp_path / "plain", progress=False)
    assert plain.tested is None
