"""Learning tasks one after another: none of them moves what another learned."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import RECIPE, TASKS, learned_tasks, learned_with_statistics, taught

from supermask import EdgePopup, SupermaskError
from supermask.data.synthetic import read_synthetic
from supermask.data.tasks import permuted
from supermask.masking.schedule import CubicRamp
from supermask.superposition import Fresh, Learner, RunningMean, TaskFreeLearner
from supermask.superposition.learning import HALF, is_known
from supermask.training import Recipe

SHORT = Recipe(iterations=6, batch_size=50, optimizer="adam", learning_rate=3e-3, weight_decay=0.0)

EPSILON = 0.62
"""Between k max nu of data that is new to these small networks, and of data that is not."""


def data():
    return read_synthetic(train=300, test=60)


def test_frozen_weights_stay_as_the_seed_draws_them():
    _, superposition = learned_with_statistics()
    frozen = superposition.tickets[0].random_weights()
    for task, ticket in enumerate(superposition.tickets):
        model = superposition.select(task)
        for name, mask in ticket.masks.items():
            weight = model.get_parameter(name)
            assert torch.equal(weight[mask], frozen[name][mask])
            assert not weight[~mask].any()
            assert not torch.signbit(weight[~mask]).any()
    assert len({ticket.digest for ticket in superposition.tickets}) == 1


def test_learning_a_task_leaves_the_others_to_the_bit():
    learner = Learner(taught())
    inputs = torch.randn(3, 1, 8, 8)
    before = []
    for task in range(3):
        learner.learn(permuted(data(), task), SHORT, seed=task, progress=False)
        before.append(learner.superposition.outputs(inputs, task))
    for task in range(3):
        assert torch.equal(learner.superposition.outputs(inputs, task), before[task])


def test_tasks_have_masks_of_their_own_and_are_learned():
    held, superposition = learned_tasks()
    for one in range(TASKS):
        for other in range(one):
            masks, others = superposition.tickets[one].masks, superposition.tickets[other].masks
            assert all(0.05 < float((masks[name] != others[name]).float().mean()) < 0.95 for name in masks)
    for task in range(TASKS):
        own = permuted(held, task)
        examples = own.test()
        guesses = superposition.outputs(own.normalize(examples.images), task).argmax(1)
        assert float((guesses == examples.labels).float().mean()) > 0.7


def test_a_task_depends_on_its_number_and_not_on_what_was_learned_before():
    def third(first):
        learner = Learner(taught(), partial(HALF, bias="learned"))
        for task in (first, 1, 2):
            learner.learn(permuted(data(), task), SHORT, seed=task, progress=False)
        return learner.superposition.tickets[2]

    one, other = third(0), third(7)
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)
    assert all(torch.equal(one.learned[name], other.learned[name]) for name in one.learned)
    assert one.learned.keys() == {"1.bias", "3.bias"}


def test_the_test_set_is_not_read():
    def refused():
        pytest.fail("the test examples were read")

    task = permuted(replace(data(), read_test=refused), 0)
    Learner(taught()).learn(task, SHORT, seed=0, progress=False)
    TaskFreeLearner(taught()).see(task, SHORT, seed=0, progress=False)


def test_the_model_that_is_given_stays_as_it_is():
    model = taught()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Learner(model).learn(permuted(data(), 0), SHORT, seed=0, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_scheduled_search_begins_each_task_at_its_beginning():
    search = partial(EdgePopup, density=0.2, seed=0, schedule=CubicRamp(steps=4))
    learner = Learner(taught(), search)
    for task in range(2):
        learner.learn(permuted(data(), task), SHORT, seed=0, progress=False)
    assert [ticket.kept for ticket in learner.superposition.tickets] == [round(0.2 * 6400) + round(0.2 * 6000)] * 2
    assert learner.superposition.tickets[1].provenance["steps"] <= SHORT.iterations


def random_network():
    return HALF(taught()).network


def test_fresh_scores_are_of_the_task_and_the_seed():
    network, start, ticket = random_network(), Fresh(), learned_tasks()[1].tickets[0]
    weights = {name: network.weights[name] for name in network.masked}
    first, again = start.scores(weights, [], 0), start.scores(weights, [], 0)
    second, other = start.scores(weights, [ticket], 0), start.scores(weights, [], 1)
    for name, scores in first.items():
        assert torch.equal(scores, again[name])
        for different in (second[name], other[name]):
            # independent, so that a correlation has a standard deviation of 1/sqrt(n); five of them
            correlation = torch.corrcoef(torch.stack([scores.flatten(), different.flatten()]))[0, 1]
            assert abs(float(correlation)) < 5 / scores.numel() ** 0.5


@pytest.mark.parametrize("count", [1, 3])
def test_the_running_mean_ranks_by_how_many_tasks_keep_a_weight(count):
    network, tickets = random_network(), learned_tasks()[1].tickets[:count]
    weights = {name: network.weights[name] for name in network.masked}
    fresh, mean = Fresh().scores(weights, tickets, 0), RunningMean().scores(weights, tickets, 0)
    for name, scores in mean.items():
        kept = sum(ticket.masks[name].int() for ticket in tickets)
        for few in range(count):
            assert scores[kept == few].max() < scores[kept == few + 1].min()
        same = kept == 0
        in_order = scores[same][fresh[name][same].abs().argsort()]
        assert in_order.diff().min() >= 0  # equal where rounding leaves no difference
        assert scores.min() > 0
        torch.testing.assert_close(scores.square().mean(), fresh[name].square().mean())
    first = RunningMean().scores(weights, [], 0)
    assert all(torch.equal(first[name], scores) for name, scores in Fresh().scores(weights, [], 0).items())


def test_a_learner_can_start_from_the_running_mean():
    learner = Learner(taught(), start=RunningMean())
    for _ in range(2):
        learner.learn(permuted(data(), 0), Recipe(iterations=0, batch_size=50), seed=0, progress=False)
    first, second = (ticket.masks for ticket in learner.superposition.tickets)
    assert all(torch.equal(first[name], second[name]) for name in first)  # one mask is its own mean


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.floats(0.01, 1))
def test_data_is_known_where_nu_is_not_uniform(slopes, epsilon):
    nu = torch.tensor(slopes, dtype=torch.float64).neg().softmax(0)
    confidence = len(slopes) * float(nu.max())
    assert is_known(confidence, epsilon) == (not confidence < 1 + epsilon)
    assert not is_known(1.0, epsilon)


def test_a_stream_without_task_names_is_told_apart():
    """Two visits of three tasks: the first allocates a mask each, the second finds them again."""
    own = read_synthetic(train=1000, test=200)
    learner = TaskFreeLearner(taught(), epsilon=EPSILON, least=2)
    seen = [learner.see(permuted(own, task), RECIPE, seed=0, progress=False) for task in (0, 1, 2, 0, 2, 1)]
    assert [one.task for one in seen] == [0, 1, 2, 0, 2, 1]
    assert [one.new for one in seen] == [True] * 3 + [False] * 3
    assert seen[0].confidence is None
    assert all(one.confidence >= 1 + EPSILON for one in seen[3:])
    assert len(learner.superposition) == 3


def test_training_on_a_known_task_goes_on_from_its_scores():
    own = read_synthetic(train=1000, test=200)
    learner = TaskFreeLearner(taught(), epsilon=EPSILON, least=2)
    for task in (0, 1):
        learner.see(permuted(own, task), RECIPE, seed=0, progress=False)
    first, second = learner.superposition.tickets
    seen = learner.see(permuted(own, 0), Recipe(iterations=0, batch_size=50), seed=0, progress=False)
    assert (seen.task, seen.new) == (0, False)
    again = learner.superposition.tickets[0]
    assert all(torch.equal(again.masks[name], mask) for name, mask in first.masks.items())
    assert learner.superposition.tickets[1] is second


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"epsilon": float("nan")}, {"least": 1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match="epsilon is positive, least 2 or more"):
        TaskFreeLearner(taught(), **options)
