"""Rounds of magnitude pruning: the engine against a slow loop of its own, and what each way of going on does."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines import rounds as ways
from supermask.baselines.method import RunContext
from supermask.baselines.sparse import Sparse
from supermask.training import Recipe, Stopped, train

RECIPE = Recipe(iterations=12, batch_size=100, optimizer="adam", learning_rate=3e-3, evaluate_every=4)
METHODS = [
    ways.IMP(),
    ways.IMP(ranking="global"),
    ways.OneShot(),
    ways.IMPRewind(rewind_to=5),
    ways.LearningRateRewind(rewind_to=3),
    ways.FineTune(),
    ways.Han(),
    ways.Han(threshold="layer"),
    ways.ScratchE(),
    ways.ScratchB(),
]


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


class Trainings:
    """The loop, and what it was called with."""

    def __init__(self, synthetic, stop_at=None):
        self.synthetic, self.stop_at, self.calls = synthetic, stop_at, []

    def __call__(self, subject, recipe, *, start, title, **more):
        begun = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
        if len(self.calls) == self.stop_at:
            raise Stopped("stopped")
        outcome = train(subject, self.synthetic, recipe, start=start, progress=False, **more)
        self.calls.append((begun, subject.masks(), recipe, start, outcome))
        return outcome


def work(trainings, density, folder=None):
    return RunContext(
        data=trainings.synthetic,
        recipe=RECIPE,
        seed=0,
        density=density,
        device=torch.device("cpu"),
        build=network,
        loop=trainings,
        stages=folder,
        weights="xavier_normal",
    )


def test_resetting_layer_by_layer_is_what_a_slow_loop_finds(synthetic):
    trainings = Trainings(synthetic)
    found = ways.IMP().run(work(trainings, density=0.45))
    initial = trainings.calls[0][0]
    sizes, rates = {"1.weight": 768, "3.weight": 120}, {"1.weight": 0.2, "3.weight": 0.1}
    left = {name: torch.ones(initial[name].shape, dtype=torch.bool) for name in sizes}
    final = {}
    for place, (begun, masks, _, _, outcome) in enumerate(trainings.calls):
        if place == len(trainings.calls) - 1:
            assert sum(int(mask.sum()) for mask in masks.values()) == round(0.45 * 888)
        for name, size in sizes.items():
            kept = int(masks[name].sum())
            if place < len(trainings.calls) - 1:
                assert abs(kept - size * (1 - rates[name]) ** place) < 1
            if place:  # the smallest of those left went
                ranked = sorted(
                    (-abs(float(final[name].flatten()[spot])), spot)
                    for spot in range(size)
                    if left[name].flatten()[spot]
                )
                expected = torch.zeros(size, dtype=torch.bool)
                expected[[spot for _, spot in ranked[:kept]]] = True
                assert masks[name].flatten().equal(expected)
            assert begun[name].equal(torch.where(masks[name], initial[name], 0.0))
        left, final = masks, outcome.last["model"]
    assert [record.round for record in found.details.rounds] == list(range(len(trainings.calls)))
    assert len(trainings.calls) == 1 + math.ceil(math.log(0.45) / math.log(0.8))


def test_resetting_by_one_ranking_is_what_a_slow_loop_finds(synthetic):
    """The layers compete: of all the weights left, each round keeps the four fifths that ended largest."""
    trainings, left, final = Trainings(synthetic), range(888), []
    ways.IMP(ranking="global").run(work(trainings, density=0.45))

    def flat(tensors):
        return torch.cat([tensors["1.weight"].flatten(), tensors["3.weight"].flatten()]).tolist()

    initial = flat(trainings.calls[0][0])
    for place, (begun, masks, _, _, outcome) in enumerate(trainings.calls):
        kept = round(888 * max(0.8**place, 0.45))
        left = sorted(left, key=lambda spot: (-abs(final[spot]), spot))[:kept] if place else left
        assert flat(masks) == [spot in set(left) for spot in range(888)]
        assert flat(begun) == [weight if kept else 0.0 for weight, kept in zip(initial, flat(masks), strict=True)]
        final = flat(outcome.last["model"])
    assert place == 4
    assert abs(float(masks["1.weight"].float().mean()) - 0.45) > 0.01, "else layer by layer does the same"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{method.ladder.whole}")
@pytest.mark.parametrize("density", [0.3, 0.64])
def test_every_way_ends_exact_and_monotone_with_its_weights_at_zero(synthetic, method, density):
    trainings = Trainings(synthetic)
    found = method.run(work(trainings, density))
    ticket = found.subject.ticket()
    assert ticket.kept == round(density * 888)
    before = None
    for _, masks, _, _, outcome in trainings.calls:
        for name, mask in masks.items():
            assert not outcome.last["model"][name][~mask].any()
            assert before is None or not bool((mask & ~before[name]).any())
        before = masks
    counts = [record.kept for record in found.details.rounds]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == ticket.kept
    assert len(counts) == (2 if method.one_shot else len(counts))
    assert set(found.scores) == {"1.weight", "3.weight"}


def last_two(synthetic, method, density=0.6):
    trainings = Trainings(synthetic)
    method.run(work(trainings, density))
    return trainings.calls[0], trainings.calls[-2], trainings.calls[-1]


def pruned(state, masks):
    return {name: torch.where(masks[name], tensor, 0.0) if name in masks else tensor for name, tensor in state.items()}


def same(found, expected):
    return all(found[name].equal(tensor) for name, tensor in expected.items())


def test_rewinding_goes_back_to_the_weights_and_the_schedule_of_the_step(synthetic):
    dense, _, (begun, masks, recipe, start, outcome) = last_two(synthetic, ways.IMPRewind(rewind_to=5))
    whole = Sparse(network(), work(Trainings(synthetic), 1.0).whole)
    states = []

    def step():
        Sparse.step(whole)
        states.append({name: tensor.clone() for name, tensor in whole.model.state_dict().items()})

    whole.step = step
    train(whole, synthetic, RECIPE, seed=0, progress=False)
    assert same(begun, pruned(states[4], masks))
    assert (start, recipe) == (5, RECIPE)
    assert not same(begun, pruned(dense[0], masks))
    assert outcome.history[0]["step"] == 5


def test_by_default_two_per_cent_of_the_steps_are_rewound_to(synthetic):
    asked = replace(work(Trainings(synthetic), 0.5), recipe=replace(RECIPE, iterations=149))
    assert ways.IMPRewind().keeps_step(asked) == 3


def test_learning_rate_rewinding_keeps_the_weights_and_repeats_the_schedule(synthetic):
    _, before, (begun, masks, recipe, start, _) = last_two(synthetic, ways.LearningRateRewind(rewind_to=3))
    assert same(begun, pruned(before[4].last["model"], masks))
    assert (start, recipe) == (3, RECIPE)


def test_fine_tuning_keeps_the_weights_at_a_small_constant_rate(synthetic):
    _, before, (begun, masks, recipe, start, outcome) = last_two(synthetic, ways.FineTune(slower=0.01))
    assert same(begun, pruned(before[4].last["model"], masks))
    assert (start, recipe.decay) == (0, "constant")
    assert [record["learning_rate"] for record in outcome.history] == pytest.approx([3e-5] * 4)


def test_han_ranks_by_deviations_of_a_layer_and_lessens_dropout(synthetic):
    trainings = Trainings(synthetic)
    asked = replace(work(trainings, 0.5), recipe=replace(RECIPE, dropout=0.4))
    ways.Han().run(asked)
    dense, (begun, masks, recipe, _, _) = trainings.calls
    final = dense[4].last["model"]
    quality = {name: final[name].abs() / final[name].std(correction=0) for name in masks}
    least = min(float(quality[name][mask].min()) for name, mask in masks.items())
    most = max(float(quality[name][~mask].max()) for name, mask in masks.items())
    assert least >= most  # one quality parameter for all layers
    assert same(begun, pruned(final, masks))
    assert recipe.dropout == pytest.approx(0.4 * math.sqrt(0.5))
    assert recipe.learning_rate == pytest.approx(3e-4)


@pytest.mark.parametrize(("method", "steps"), [(ways.ScratchE(), 12), (ways.ScratchB(), 20)])
def test_scratch_draws_other_weights_for_the_same_masks(synthetic, method, steps):
    dense, _, (begun, masks, _, _, outcome) = last_two(synthetic, method)
    assert not (begun["1.weight"] == dense[0]["1.weight"])[masks["1.weight"]].any()
    assert outcome.steps == steps
    assert begun["1.weight"].std() == pytest.approx(dense[0]["1.weight"][masks["1.weight"]].std(), rel=0.5)


def test_scratch_b_takes_twice_the_steps_at_most(synthetic):
    trainings = Trainings(synthetic)
    ways.ScratchB().run(work(trainings, 0.1))
    assert trainings.calls[-1][4].steps == 24


def test_a_stopped_ladder_goes_on_to_the_same_end(synthetic, tmp_path):
    whole = Trainings(synthetic)
    expected = ways.IMPRewind(rewind_to=5).run(work(whole, 0.5))
    with pytest.raises(Stopped):
        ways.IMPRewind(rewind_to=5).run(work(Trainings(synthetic, stop_at=2), 0.5, tmp_path))
    found = ways.IMPRewind(rewind_to=5).run(work(Trainings(synthetic), 0.5, tmp_path))
    assert same(found.subject.model.state_dict(), expected.subject.model.state_dict())
    assert found.subject.masks()["1.weight"].equal(expected.subject.masks()["1.weight"])
    assert found.outcome.test == expected.outcome.test


def test_whole_rounds_are_trained_once_for_all_densities(synthetic, tmp_path):
    ways.IMP().run(work(Trainings(synthetic), 0.5, tmp_path))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("round-0?/metrics.jsonl")}
    ways.IMP().run(work(Trainings(synthetic), 0.3, tmp_path))
    assert len(stamps) == 4
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_all_weights_kept_is_the_dense_network(synthetic):
    trainings = Trainings(synthetic)
    found = ways.IMP().run(work(trainings, 1.0))
    assert len(trainings.calls) == 1
    assert found.subject.ticket().density == 1.0


def test_a_step_beyond_the_training_cannot_be_rewound_to(synthetic):
    with pytest.raises(SupermaskError, match="rewind to step 13: the training has 12 steps"):
        ways.IMPRewind(rewind_to=13).run(work(Trainings(synthetic), 0.5))


class Reviving(Trainings):
    """A loop after which pruned weights are the largest of all, as if the optimizer had moved them."""

    def __call__(self, subject, *args, **more):
        outcome = super().__call__(subject, *args, **more)
        for name, mask in subject.masks().items():
            outcome.last["model"][name][~mask] = 9.0
        return outcome


def test_what_was_pruned_does_not_come_back_whatever_its_weight(synthetic):
    trainings = Reviving(synthetic)
    ways.IMP().run(work(trainings, 0.5))
    for before, after in pairwise(masks for _, masks, *_ in trainings.calls):
        assert not any(bool((after[name] & ~before[name]).any()) for name in after)


def test_deviations_are_those_of_the_weights_that_are_left():
    left = torch.tensor([0.0, 3.0, 0.0, -1.0, 0.0])
    scores = ways.Han().scores({"a": left, "b": torch.zeros(3), "c": torch.tensor([2.0, 2.0])})
    assert scores["a"].tolist() == pytest.approx([0, 1.5, 0, 0.5, 0])  # mean 1, deviations of 2
    assert scores["b"].tolist() == [0, 0, 0]
    assert scores["c"].tolist() == [2, 2]  # without a deviation, the magnitudes
