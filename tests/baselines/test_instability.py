"""Copies that differ in the order of the examples alone, and the barriers between them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from supermask import SupermaskError
from supermask.baselines.instability import copies, has_statistics, instability
from supermask.training import Recipe, State
from tests.baselines.plain_training import lenet, work

RECIPE = Recipe(iterations=12, batch_size=100, learning_rate=0.1)


def normed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


@pytest.fixture(scope="module")
def context():
    return work(RECIPE)


@pytest.fixture(scope="module")
def early(context):
    """The states of the dense network at its start, after 4 steps and after the last."""
    return context.train(context.sparse(), keep=(0, 4, 12)).kept


def same(first, second):
    return all(tensor.equal(second.state_dict()[name]) for name, tensor in first.state_dict().items())


def masked(context):
    ticket, generator = context.whole, torch.Generator().manual_seed(0)
    masks = {name: torch.rand(mask.shape, generator=generator) < 0.4 for name, mask in ticket.masks.items()}
    return replace(ticket, masks=masks)


def test_one_order_gives_one_network_and_another_order_another(context, early):
    first, second, third = copies(context, context.whole, early[4], (7, 7, 8), stage="copies")
    assert same(first, second)
    assert not same(first, third)
    # the run's own order from the state on is the run
    own = copies(context, context.whole, early[4], (0,), stage="own")[0]
    assert all(tensor.equal(early[12].model[name]) for name, tensor in own.state_dict().items())


def test_the_momentum_of_the_state_is_a_part_of_it(context, early):
    fresh = State(4, early[4].subject)
    first, second = (copies(context, context.whole, start, (7,), stage="copies")[0] for start in (early[4], fresh))
    assert not same(first, second)


def test_from_the_last_step_on_nothing_is_trained(context, early):
    networks = copies(context, context.whole, early[12], (7, 8), stage="copies")
    assert all(tensor.equal(early[12].model[name]) for name, tensor in networks[0].state_dict().items())
    found = instability(context, networks, points=3)
    assert (found.height, found.barriers[0].distance) == (0.0, 0.0)


def test_what_a_ticket_prunes_stays_zero_whatever_the_momentum_says(context, early):
    ticket = masked(context)
    for network in copies(context, ticket, early[4], (7, 8), stage="copies"):
        for name, weight in network.named_parameters():
            if name in ticket.masks:
                assert weight[~ticket.masks[name]].count_nonzero() == 0
                assert (weight[ticket.masks[name]] != early[4].model[name][ticket.masks[name]]).any()


def test_the_state_is_left_as_it_was(context, early):
    before = early[4].digest()
    copies(context, masked(context), early[4], (7,), stage="copies")
    assert early[4].digest() == before


def test_a_stage_that_is_finished_is_not_trained_again(early, tmp_path):
    trained = []
    kept = work(RECIPE, stages=tmp_path)
    step, loop = early[4], kept.loop

    def counting(subject, recipe, **more):
        trained.append(more["folder"].name)
        return loop(subject, recipe, **more)

    kept = replace(kept, loop=counting)
    first = copies(kept, kept.whole, step, (7, 8), stage="from-4")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    again = copies(kept, kept.whole, step, (7, 8), stage="from-4")
    assert trained == ["from-4-order-7", "from-4-order-8"] * 2
    assert all(map(same, first, again))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")} == written


def test_each_pair_has_its_barrier(context, early):
    networks = copies(context, context.whole, early[0], (7, 8, 9), stage="copies")
    found = instability(context, networks, points=3)
    assert len(found.barriers) == 3
    # without batch norm there is nothing to estimate
    assert instability(context, networks, points=3, statistics="interpolated") == found
    ends = [pair.errors[place] for pair in found.barriers for place in (0, -1)]
    assert found.error == pytest.approx(sum(ends) / 6)
    assert found.height == pytest.approx(sum(pair.height for pair in found.barriers) / 3)
    assert sorted(map(ends.count, {*ends}))[-1] >= 2  # each copy ends two lines


def test_with_batch_norm_both_statistics_are_measured():
    context = work(replace(RECIPE, learning_rate=0.5), build=normed)
    networks = copies(context, context.whole, State.of(0, context.sparse(), None), (7, 8), stage="copies")
    assert has_statistics(networks[0])
    assert not has_statistics(lenet())
    (estimated,) = instability(context, networks, points=3).barriers
    (interpolated,) = instability(context, networks, points=3, statistics="interpolated").barriers
    assert estimated.errors != interpolated.errors
    assert estimated.distance == interpolated.distance


def test_one_copy_has_no_barrier(context):
    with pytest.raises(SupermaskError, match="There are 1 copies; barriers are between two, so give at least 2"):
        instability(context, [lenet()])
