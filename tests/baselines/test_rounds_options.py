"""Rounds that end at a drop, at early stopping or after fewer steps, and rewinding to a stable step: by slow loops."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import SupermaskError, data
from supermask.baselines import rounds as ways
from supermask.baselines.method import RunContext
from supermask.baselines.rounds.engine import Round, RoundsDetails
from supermask.judge.barrier import barrier
from supermask.runs import METHODS, Job, JobResult, run
from supermask.training import Recipe, State, train

RECIPE = Recipe(iterations=12, batch_size=100, optimizer="adam", learning_rate=3e-2, evaluate_every=3, weight_decay=0.0)
SIZES = {"1.weight": 768, "3.weight": 120}
GLOBAL = ways.IMP(ranking="global")


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


@pytest.fixture
def synthetic():
    return data.load("synthetic", seed=0)


class Trainings:
    """The loop, and what it was called with; what a training of the dense network ends with may be changed."""

    def __init__(self, synthetic, change=None):
        self.synthetic, self.change, self.calls = synthetic, change, []

    def __call__(self, subject, recipe, *, start, title, **more):
        begun = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
        outcome = train(subject, self.synthetic, recipe, start=start, progress=False, **more)
        if self.change:
            self.change(outcome, start, more["seed"])
        best = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
        self.calls.append((begun, subject.masks(), recipe, start, outcome, best))
        return outcome


def work(trainings, density, recipe=RECIPE, folder=None):
    return RunContext(
        data=trainings.synthetic,
        recipe=recipe,
        seed=0,
        density=density,
        device=torch.device("cpu"),
        build=network,
        loop=trainings,
        stages=folder,
        weights="xavier_normal",
    )


def flat(tensors):
    return torch.cat([tensors[name].flatten() for name in SIZES]).tolist()


def largest(weights, left, kept):
    """Return the places of the largest weights among those left."""
    return sorted(left, key=lambda spot: (-abs(weights[spot]), spot))[:kept]


@torch.no_grad()
def slow_validation(synthetic, weights):
    """Return the validation accuracy and loss of a state dictionary."""
    model = network()
    model.load_state_dict(weights)
    logits = model(synthetic.normalize(synthetic.validation.images))
    labels = synthetic.validation.labels
    return float((logits.argmax(1) == labels).double().mean()), float(cross_entropy(logits, labels))


def test_rounds_end_before_the_first_that_drops_further(synthetic):
    """The whole ladder is trained, and its accuracies are looked at afterwards."""
    trainings = Trainings(synthetic)
    GLOBAL.run(work(trainings, 0.01))
    accuracies = [slow_validation(synthetic, best)[0] for *_, best in trainings.calls]
    drops = [100 * (accuracies[0] - accuracy) for accuracy in accuracies]
    allowed = 10.0
    expected = next(place for place, drop in enumerate(drops) if drop > allowed) - 1
    assert 0 < expected < len(drops) - 2
    again = Trainings(synthetic)
    found = replace(GLOBAL, stop_drop=allowed).run(work(again, 0.01))
    assert len(again.calls) == expected + 2
    assert found.details.reached == expected
    assert found.subject.ticket().kept == found.details.rounds[expected].kept
    assert found.subject.ticket().density > 0.01
    assert found.outcome.validation.accuracy == accuracies[expected]
    assert found.details.cost == expected + 2  # the training that dropped too far was needed too


def test_without_a_drop_the_density_ends_the_rounds(synthetic):
    found = replace(GLOBAL, stop_drop=100.0).run(work(Trainings(synthetic), 0.5))
    assert found.details.reached is None
    assert found.subject.ticket().kept == 444


def test_a_drop_of_exactly_the_points_is_allowed(synthetic):
    def records(*accuracies):
        return [Round(0, 1, 1.0, 0.0, accuracy, 1, 1, 0.0) for accuracy in accuracies]

    assert not replace(GLOBAL, stop_drop=25.0)._dropped(records(0.75, 0.5))
    assert replace(GLOBAL, stop_drop=24.0)._dropped(records(0.75, 0.5))
    assert not GLOBAL._dropped(records(0.75, 0.0))


@pytest.mark.parametrize("method", [GLOBAL, ways.LearningRateRewind()], ids=lambda method: method.name)
def test_early_stopping_ranks_the_weights_of_least_validation_loss(synthetic, method):
    trainings, left, best = Trainings(synthetic), range(888), []
    too_fast = replace(RECIPE, learning_rate=0.3, decay="constant")  # so that some losses rise again
    found = replace(method, early_stopping=True).run(work(trainings, 0.4, too_fast))
    for place, (begun, masks, recipe, _, outcome, ended) in enumerate(trainings.calls):
        kept = round(888 * max(0.8**place, 0.4))
        left = largest(best, left, kept) if place else left
        assert flat(masks) == [spot in set(left) for spot in range(888)]
        if method is not GLOBAL and place:  # the weights that stay are those of the stop too
            assert flat(begun) == [weight if spot in set(left) else 0.0 for spot, weight in enumerate(best)]
        least = min(outcome.history, key=lambda record: record["validation_loss"])
        assert outcome.best_step == least["step"]
        assert slow_validation(synthetic, ended)[1] == pytest.approx(least["validation_loss"], rel=1e-5)
        assert recipe.best == "loss"
        best = flat(ended)
    stops = [record.best_step for record in found.details.rounds]
    assert min(stops) < 12, "else the last step does the same"
    assert found.details.cost == pytest.approx(sum(stops) / 12)


def test_rounds_but_the_last_are_shorter(synthetic, tmp_path):
    recipe = replace(RECIPE, decay="step", drops=(0.5,), test_at=(10,))
    trainings, left, final = Trainings(synthetic), range(888), []
    found = replace(GLOBAL, round_steps=4).run(work(trainings, 0.5, recipe, tmp_path))
    for place, (begun, masks, own, _, outcome, _) in enumerate(trainings.calls):
        whole = place == len(trainings.calls) - 1
        assert outcome.steps == (12 if whole else 4)
        assert list(outcome.tested) == ([10] if whole else [])
        assert own.rate(2, outcome.steps) == pytest.approx(3e-2 if whole else 3e-3)  # the schedule is shortened too
        left = largest(final, left, round(888 * max(0.8**place, 0.5))) if place else left
        assert flat(masks) == [spot in set(left) for spot in range(888)]
        assert begun["1.weight"].equal(torch.where(masks["1.weight"], trainings.calls[0][0]["1.weight"], 0.0))
        final = flat(outcome.last["model"])
    assert len(trainings.calls) == 5
    assert found.details.cost == pytest.approx((4 * 4 + 12) / 12)
    # a whole last round is not taken for the shorter one of a lower density
    lower = replace(GLOBAL, round_steps=4).run(work(Trainings(synthetic), 0.8**4, recipe, tmp_path))
    again = replace(GLOBAL, round_steps=4).run(work(Trainings(synthetic), 0.8**5, recipe, tmp_path))
    assert [record.steps for record in lower.details.rounds] == [4] * 4 + [12]
    assert [record.steps for record in again.details.rounds] == [4] * 5 + [12]


def test_a_rewound_round_costs_what_is_left_of_it(synthetic):
    found = ways.IMPRewind(rewind_to=3).run(work(Trainings(synthetic), 0.64))
    assert [record.taken for record in found.details.rounds] == [12, 9, 9]
    assert found.details.cost == pytest.approx(30 / 12)


def turned(before):
    """Return a change of trainings: those that start before a step end with their hidden units in another order."""

    def change(outcome, start, seed):
        if isinstance(start, State) and start.step < before:
            order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
            model = outcome.last["model"]
            model["1.weight"], model["1.bias"] = model["1.weight"][order], model["1.bias"][order]
            model["3.weight"] = model["3.weight"][:, order]

    return change


LONG = replace(RECIPE, iterations=100, learning_rate=3e-3, evaluate_every=50)


@pytest.mark.parametrize("before", [0, 2, 16])
def test_the_scan_takes_the_first_stable_step_and_reads_no_test_set(synthetic, before):
    """Networks with their hidden units in other orders are equally good, with a barrier in between."""
    trainings = Trainings(synthetic, turned(before))
    context = work(trainings, 0.8, LONG)
    found = ways.IMPRewind(rewind_to="stable").run(context)
    steps = [step for step in (0, 1, 2, 4, 8, 16) if step <= before]  # 0.5 % of 100 steps is rounded to 0
    assert [tried.step for tried in found.details.scan] == steps
    assert [tried.height < 0.02 for tried in found.details.scan] == [False] * (len(steps) - 1) + [True]
    dense, *_, (begun, masks, _, start, _, _) = trainings.calls
    assert start == steps[-1]
    early = dense[4].kept[start].model
    assert begun["1.weight"].equal(torch.where(masks["1.weight"], early["1.weight"], 0.0))
    copies = trainings.calls[1:-1]
    assert len(copies) == 2 * len(steps)
    assert synthetic.test_reads == len(trainings.calls), "each training reads it once, and no barrier does"
    taken = 100 + sum(2 * (100 - step) for step in steps) + 100 - start
    assert found.details.cost == pytest.approx(taken / 100)


def test_a_barrier_on_the_validation_examples_is_of_those_alone(synthetic):
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        ends.append(network())
    found = barrier(*ends, synthetic, 3, part="validation")
    slow = [1 - slow_validation(synthetic, end.state_dict())[0] for end in reversed(ends)]
    assert [found.errors[0], found.errors[-1]] == pytest.approx(slow)
    assert synthetic.test_reads == 0


def test_a_network_that_is_stable_nowhere_is_refused(synthetic):
    context = work(Trainings(synthetic, turned(17)), 0.8, LONG)
    with pytest.raises(SupermaskError, match="stable at no step up to 16, where the barrier is"):
        ways.IMPRewind(rewind_to="stable").run(context)


def test_what_chooses_needs_validation_examples(synthetic):
    without = replace(synthetic, validation=synthetic.validation.select(torch.arange(0)))
    for method in (
        replace(GLOBAL, stop_drop=1.0),
        replace(GLOBAL, early_stopping=True),
        ways.IMPRewind(rewind_to="stable"),
    ):
        with pytest.raises(SupermaskError, match="needs validation examples; synthetic has none here"):
            method.run(work(Trainings(without), 0.8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stop_drop": -1.0}, "stop_drop=-1.0 is out of range"),
        ({"round_steps": 0}, "round_steps=0 is too small"),
        ({"round_steps": 5, "stop_drop": 1.0}, "stop_drop compares whole trainings"),
        ({"rewind_to": "stable", "round_steps": 5}, "rewind_to=stable measures whole trainings"),
        ({"rewind_to": "later"}, "rewind_to='later' is unknown"),
        ({"rewind_to": -1}, "rewind_to=-1 is negative"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(SupermaskError, match=words):
        ways.IMPRewind(**options)


def test_the_config_of_a_run_names_the_new_options_only_where_they_are_given():
    assert Job("imp").config()["options"] == {
        "rate": 0.2,
        "conv_rate": None,
        "output_rate": None,
        "ranking": "layer",
    }
    given = Job("imp", options=ways.IMP(stop_drop=2.0, early_stopping=True)).config()["options"]
    assert (given["stop_drop"], given["early_stopping"]) == (2.0, True)
    assert "round_steps" not in given
    for name, method in METHODS.items():
        assert not {"stop_drop", "early_stopping", "round_steps"} & Job(name).config().get("options", {}).keys()
        assert method.recorded_options().keys() <= method.own_options().keys()


def test_runs_that_differ_in_the_drop_alone_share_their_trainings(tmp_path):
    job = Job("imp", "lenet_300_100", data="synthetic", recipe=replace(RECIPE, iterations=6), options=GLOBAL)
    job = replace(job, search=replace(job.search, density=0.7))
    first = run(job, tmp_path / "first", stages=tmp_path / "stages", progress=False)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/*/*/metrics.jsonl")}
    dropping = replace(job, options=replace(GLOBAL, stop_drop=100.0))
    second = run(dropping, tmp_path / "second", stages=tmp_path / "stages", progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/*/*/metrics.jsonl")} == stamps
    assert second.test == first.test
    stored = json.loads((tmp_path / "second" / "result.json").read_text())
    assert all({"train_accuracy", "last_test_accuracy", "taken"} <= record.keys() for record in stored["rounds"])
    assert JobResult.from_json(stored).cost == 3.0
    record = first.detail(RoundsDetails).rounds[-1]
    assert record.gap == record.train_accuracy - record.test_accuracy


def test_details_of_older_runs_still_have_a_cost():
    older = RoundsDetails((Round(0, 9, 1.0, 0.5, 0.5, 10, 10, 1.0), Round(1, 7, 0.8, 0.5, 0.5, 10, 10, 1.0)))
    assert (older.cost, older.rounds[0].gap) == (2.0, None)
