"""A search that follows its optimizer makes its steps at the right times, and one that is forgotten says so once."""

import copy
import gc
import warnings

import pytest
import torch
from torch import nn

from supermask import EdgePopup
from supermask.errors import SupermaskError
from supermask.masking.schedule import CubicRamp
from supermask.search import SEARCHES


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def search_and_optimizer(kind=EdgePopup, optimizer=torch.optim.SGD, **options):
    search = kind(network(), density=0.4, **options)
    return search, optimizer(search.parameters(), lr=0.3)


def loss(search, step):
    images = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    return search.model(images).square().mean()


def descend(search, optimizer, steps, *, by_hand=False):
    for step in range(steps):
        optimizer.zero_grad()
        loss(search, step).backward()
        if by_hand:
            search.before_step(optimizer)
        optimizer.step()
        if by_hand:
            search.step()


def same(first, second):
    return all(mask.equal(second.masks()[name]) for name, mask in first.masks().items())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", ["edge_popup", "gem_miner", "iterand", "biprop"])
def test_following_is_stepping_by_hand(name, optimizer):
    options = {"steps": 10} if name == "gem_miner" else {"schedule": CubicRamp(4)} if name == "edge_popup" else {}
    followed, first = search_and_optimizer(SEARCHES[name], optimizer, **options)
    followed.follow(first)
    descend(followed, first, 6)
    stepped, second = search_and_optimizer(SEARCHES[name], optimizer, **options)
    descend(stepped, second, 6, by_hand=True)
    assert followed.steps == stepped.steps == 6
    assert same(followed, stepped)
    assert followed.ticket() == stepped.ticket()


def test_accumulated_gradients_are_one_step():
    search, optimizer = search_and_optimizer()
    search.follow(optimizer)
    for step in range(6):
        loss(search, step).backward()
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    assert search.steps == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_scaler_skips_is_not_one(fused):
    search = EdgePopup(network(), density=0.4)
    optimizer = torch.optim.SGD(search.parameters(), lr=0.3, fused=fused)
    search.follow(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = search.masks()
    for step, factor in enumerate((1.0, float("inf"), 1.0)):
        optimizer.zero_grad()
        scaler.scale(loss(search, step) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert search.steps == 2
    assert any(not mask.equal(before[name]) for name, mask in search.masks().items())


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["edge_popup", "gem_miner"])
def test_a_closure_that_makes_the_gradients_within_the_step_is_the_same(name, named):
    """As Lightning calls it; the gradients of Gem-Miner are changed once they are there."""
    options = {"steps": 10} if name == "gem_miner" else {}
    stepped, first = search_and_optimizer(SEARCHES[name], **options)
    descend(stepped, first, 6, by_hand=True)
    followed, second = search_and_optimizer(SEARCHES[name], **options)
    followed.follow(second)
    losses = []
    for step in range(6):

        def closure(step=step):
            second.zero_grad()
            cost = loss(followed, step)
            cost.backward()
            return cost

        losses.append(second.step(closure=closure) if named else second.step(closure))
    assert followed.steps == 6
    assert all(torch.equal(scores, stepped.scores()[name]) for name, scores in followed.scores().items())
    assert followed.ticket() == stepped.ticket()
    assert losses[0].equal(loss(search_and_optimizer(SEARCHES[name], **options)[0], 0))


def test_a_followed_search_refuses_steps_by_hand():
    search, optimizer = search_and_optimizer()
    following = search.follow(optimizer)
    with pytest.raises(SupermaskError, match="would count this step twice; leave it out"):
        search.step()
    following.remove()
    descend(search, optimizer, 1)
    assert search.steps == 0
    search.step()
    search.follow(optimizer)
    descend(search, optimizer, 1)
    assert search.steps == 2


def test_a_new_optimizer_is_followed_in_place_of_the_one_before():
    search, first = search_and_optimizer()
    following = search.follow(first)
    assert search.follow(first) is following  # once more, and counted once
    descend(search, first, 2)
    second = torch.optim.Adam(search.parameters())
    search.follow(second)
    before = {name: scores.clone() for name, scores in search.scores().items()}
    with pytest.raises(SupermaskError, match="follows another optimizer since, so that this step would not be counted"):
        descend(search, first, 1)
    assert all(torch.equal(scores, before[name]) for name, scores in search.scores().items())
    descend(search, second, 2)
    assert search.steps == 4
    search.follow(first)
    descend(search, first, 1)
    assert search.steps == 5


def test_an_optimizer_that_is_gone_is_not_followed():
    search, optimizer = search_and_optimizer()
    search.follow(optimizer)
    descend(search, optimizer, 1)
    del optimizer
    gc.collect()
    search.step()
    assert search.steps == 2


def test_a_copy_of_a_search_follows_nothing():
    search, optimizer = search_and_optimizer()
    search.follow(optimizer)
    twin = copy.deepcopy(search)
    descend(search, optimizer, 2)
    assert (twin.steps, search.steps) == (0, 2)
    descend(twin, torch.optim.SGD(twin.parameters(), lr=0.3), 2, by_hand=True)
    assert twin.ticket() == search.ticket()


class Twice(torch.optim.SGD):
    """Calls the step of its base class, whose hooks are the same."""

    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("name", ["edge_popup", "gem_miner"])
def test_a_step_that_calls_that_of_its_base_class_is_one(name):
    options = {"steps": 10} if name == "gem_miner" else {}
    stepped, first = search_and_optimizer(SEARCHES[name], **options)
    descend(stepped, first, 6, by_hand=True)
    followed, second = search_and_optimizer(SEARCHES[name], Twice, **options)
    followed.follow(second)
    descend(followed, second, 6)
    assert followed.steps == 6
    assert followed.ticket() == stepped.ticket()


def test_a_step_that_raised_is_not_one_and_the_next_is():
    search, optimizer = search_and_optimizer(optimizer=Twice)
    search.follow(optimizer)

    def closure():
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            optimizer.step(closure)
    assert search.steps == 0
    descend(search, optimizer, 2)
    assert search.steps == 2


class Around(torch.optim.Optimizer):
    """An optimizer that moves the parameters after another one did, as Lookahead does, and has no hooks of its own."""

    def __init__(self, inner):
        self.optimizer, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


def test_an_optimizer_that_calls_no_hooks_is_refused():
    search, optimizer = search_and_optimizer()
    with pytest.raises(SupermaskError, match="Around does not call the hooks of torch"):
        search.follow(Around(optimizer))
    search.step()


def test_an_optimizer_without_the_scores_cannot_be_followed():
    search, _ = search_and_optimizer()
    some = torch.optim.SGD([search.scores()["0.weight"]], lr=0.1)
    with pytest.raises(SupermaskError, match="trains 1 of the 2 scores of this search; make it with"):
        search.follow(some)
    search.step()  # nothing is left of the refusal


def test_a_search_that_never_steps_says_so_once():
    search, optimizer = search_and_optimizer()
    with pytest.warns(UserWarning, match=r"this EdgePopup 3 times, and search\.step\(\) was never called") as caught:
        descend(search, optimizer, 8)
    assert len(caught) == 1


def test_nothing_is_said_of_searches_that_step_are_evaluated_or_are_gone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stepped, first = search_and_optimizer()
        descend(stepped, first, 5, by_hand=True)
        idle, _ = search_and_optimizer()
        other = nn.Linear(2, 2)
        for _ in range(5):  # another optimizer's steps are not this search's
            torch.optim.SGD(other.parameters(), lr=0.1).step()
        assert idle.steps == 0
        gone, _ = search_and_optimizer()
        del gone
        gc.collect()
        descend(stepped, first, 5, by_hand=True)
