"""Trainings that start from the state of another one, and what a training keeps and records of its weights."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines import Dense
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.runs import Job, RunFolder, run
from supermask.training import Recipe, State, train
from supermask.training.telemetry import movement

RECIPE = Recipe(iterations=12, batch_size=100, evaluate_every=4, augment=True, dropout=0.0)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def lenet():
    layers = nn.Flatten(), nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10)
    return nn.Sequential(*layers)


def trained(synthetic, **options):
    subject = Dense(lenet())
    return train(subject, synthetic, RECIPE, seed=options.pop("seed", 0), progress=False, **options)


def same(first, second):
    return all(tensor.equal(second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("step", [0, 5, 12])
def test_the_rest_from_a_kept_state_is_the_training_to_the_bit(synthetic, step):
    whole = trained(synthetic, keep=(step,))
    rest = trained(synthetic, start=whole.kept[step])
    assert same(whole.last["model"], rest.last["model"])
    assert [record["step"] for record in rest.history] == [*dict.fromkeys([step, *[s for s in (4, 8, 12) if s > step]])]


def test_without_the_momentum_or_with_another_order_it_is_another_training(synthetic):
    whole = trained(synthetic, keep=(5,))
    fresh = State(5, whole.kept[5].subject)
    assert not same(whole.last["model"], trained(synthetic, start=fresh).last["model"])
    copy = trained(synthetic, start=whole.kept[5], seed=1)
    assert not same(whole.last["model"], copy.last["model"])


def test_a_kept_state_stays_as_it_was_whatever_starts_from_it(synthetic):
    state = trained(synthetic, keep=(5,)).kept[5]
    before = deepcopy(state)
    trained(synthetic, start=state, seed=1)
    assert state.digest() == before.digest()
    assert same(before.model, state.model)


def test_a_rescheduled_state_takes_the_whole_recipe(synthetic):
    state = trained(synthetic, keep=(5,)).kept[5].rescheduled()
    found = trained(synthetic, start=state)
    assert [record["step"] for record in found.history] == [0, 4, 8, 12]
    assert found.history[-1]["learning_rate"] == RECIPE.settle().rate(11, 12)


def test_a_state_without_a_subject_starts_from_what_the_subject_holds(synthetic):
    state = trained(synthetic, keep=(5,)).kept[5]
    ticket = whole_ticket(lenet(), seed=0)
    half = {name: torch.arange(mask.numel()).reshape(mask.shape) % 2 == 0 for name, mask in ticket.masks.items()}
    subject = Sparse(lenet(), ticket)
    subject.set_masks(half)
    subject.load_weights(state.model)
    outcome = train(subject, synthetic, RECIPE, seed=0, start=state.onto(), progress=False)
    assert all(mask.equal(outcome.last["masks"][name]) for name, mask in half.items())
    assert not any(bool(outcome.last["model"][name][~mask].any()) for name, mask in half.items())


def test_a_resumed_training_keeps_the_same_states_and_records(synthetic, tmp_path):
    whole = trained(synthetic, keep=(3, 9), telemetry=True)

    class Stopping(Dense):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 6:
                raise KeyboardInterrupt

    tmp_path.mkdir(exist_ok=True)
    options = {"seed": 0, "progress": False, "keep": (3, 9), "telemetry": True, "folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(lenet()), synthetic, RECIPE, checkpoint_seconds=0.0, **options)
    resumed = train(Dense(lenet()), synthetic, RECIPE, resume=True, **options)
    assert {step: state.digest() for step, state in resumed.kept.items()} == {
        step: state.digest() for step, state in whole.kept.items()
    }
    assert resumed.history == whole.history
    with pytest.raises(SupermaskError, match="another run"):
        train(Dense(lenet()), synthetic, RECIPE, resume=True, **{**options, "keep": (3,)})
    with pytest.raises(SupermaskError, match="another run"):
        train(Dense(lenet()), synthetic, RECIPE, resume=True, start=whole.kept[3], **{**options, "keep": ()})


@pytest.mark.parametrize("step", [-1, 13])
def test_a_step_beyond_the_steps_cannot_be_kept(synthetic, step):
    with pytest.raises(SupermaskError, match=f"keep={step} is not one"):
        trained(synthetic, keep=(step,))


def slow_movement(before, now):
    """Return the movement weight by weight, in Python's numbers."""
    pairs = [
        (a, b)
        for old, new in zip(before, now, strict=True)
        for a, b in zip(old.flatten().tolist(), new.flatten().tolist(), strict=True)
        if a or b
    ]
    product = math.fsum(a * b for a, b in pairs)
    norms = math.sqrt(math.fsum(a * a for a, _ in pairs)) * math.sqrt(math.fsum(b * b for _, b in pairs))
    return (
        math.fsum(abs(b) for _, b in pairs) / max(1, len(pairs)),
        sum((a > 0) - (a < 0) != (b > 0) - (b < 0) for a, b in pairs) / max(1, len(pairs)),
        math.sqrt(math.fsum((b - a) ** 2 for a, b in pairs)),
        product / norms if norms else 0.0,
    )


def test_telemetry_equals_a_slow_recomputation_from_the_kept_states(synthetic):
    found = trained(synthetic, keep=(0, 4, 8, 12), telemetry=True)
    names = "1.weight", "4.weight"
    first = [found.kept[0].model[name] for name in names]
    for record in found.history:
        now = [found.kept[record["step"]].model[name] for name in names]
        shown = record["telemetry"]
        values = [shown[key] for key in ("magnitude", "signs_changed", "distance", "cosine")]
        assert values == pytest.approx(slow_movement(first, now), rel=1e-9)
        last = [found.kept[12].model[name] for name in names]
        to_final = slow_movement(now, last)
        assert [shown["final_distance"], shown["final_cosine"]] == pytest.approx(to_final[2:], rel=1e-9)
        # every 222nd of 2,220 weights
        assert list(shown["weights"]) == torch.cat([weight.flatten() for weight in now])[::222][:10].tolist()
    assert found.history[0]["telemetry"]["signs_changed"] == found.history[0]["telemetry"]["distance"] == 0.0
    assert found.history[0]["telemetry"]["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found.history[0]["telemetry"]["gradient"] is None


def test_the_recorded_gradient_is_that_of_the_last_batch(synthetic):
    class Noted(Dense):
        norms = ()

        def step(self):
            weights = [parameter for parameter in self.parameters() if parameter.ndim >= 2]
            self.norms += (math.sqrt(sum(float(weight.grad.double().square().sum()) for weight in weights)),)

    subject = Noted(lenet())
    found = train(subject, synthetic, RECIPE, seed=0, progress=False, telemetry=True)
    recorded = [record["telemetry"]["gradient"] for record in found.history[1:]]
    assert recorded == pytest.approx([subject.norms[step - 1] for step in (4, 8, 12)], rel=1e-5)


def test_weights_that_are_zero_before_and_now_do_not_count():
    before, now = torch.tensor([[0.0, 1.0, -2.0, 0.0]]), torch.tensor([[0.0, -1.0, -2.0, 4.0]])
    found = movement([before], [now])
    assert found.magnitude == pytest.approx(7 / 3)
    assert found.signs_changed == pytest.approx(2 / 3)
    assert movement([], []).cosine == 0.0


@pytest.mark.parametrize("changed", ["seed", "split_seed", "order_seed"])
def test_each_seed_of_a_job_changes_what_it_names_and_nothing_else(tmp_path, changed):
    base = Job("dense", data="synthetic", seed=3, recipe=Recipe(iterations=3, batch_size=50))
    whole = {"seed": 3, "split_seed": 3, "order_seed": 3}
    fixed, other = (Job(**{**vars(base), **whole, **change}) for change in ({}, {changed: 4}))
    assert fixed.config() != base.config()
    first, second = (run(job, tmp_path / str(n), progress=False) for n, job in enumerate((fixed, other)))
    assert run(base, tmp_path / "base", progress=False).test == first.test
    assert first.history[0].validation_loss != second.history[0].validation_loss or changed == "order_seed"
    assert first.history[-1].validation_loss != second.history[-1].validation_loss
    assert RunFolder(tmp_path / "1").finished
