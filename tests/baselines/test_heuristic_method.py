"""The methods: what is trained, what is run, what the ticket holds, and what is not done twice."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from plain_training import OPTIMIZERS, Plain, work
from torch import nn

from supermask import SupermaskError, Ticket, models
from supermask.baselines.heuristic import Heuristic, HeuristicTrained
from supermask.baselines.heuristic.criteria import layer_scores
from supermask.baselines.heuristic.networks import PartlyFrozen
from supermask.masking.ladder import Ladder
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe

RECIPE = Recipe(epochs=2, batch_size=64, optimizer="adam", learning_rate=3e-3, evaluate_every=5)
JOB = Job(method="heuristic", data="synthetic", width=0.1, recipe=Recipe(epochs=1, batch_size=100))


def with_norm():
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sign": "different", "mask_1": "rewind", "keep_sign": False},
        {"criterion": "movement", "mask_1": "reinitialise", "mask_0": "variant_2"},
        {"criterion": "random", "mask_1": "reshuffle"},
        {"mask_1": "rewind", "mask_0": "freeze"},
    ],
    ids=str,
)
def test_the_ticket_saved_and_read_is_the_network_that_was_run_bit_for_bit(options, tmp_path):
    found = Heuristic(**options).run(work(RECIPE, build=with_norm))
    found.subject.ticket().save(tmp_path / "network.ticket")
    ticket, images = Ticket.load(tmp_path / "network.ticket"), _test_images()
    network = ticket.apply(with_norm()).eval()
    with torch.no_grad():
        assert torch.equal(network(images), found.subject.model.eval()(images))
        correct = int((network(images).argmax(1) == work(RECIPE).data.test().labels).sum())
    assert correct == found.outcome.test.correct
    assert (found.outcome.steps, ticket.provenance["trained"]) == (0, False)
    assert float(ticket.learned["1.running_mean"].abs().sum()) > 0  # estimated, not those of a fresh module


def _test_images():
    data = work(RECIPE).data
    return data.normalize(data.test().images)


def test_kept_weights_are_those_that_the_dense_training_left_largest_and_of_their_sign():
    begun = work(RECIPE, density=0.2)
    dense = begun.sparse()
    initial = {name: weight.clone() for name, weight in dense.weights().items()}
    final = begun.train(dense).last["model"]
    found = Heuristic(mask_1="rewind").run(begun)
    shapes = {name: tuple(weight.shape) for name, weight in initial.items()}
    ladder = Ladder(0.2, output_rate=0.1)
    counts = ladder.kept(shapes, ladder.rounds_to(shapes, 0.2))
    masks = found.subject.ticket().masks
    for name, weight in initial.items():
        scores = torch.where(weight * final[name] > 0, final[name].abs(), -1.0).flatten()
        expected = torch.zeros(scores.numel(), dtype=torch.bool)
        expected[scores.sort(descending=True, stable=True).indices[: counts[name]]] = True
        assert torch.equal(masks[name].flatten(), expected)
        assert torch.equal(found.subject.weights()[name], torch.where(masks[name], weight, 0.0))
    total = sum(weight.numel() for weight in initial.values())
    assert found.subject.ticket().kept == found.details.chosen == found.details.same_sign == round(0.2 * total)
    assert counts["3.weight"] / 240 > counts["1.weight"] / 1536  # the output layer, pruned at half the rate


def test_one_rate_for_all_layers_gives_one_density():
    masks = Heuristic(output_rate=0.2).run(work(RECIPE, density=0.25)).subject.masks()
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"1.weight": 384, "3.weight": 60}


def test_frozen_weights_count_in_the_network_and_not_for_the_criterion():
    found = HeuristicTrained(mask_0="variant_1").run(work(RECIPE, density=0.2))
    ticket, total = found.subject.ticket(), 1536 + 240
    assert found.details.chosen == round(0.2 * total)
    assert ticket.kept == found.details.chosen + found.details.frozen
    assert total > ticket.kept > found.details.chosen
    assert found.scores is None
    assert ticket.provenance["trained"] is True


@OPTIMIZERS
@pytest.mark.parametrize("mask_0", ["freeze", "variant_1", "variant_2"])
def test_frozen_weights_stay_and_the_others_are_trained_as_an_open_loop_trains_them(recipe, mask_0):
    begun = work(recipe, density=0.3)
    method = HeuristicTrained(mask_0=mask_0)
    final = begun.train(begun.sparse()).last["model"]
    choice = method.choose(begun.whole, {name: final[name] for name in begun.whole.masks}, 0.3)
    network = PartlyFrozen(begun.build(), choice.ticket, choice.chosen)
    plain = Plain(begun, choice.ticket)
    start = {name: weight.clone() for name, weight in network.weights().items()}
    seen = []
    step = network.step

    def watching():
        step()
        seen.append({name: weight.clone() for name, weight in network.weights().items()})

    network.step = watching
    begun.train(network)
    for place in range(5):
        plain.masks = {}
        plain.update(place, plain.gradients(place))
        with torch.no_grad():
            for name, mask in choice.chosen.items():
                plain.parameters[name][~mask] = start[name][~mask]
                assert torch.equal(seen[place][name][~mask], start[name][~mask])
                torch.testing.assert_close(seen[place][name], plain.parameters[name].detach(), rtol=1e-3, atol=2e-5)
    for name, mask in choice.chosen.items():
        begins_at_zero = mask & (start[name] == 0)
        assert bool(begins_at_zero.any()) == (mask_0 == "variant_2")
        assert bool((seen[-1][name][mask] != start[name][mask]).all())
        assert torch.equal(seen[-1][name][~mask], start[name][~mask])
        # what may differ from zero is in the masks, and the ticket is the network before
        assert torch.equal(network.masks()[name], mask | choice.ticket.masks[name])
        assert torch.equal(network.ticket().masks[name], choice.ticket.masks[name])
    assert network.count == sum(int(mask.sum()) for mask in choice.chosen.values()) + 24 + 10


def test_with_zeros_it_is_trained_as_any_sparse_network():
    begun = work(RECIPE, density=0.3)
    found = HeuristicTrained().run(begun)
    sparse = begun.sparse(found.subject.ticket().masks)
    assert begun.train(sparse).history == found.outcome.history
    assert all(torch.equal(w, found.subject.weights()[name]) for name, w in sparse.weights().items())


def test_a_partly_frozen_network_goes_on_from_its_state():
    begun = work(RECIPE, density=0.3)
    made = HeuristicTrained(mask_0="variant_2").choose(begun.whole, _final(begun), 0.3)
    network, other = (PartlyFrozen(begun.build(), made.ticket, made.chosen) for _ in range(2))
    begun.train(network)
    other.load_state_dict(deepcopy(network.state_dict()))
    for name, weight in network.weights().items():
        assert torch.equal(weight, other.weights()[name])
    assert other.steps == network.steps > 0


def _final(begun):
    dense = begun.sparse()
    begun.train(dense)
    return {name: weight.clone() for name, weight in dense.weights().items()}


def test_the_choice_depends_on_the_last_weights_and_nothing_else():
    begun = work(RECIPE, density=0.3)
    final = _final(begun)
    one = Heuristic(sign="different").choose(begun.whole, final, 0.3)
    assert all(
        torch.equal(score, layer_scores("large_final", "different", w, final[name], 0, name))
        for (name, score), w in zip(one.scores.items(), begun.whole.random_weights().values(), strict=True)
    )
    nan = {name: torch.full_like(weight, torch.nan) for name, weight in final.items()}
    with pytest.raises(SupermaskError, match="scores are NaN"):
        Heuristic(sign="any").choose(begun.whole, nan, 0.3)


# ---- runs


def test_one_dense_training_serves_all_criteria_actions_and_densities(tmp_path):
    stages, results = tmp_path / "stages", []
    for place, (density, options) in enumerate(
        [
            (0.5, Heuristic()),
            (0.1, Heuristic(criterion="movement", sign="any")),
            (0.1, Heuristic(mask_1="rewind", output_rate=0.2)),
        ]
    ):
        job = replace(JOB, options=options, search=SearchOptions(density=density))
        results.append(run(job, tmp_path / f"{place}", stages=stages, progress=False))
        assert len([*stages.glob("*/dense")]) == 1
    assert len({result.details.dense_accuracy for result in results}) == 1
    assert [result.kept == result.details.chosen for result in results] == [True] * 3
    run(replace(JOB, options=Heuristic(), seed=1), tmp_path / "other", stages=stages, progress=False)
    assert len([*stages.glob("*/dense")]) == 2


def test_what_a_run_leaves_is_the_network_that_it_tested(tmp_path):
    result = run(JOB, tmp_path, progress=False)
    ticket = Ticket.load(tmp_path / "network.ticket")
    made = ticket.provenance["model"]
    model = models.build(made["name"], input_shape=tuple(made["input_shape"]), classes=10, width=made["width"])
    data = work().data
    with torch.no_grad():
        logits = ticket.apply(model).eval()(data.normalize(data.test().images))
    assert int((logits.argmax(1) == data.test().labels).sum()) == result.test.correct
    assert (ticket.provenance["algorithm"], ticket.provenance["trained"]) == ("heuristic", False)
    assert result.steps == 0


@pytest.mark.parametrize("kind", [Heuristic, HeuristicTrained])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "largest"}, "criterion='largest' is unknown; known are large_final, small_final, large_init, "),
        ({"sign": "plus"}, "sign='plus' is unknown; known are any, same, different."),
        ({"mask_1": "redraw"}, "mask_1='redraw' is unknown; known are rewind, reinitialise, reshuffle, constant."),
        ({"mask_0": "one"}, "mask_0='one' is unknown; known are zero, freeze, variant_1, variant_2."),
        ({"mask_1": "reshuffle", "mask_0": "freeze"}, "mask_1='reshuffle' does not go with mask_0='freeze'"),
        ({"rate": 0.0}, "rate=0.0 is out of range"),
        ({"output_rate": 1.0}, "output_rate=1.0 is out of range"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_training(kind, options, message):
    with pytest.raises(SupermaskError) as caught:
        kind(**options)
    assert str(caught.value).startswith(message)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("density", [0.0, 1e-9])
def test_a_density_that_leaves_no_weight_is_refused(density):
    with pytest.raises(SupermaskError, match="cannot reach density"):
        Heuristic().run(work(RECIPE, density=density))


def test_all_of_a_network_can_be_kept():
    found = Heuristic(mask_1="rewind").run(work(RECIPE, density=1.0))
    assert found.subject.ticket().density == 1.0
    assert found.details.chosen > found.details.same_sign
