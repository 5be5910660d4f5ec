"""Studies of one small network: what they share, what they compare, and what their reports conclude."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import pearsonr

from experiments import early_phase, instability, jackpot, pretraining, three_starts, ticket_rate, ticket_stability
from experiments.framework.small import CIFAR, Small
from supermask import data
from supermask.baselines import sparse
from supermask.baselines.rounds import IMP, OneShot
from supermask.judge.barrier import Barrier
from supermask.judge.perturbations import Noised, Recombined
from supermask.runs import Job
from supermask.training import Recipe

RECIPE = Recipe(iterations=12, batch_size=32, evaluate_every=12, learning_rate=0.05)
DIGITS = Small(Job(method="dense", model="lenet_300_100", width=0.1, data="digits", recipe=RECIPE), train=200, test=80)
CONVOLUTIONS = replace(DIGITS, job=replace(DIGITS.job, model="resnet8", width=0.25))


def done(study, path):
    return study.run(path, device="cpu", data_folder=None)


def test_a_seed_changes_the_weights_and_not_the_examples():
    first, second = (DIGITS.seeded(seed) for seed in (0, 1))
    assert torch.equal(first.data(None).train.images, second.data(None).train.images)
    assert first.config()["job"]["seed"] == 0
    assert second.config()["job"]["seed"] == 1
    assert len(first.data(None).train) == 200
    assert CIFAR.size == 16


def test_studies_of_one_seed_share_the_training_that_leads_to_their_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(instability, "EXAMPLES", 100)
    trained = []
    loop = sparse.Sparse.step
    monkeypatch.setattr(sparse.Sparse, "step", lambda network: (trained.append(1), loop(network))[1])
    studies = [instability.FromStep(DIGITS, 0, step, (0, 4, 12)) for step in (4, 12)]
    early, late = (done(study, tmp_path / f"from-{study.step}") for study in studies)
    assert len(trained) == 12 + 3 * 8 + 0
    assert [len(result.barriers) for result in (early, late)] == [3, 3]
    assert [pair.height for pair in late.barriers] == [0.0] * 3
    assert [pair.distance for pair in late.barriers] == [0.0] * 3
    assert all(pair.distance > 0 for pair in early.barriers)
    assert done(studies[0], tmp_path / "from-4") == early
    assert len(trained) == 12 + 3 * 8


def test_a_ticket_its_shuffled_masks_and_other_weights_are_three_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(ticket_stability, "EXAMPLES", 100)
    found = {
        what: done(ticket_stability.Pruned(DIGITS, 0, 4, 1, what), tmp_path / what)
        for what in ("ticket", "random", "reinitialised")
    }
    assert len({result.barrier.distance for result in found.values()}) == 3
    assert len({result.dense for result in found.values()}) == 1


def test_tickets_of_two_steps_are_trainings_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(ticket_stability, "EXAMPLES", 100)
    early, late = (done(ticket_stability.Pruned(DIGITS, 0, step, 1, "ticket"), tmp_path / f"{step}") for step in (0, 8))
    assert early.barrier.distance > late.barrier.distance


def test_one_shot_tickets_are_not_those_of_the_rounds(tmp_path, monkeypatch):
    monkeypatch.setattr(ticket_rate, "ROUNDS", 2)
    monkeypatch.setattr(ticket_rate, "TRAINED_AT", (0.05,))
    study = ticket_rate.TicketRates(DIGITS, 0)
    context = study.seeded.context(tmp_path / "a", device="cpu", data_folder=None)
    tickets = [
        way.run(replace(context.within(name), density=0.64)).subject.ticket()
        for name, way in (("iterative", IMP(ranking="global")), ("one-shot", OneShot(ranking="global")))
    ]
    assert tickets[0] != tickets[1]
    done(study, tmp_path / "b")


def pair(height, error, dense):
    barrier = Barrier((0.0, 0.5, 1.0), (error, error + height, error), (0.0, 0.0, 0.0), 1.0, 0.1)
    return [ticket_stability.StabilityResult(barrier=barrier, dense=dense)]


def test_a_ticket_is_stable_from_the_first_step_after_which_all_are():
    rows = {
        "Data, k = 0, ticket, 51.2%": pair(0.05, 0.4, 0.3),
        "Data, k = 20, ticket, 51.2%": pair(0.01, 0.4, 0.3),
        "Data, k = 100, ticket, 51.2%": pair(0.03, 0.3, 0.3),
        "Data, k = 300, ticket, 51.2%": pair(0.01, 0.3, 0.3),
        "Data, k = 300, random, 51.2%": pair(0.5, 0.9, 0.3),
    }
    said = ticket_stability.EXPERIMENT.conclusion(rows)
    assert "tickets of 51.2%: stable from k = 300, matching from k = 100." in said
    assert "tickets of 32.8%: stable from k = none that was measured" in said


def test_an_early_state_is_changed_as_its_row_says(tmp_path, monkeypatch):
    monkeypatch.setattr(early_phase, "STEP", 4)
    monkeypatch.setattr(early_phase, "DENSITY", 0.64)
    same, signs, noise, redrawn = (
        done(study, tmp_path / name)
        for name, study in {
            "same": early_phase.Changed(DIGITS, 0),
            "signs": early_phase.Changed(DIGITS, 0, Recombined("k", "0")),
            "noise": early_phase.Changed(DIGITS, 0, Noised(2.0)),
            "redrawn": early_phase.Changed(DIGITS, 0, Recombined("0", "0"), redrawn=True),
        }.items()
    )
    assert (same.deviation, same.signs) == (0.0, 0.0)
    assert signs.signs == 0.0
    assert signs.deviation > 0.0
    assert noise.deviation == pytest.approx(2.0, rel=0.2)  # some hundred survivors: 5 % is a standard deviation
    assert 0.3 < redrawn.signs < 0.7


def early(deviation, accuracy):
    return [early_phase.EarlyResult(accuracy=accuracy, deviation=deviation, signs=0.0)]


def test_deviation_and_accuracy_are_correlated_over_the_rows_that_change_something():
    rows = {"weights of k": early(0.0, 0.9), "a": early(0.5, 0.8), "b": early(1.0, 0.75), "c": early(2.0, 0.5)}
    found = pearsonr([0.5, 1.0, 2.0], [0.8, 0.75, 0.5])
    assert f"3 rows: r = {found.statistic:.3f}, p = {found.pvalue:.2g}" in early_phase.EXPERIMENT.conclusion(rows)
    assert "Too few rows" in early_phase.EXPERIMENT.conclusion({"a": rows["a"]})


def rate(ticket, dense=0.9):
    same = jackpot.Accuracies(validation=ticket, test=ticket)
    worse = jackpot.Accuracies(validation=ticket - 0.1, test=ticket - 0.1)
    whole = jackpot.Accuracies(validation=dense, test=dense)
    every = dict.fromkeys(jackpot.ROUNDS, same)
    lower = dict.fromkeys(jackpot.ROUNDS, worse)
    return jackpot.RateResult(dense=whole, doubled=whole, ticket=every, reinitialised=lower, small_dense=lower)


def test_verdicts_take_their_rates_from_the_rows_of_their_network():
    found = {
        "Small, data, rate 0.01": [rate(0.9), rate(0.9)],
        "Small, data, rate 0.1": [rate(0.7), rate(0.7)],
        "Other, data, rate 0.1": [rate(0.7), rate(0.7)],
    }
    judged = jackpot.verdicts(found)
    assert [*judged] == ["Small, data", "Other, data"]
    assert [each.verdict for each in judged["Small, data"]] == ["jackpot"] * 3
    assert judged["Small, data"][0].conditions[4].witness == 0.01
    assert [each.verdict for each in judged["Other, data"]] == ["none"] * 3
    assert "**Small, data**, sparsity 59.0 %: jackpot" in jackpot.EXPERIMENT.conclusion(found)


def test_a_rate_trains_every_network_once_and_the_narrow_one_has_the_tickets_size(tmp_path, monkeypatch):
    monkeypatch.setattr(jackpot, "ROUNDS", (1, 2))
    found = done(jackpot.AtRate(DIGITS, 0), tmp_path / "rate")
    assert [*found.ticket] == [*found.reinitialised] == [*found.small_dense] == [1, 2]


def test_one_mask_has_three_starts(tmp_path):
    found = done(three_starts.Starts(CONVOLUTIONS, 0, "one-shot"), tmp_path / "starts")
    assert found.like_trained != found.like_initial


def test_a_pretraining_on_another_task_leaves_its_classifier_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "DENSITY", 0.5)
    study = pretraining.Pretrained(CONVOLUTIONS, 0, "rotation", 5)
    context = study.seeded.context(tmp_path / "a", device="cpu", data_folder=None)
    initial = context.sparse().model.state_dict()
    start, accuracy = study._pretrained(context, initial, None)
    assert 0.0 <= accuracy <= 1.0
    assert start["fc.weight"].equal(initial["fc.weight"])
    assert not start["conv.weight"].equal(initial["conv.weight"])
    result = done(replace(study, sparse=True), tmp_path / "b")
    assert 0.0 <= result.sparse <= 1.0


@pytest.mark.parametrize(("gain", "said"), [(0.1, "none"), (0.25, "50"), (0.5, "300"), (0.7, "more than 300")])
def test_supervised_steps_of_equal_gain_are_read_between_the_measured_ones(gain, said):
    assert pretraining._reached([0, 100, 300], [0.2, 0.3, 0.5], gain) == said


def test_blur_and_turns_can_be_pretrained_on(tmp_path):
    for task, make in pretraining.TASKS.items():
        found = make(data.load("digits", seed=0))
        assert found.classes == (4 if "rotation" in task else 10)
