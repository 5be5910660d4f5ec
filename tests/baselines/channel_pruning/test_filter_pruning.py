"""Filter pruning: which filters go, what is left, and that all of it can be read again."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn
from works import work_on

from supermask import SupermaskError, Ticket, models
from supermask.baselines.channel_pruning.filter_pruning import FilterPruning, largest_filters
from supermask.baselines.dense import Dense
from supermask.deploy import narrow
from supermask.graph import cost_of
from supermask.runs import Job, SearchOptions, run
from supermask.runs import run_job as module
from supermask.training import Recipe

JOB = Job(
    method="filter_pruning",
    model="conv2",
    width=0.125,
    data="synthetic",
    recipe=Recipe(epochs=2, batch_size=100),
    search=SearchOptions(density=0.4),
)


def _lenet():
    return models.build("lenet_300_100", width=0.1, input_shape=(1, 8, 8))


def _slowly(weight, keep):
    """Sort the filters by their sums of magnitudes; of equal ones those with the higher index go first."""
    sums = [sum(abs(value) for value in filter_.flatten().tolist()) for filter_ in weight]
    order = sorted(range(len(sums)), key=lambda place: (-sums[place], place))
    return sorted(order[:keep])


@pytest.mark.parametrize(("density", "counts"), [(0.3, [2, 2]), (0.5, [4, 2]), (0.01, [1, 1]), (1.0, [7, 5])])
def test_the_filters_with_the_largest_sums_stay(density, counts):
    model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.Flatten(), nn.Linear(7, 5))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
        model[0].weight[5] = -model[0].weight[1]  # a tie
    kept = largest_filters(model, ["0", "2"], density)
    for (name, mask), count in zip(kept.items(), counts, strict=True):
        assert mask.nonzero().flatten().tolist() == _slowly(model.get_submodule(name).weight, count)


def test_of_equal_filters_the_first_stay():
    model = nn.Linear(3, 5)
    nn.init.ones_(model.weight)
    assert largest_filters(nn.Sequential(model), ["0"], 0.4)["0"].tolist() == [True, True, False, False, False]


def test_a_run_leaves_a_small_network_that_can_be_built_again(tmp_path):
    result = run(JOB, tmp_path)
    ticket = Ticket.load(tmp_path / "network.ticket")
    images = module.load_data(JOB, None)
    build = {"input_shape": (1, 8, 8), "classes": 10, "width": 0.125}
    example = images.normalize(images.train.images[:2])
    small = narrow(ticket.apply(models.build("conv2", **build)), example).network
    small.load_state_dict(safetensors.torch.load_file(tmp_path / "network.safetensors"))
    test = images.test()
    with torch.no_grad():
        correct = int((small.eval()(images.normalize(test.images)).argmax(1) == test.labels).sum())
    assert correct == result.test.correct
    assert result.details.filters == {
        "features.0.0": (3, 8),
        "features.0.2": (3, 8),
        "classifier.0": (13, 32),
        "classifier.2": (13, 32),
    }
    sizes = [(3, 9), (3, 27), (13, 3 * 16), (13, 13), (10, 13)]
    weights = sum(outputs * inputs for outputs, inputs in sizes)
    assert result.kept == ticket.kept == weights
    assert result.details.after.parameters == weights + 3 + 3 + 13 + 13 + 10
    assert result.details.after.multiply_adds == 64 * (27 + 81) + 13 * 48 + 13 * 13 + 130
    assert result.details.before.parameters == cost_of(models.build("conv2", **build), example).parameters
    assert result.details.before.multiply_adds == 64 * (72 + 576) + 32 * 128 + 32 * 32 + 320
    assert (result.details.before.steps, result.steps) == (18, round(0.25 * 18))
    assert result.details.whole_layers == {"classifier.4": "they reach the network's output"}


def test_the_ticket_is_the_small_network_before_any_training():
    work = work_on(_lenet, Recipe(epochs=1))
    ticket = FilterPruning().run(work).subject.ticket()
    images = torch.randn(3, 1, 8, 8)
    large = ticket.apply(work.build())
    small = narrow(large, images).network
    assert small.fc1.out_features == 15
    torch.testing.assert_close(large(images), small(images))
    assert all(
        int(weight.count_nonzero()) == int(ticket.masks[name].sum())
        for name, weight in large.named_parameters()
        if name in ticket.masks
    )
    assert ticket.provenance["algorithm"] == "filter_pruning"


def test_the_retraining_starts_from_the_trained_weights_at_a_small_constant_rate():
    recipe = Recipe(epochs=2, batch_size=100, warm_up=3)
    work = work_on(_lenet, recipe)
    found = FilterPruning(retrain=0.5).run(work)
    assert found.outcome.steps == 9
    assert {record["learning_rate"] for record in found.outcome.history} == {0.001}
    still = FilterPruning(retrain=0.0).run(work)
    assert still.outcome.history[0] == found.outcome.history[0]
    dense = Dense(work.build(), seed=work.seed, weights=work.weights)
    trained = work.train(dense)
    kept = largest_filters(dense.model, ["fc1", "fc2"], 0.5)
    assert torch.equal(still.subject.model.fc2.weight, dense.model.fc2.weight[kept["fc2"]][:, kept["fc1"]])
    assert still.details.before.test_accuracy == trained.test.accuracy


def test_the_dense_training_is_shared_and_a_killed_run_ends_the_same(tmp_path, monkeypatch):
    whole = run(JOB, tmp_path / "whole", stages=tmp_path / "stages")
    calls = []
    real = module.train

    def dies(subject, *arguments, **options):
        calls.append(subject.name)
        if subject.name == "filter_pruning":
            raise KeyboardInterrupt
        return real(subject, *arguments, **options)

    monkeypatch.setattr(module, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        run(JOB, tmp_path / "killed")
    monkeypatch.undo()
    again = run(JOB, tmp_path / "killed", resume=True)
    assert calls == ["dense", "filter_pruning"]
    assert again.history == whole.history
    for file in ("network.safetensors", "network.ticket"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    sparser = replace(JOB, search=SearchOptions(density=0.2))
    assert run(sparser, tmp_path / "sparser", stages=tmp_path / "stages").details.before == whole.details.before
    assert len(list((tmp_path / "stages").glob("*/*"))) == 1
    assert json.loads((tmp_path / "sparser/result.json").read_text())["filters"]["classifier.0"] == [6, 32]


def test_layers_that_are_not_to_be_pruned_keep_their_shape():
    found = FilterPruning(retrain=0.0).run(work_on(_lenet, Recipe(epochs=0), dense=("fc3.weight",)))
    assert found.details.filters == {"fc1": (15, 30)}
    with pytest.raises(SupermaskError, match=r"no layer whose filters can be removed .*; choose a network"):
        FilterPruning().run(work_on(_lenet, Recipe(epochs=0), dense=("fc2.weight",)))


def test_a_network_without_such_a_layer_is_refused_before_any_training():
    work = work_on(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Recipe(epochs=10**6))
    with pytest.raises(SupermaskError, match=r"no layer .* \(1: they reach the network's output\); choose"):
        FilterPruning().run(work)


@pytest.mark.parametrize("options", [{"retrain": -0.1}, {"rate": 0.0}])
def test_bad_options_are_refused(options):
    with pytest.raises(SupermaskError, match="do not fit"):
        FilterPruning(**options)
