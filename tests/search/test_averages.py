"""Copies of a searched network: those with other scores are refused, and an average has its own masks."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from supermask import EdgePopup, data, models
from supermask.errors import SupermaskError
from supermask.search import SEARCHES
from supermask.training import Recipe, evaluate, reestimate
from supermask.training.batches import Batches, Prepared


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


INPUTS = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def step(search, optimizer):
    optimizer.zero_grad()
    nn.functional.cross_entropy(search.model(INPUTS), torch.arange(32) % 3).backward()
    optimizer.step()
    search.step()


def started(kind=EdgePopup, **options):
    search = kind(network(), **{"density": 0.4, **options})
    return search, torch.optim.SGD(search.parameters(), lr=0.5)


@pytest.mark.parametrize("change", ["average", "ema", "by hand"])
def test_a_copy_whose_scores_have_changed_is_refused(change):
    search, optimizer = started()
    if change == "by hand":
        average = copy.deepcopy(search.model)
    else:
        average = AveragedModel(search.model, multi_avg_fn=get_ema_multi_avg_fn(0.5) if change == "ema" else None)
    average(INPUTS)  # as it was copied
    for _ in range(3):
        step(search, optimizer)
        if change == "by hand":
            with torch.no_grad():
                for theirs, ours in zip(average.parameters(), search.model.parameters(), strict=True):
                    theirs.lerp_(ours, 0.5)
        else:
            average.update_parameters(search.model)
    with pytest.raises(SupermaskError, match=r"a copy of a searched network whose scores have changed"):
        average(INPUTS)
    search.model(INPUTS)


@pytest.mark.parametrize("name", ["edge_popup", "signed", "iterand", "biprop", "multicoated"])
def test_an_average_has_the_masks_of_its_scores_and_leaves_the_search_alone(name):
    search, optimizer = started(SEARCHES[name], **({} if name != "signed" else {"density": None}))
    average = AveragedModel(search.model)
    for _ in range(4):
        step(search, optimizer)
        average.update_parameters(search.model)
    before = search.ticket()
    found = search.averaged(average)
    assert search.ticket() == before
    # a search that is given the averaged scores chooses the same
    other, _ = started(SEARCHES[name], **({} if name != "signed" else {"density": None}))
    other.load_state_dict(search.state_dict())
    with torch.no_grad():
        for score, mean in zip(other.model.parameters(), average.module.parameters(), strict=True):
            score.copy_(mean)
        other._select(other.scores())
    expected = dict(other.baked().named_parameters())
    assert {key: value.shape for key, value in expected.items()} == {k: v.shape for k, v in found.named_parameters()}
    assert all(torch.equal(expected[key], value) for key, value in found.named_parameters())


def test_a_network_with_a_part_called_module_is_not_taken_for_a_wrapper():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = network()

        def forward(self, x):
            return self.module(x)

    search = EdgePopup(Named(), density=0.4)
    found = search.averaged(copy.deepcopy(search.model))
    assert torch.equal(found.eval()(INPUTS), search.model.eval()(INPUTS))


def test_copies_that_are_loaded_or_searched_on_are_not_refused(tmp_path):
    search, optimizer = started()
    best = copy.deepcopy(search.model)
    for _ in range(3):
        step(search, optimizer)
    best.load_state_dict(search.model.state_dict())
    assert torch.equal(best.eval()(INPUTS), search.model.eval()(INPUTS))
    search.model.train()
    twin = copy.deepcopy(search)
    after = torch.optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(3):
        step(twin, after)
        step(search, optimizer)
    assert twin.ticket() == search.ticket()
    torch.save(search.model.state_dict(), tmp_path / "state.pt")
    best.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(best.eval()(INPUTS), search.model.eval()(INPUTS))


def test_a_model_of_another_shape_is_no_average_of_this_one():
    search, _ = started()
    other = nn.Sequential(*network()[:3], nn.Linear(16, 2))
    with pytest.raises(SupermaskError, match=r"The copy has no 3\.bias of shape \(3,\); give a copy"):
        search.averaged(EdgePopup(other, density=0.4).model)


def test_an_average_on_the_digits_is_as_accurate_as_the_network():
    digits = data.load("digits", seed=0)
    recipe = Recipe(epochs=5, batch_size=64)
    search = EdgePopup(models.build("lenet_300_100", input_shape=(1, 8, 8)), density=0.3, seed=0)
    settled = search.recipe(recipe)
    batches = Batches(digits, settled, seed=0, device=torch.device("cpu"))
    optimizer = settled.make_optimizer(search.parameters())
    average = AveragedModel(search.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    steps = 5 * batches.per_epoch
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settled.rate(number, steps)
        images, labels = batches.batch(number)
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(images), labels).backward()
        optimizer.step()
        search.step()
        average.update_parameters(search.model)
    test = Prepared(digits, digits.test(), settled)
    network = search.averaged(average)
    reestimate(network, batches.first(20))
    live, averaged = (evaluate(model, test).accuracy for model in (search.model, network))
    assert live > 0.9
    assert abs(live - averaged) <= 0.005 + 1e-9
