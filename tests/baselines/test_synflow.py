"""SynFlow against its definition, and where it empties a layer."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from small_networks import DOUBLES, IMAGES, Residual, chain, sparse, with_norm
from torch import nn

from supermask import SupermaskError
from supermask.baselines import SynFlow
from supermask.baselines.at_initialisation.examples import Given
from supermask.masking.selection import Selection


def total_flow(model, image):
    with torch.no_grad():
        return float(model(torch.ones_like(image)).sum())


def slow_synflow(network, density, iterations):
    """As the paper says it; R is linear in each weight, so that a score is what R loses without the weight."""
    model = deepcopy(network.model).double().eval()
    parameters = {name: parameter.data.abs_().view(-1) for name, parameter in model.named_parameters()}
    alive = [(name, index) for name in network.prunable for index in range(parameters[name].numel())]
    count = len(alive)
    for step in range(1, iterations + 1):
        whole, losses = total_flow(model, DOUBLES[0][:1]), {}
        for name, index in alive:
            before = float(parameters[name][index])
            parameters[name][index] = 0.0
            losses[name, index] = whole - total_flow(model, DOUBLES[0][:1])
            parameters[name][index] = before
        order = sorted(alive, key=lambda place: -losses[place])
        for name, index in order[round(count * density ** (step / iterations)) :]:
            parameters[name][index] = 0.0
        alive = order[: round(count * density ** (step / iterations))]
    return {
        name: torch.tensor([(name, index) in alive for index in range(weight.numel())]).view(weight.shape)
        for name, weight in network.weights().items()
    }


@pytest.mark.parametrize("build", [with_norm, lambda: nn.Sequential(nn.Flatten(), Residual(16), nn.Linear(16, 3))])
@pytest.mark.parametrize("density", [0.5, 0.1])
def test_synflow_is_what_the_flow_loses_without_each_weight(build, density):
    network = sparse(build(), seed=1)
    masks, order = SynFlow(iterations=3, floor=0).choose(network, Given(0, IMAGES), density)
    expected = slow_synflow(network, density, 3)
    assert all(torch.equal(masks[name], expected[name]) for name in masks)
    least = min(float(order[name][mask].min()) for name, mask in masks.items() if mask.any())
    assert least >= max(float(order[name][~mask].max()) for name, mask in masks.items())


def test_the_order_of_synflow_is_that_in_which_weights_fell():
    network, given = sparse(with_norm()), Given(0, IMAGES)
    _, order = SynFlow(iterations=5, floor=0).choose(network, given, 0.1)
    places = torch.cat([one.flatten() for one in order.values()])
    for step in range(1, 5):
        assert int((places >= step + 1).sum()) == round(63 * 0.1 ** (step / 5))
    assert places.min() >= 1
    assert places.max() == 5.5


@pytest.mark.parametrize("widths", [(4, 3, 2), (4, 3, 2, 2), (4, 2, 2, 2, 2)])
def test_synflow_empties_no_layer_of_a_chain_at_any_compression(widths):
    """Without the floor, down to one weight in each layer."""
    network, given = sparse(chain(*widths)), Given(0, (torch.zeros(1, 1, 2, 2), torch.zeros(1)))
    total, layers = sum(weight.numel() for weight in network.weights().values()), len(widths) - 1
    for kept in range(layers, total + 1):
        masks, _ = SynFlow(iterations=12, floor=0).choose(network, given, kept / total)
        assert sum(int(mask.sum()) for mask in masks.values()) == kept
        assert all(mask.any() for mask in masks.values())


def test_the_largest_compression_of_a_convolutional_chain_leaves_one_weight_in_each_layer():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    network = sparse(nn.Sequential(*layers, nn.Linear(4, 3)))
    masks, _ = SynFlow(iterations=30, floor=0).choose(network, Given(0, IMAGES), 3 / 112)
    assert [int(mask.sum()) for mask in masks.values()] == [1, 1, 1]


def test_synflow_in_one_step_may_empty_a_layer():
    masks, _ = SynFlow(iterations=1, floor=0).choose(sparse(chain(16, 16, 2, 2)), Given(0, IMAGES), 3 / 292)
    assert not all(mask.any() for mask in masks.values())


def bypassed():
    return nn.Sequential(nn.Flatten(), Residual(16), Residual(16), nn.Linear(16, 3))


@pytest.mark.parametrize("kept", [5, 6, 8, 100])
def test_the_floor_of_synflow_holds_where_layers_are_bypassed(kept):
    network, given = sparse(bypassed()), Given(0, IMAGES)
    total = sum(weight.numel() for weight in network.weights().values())
    masks, _ = SynFlow(iterations=20).choose(network, given, kept / total)
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    assert all(mask.any() for mask in masks.values())
    published, _ = SynFlow(iterations=20, floor=0).choose(network, given, kept / total)
    assert all(mask.any() for mask in published.values()) == (kept == 100)


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_budget_below_the_floor_is_kept_exactly(kept):
    network = sparse(bypassed())
    total = sum(weight.numel() for weight in network.weights().values())
    masks, order = SynFlow(iterations=20).choose(network, Given(0, IMAGES), kept / total)
    places, chosen = (torch.cat([one.flatten() for one in many.values()]) for many in (order, masks))
    assert chosen.sum() == kept
    assert not kept or places[chosen].min() >= places[~chosen].max()  # no longer by layer


def test_the_floor_of_synflow_is_all_of_a_smaller_layer():
    masks, _ = SynFlow(iterations=10, floor=3).choose(sparse(chain(16, 4, 1, 2)), Given(0, IMAGES), 9 / 70)
    assert [int(mask.sum()) for mask in masks.values()] >= [3, 3, 2]
    assert sum(int(mask.sum()) for mask in masks.values()) == 9


def test_what_synflow_pruned_stays_pruned_when_nothing_flows_any_more(monkeypatch):
    seen = []

    class Seeing(Selection):
        def select(self, pools, scores, masks):
            super().select(pools, scores, masks)
            seen.append(torch.cat([mask.flatten() for mask in masks.values()]))

    monkeypatch.setattr("supermask.baselines.at_initialisation.synflow.Selection", Seeing)
    SynFlow(iterations=20, floor=0).choose(sparse(chain(16, 4, 4, 3)), Given(0, IMAGES), 1 / 92)
    assert seen[-1].sum() == 1
    assert all((later <= earlier).all() for earlier, later in pairwise(seen))


def test_a_deep_network_is_pruned_by_its_flow_beyond_float32():
    network = sparse(chain(16, *[30] * 60, 3))
    scores = SynFlow().scores(network, Given(0, IMAGES))
    sums = torch.stack([score.sum() for score in scores.values()])
    assert sums.max() > 1e40
    magnitudes = deepcopy(network.model).double()
    for parameter in magnitudes.parameters():
        parameter.data.abs_()
    torch.testing.assert_close(sums, torch.full_like(sums, total_flow(magnitudes, DOUBLES[0][:1])))


def test_a_network_too_deep_for_float64_is_refused():
    network = sparse(chain(16, *[4] * 10, 3))
    for weight in network.weights().values():
        weight *= 1e35
    with pytest.raises(SupermaskError, match="leaves the range of float64"):
        SynFlow().choose(network, Given(0, IMAGES), 0.5)
