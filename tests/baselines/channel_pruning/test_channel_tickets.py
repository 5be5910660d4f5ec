"""Tickets of channels against the same rounds with masks and lists."""

import pytest
import torch
from works import work_on

from supermask import SupermaskError, models
from supermask.baselines.channel_pruning.channel_tickets import ChannelTickets, smaller
from supermask.baselines.dense import Dense
from supermask.training import Recipe

RECIPE = Recipe(epochs=1, batch_size=100)


def _lenet():
    return models.build("lenet_300_100", width=0.1, input_shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("density", "expected"),
    [(0.5, [0.8, 0.64, 0.512, 0.5]), (0.64, [0.8, 0.64]), (0.9, [0.9]), (1.0, []), (0.8, [0.8])],
)
def test_rounds_go_down_to_the_density(density, expected):
    assert ChannelTickets().densities(density) == pytest.approx(expected)


def test_of_the_channels_left_the_largest_stay():
    left = {"a": torch.tensor([True, False, True, True, True])}
    state = {"a.weight": torch.tensor([[1.0, -5.0], [2.0, 2.0], [9.0, 0.0], [-2.0, 2.0]])}  # of channels 0, 2, 3, 4
    assert smaller(state, left, 0.6)["a"].tolist() == [True, False, True, True, False]  # 2 and 4 tie: the first
    assert smaller(state, left, 0.01)["a"].tolist() == [False, False, False, True, False]


def test_the_rounds_are_those_of_lists(tmp_path):
    work = work_on(_lenet, RECIPE, density=0.5, folder=tmp_path)
    found = ChannelTickets(rate=0.3).run(work)
    left = {"fc1": [*range(30)], "fc2": [*range(10)]}
    for counts in ({"fc1": 21, "fc2": 7}, {"fc1": 15, "fc2": 5}):
        network = Dense(work.build(), seed=work.seed, weights=work.weights)
        model = network.model
        for name, inputs in (("fc1", None), ("fc2", left["fc1"]), ("fc3", left["fc2"])):
            layer = model.get_submodule(name)
            rows = left.get(name, [*range(layer.out_features)])
            weight = layer.weight.detach()[rows]
            weight = weight if inputs is None else weight[:, inputs]
            layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(layer.bias.detach()[rows])
        last = work_on(_lenet, RECIPE).train(network).last["model"]
        for name, count in counts.items():
            sums = last[f"{name}.weight"].abs().sum(1).tolist()
            order = sorted(range(len(sums)), key=lambda place: -sums[place])[:count]
            left[name] = [left[name][place] for place in sorted(order)]
    masks = found.subject.ticket().masks
    for name, rows in left.items():
        assert masks[f"{name}.weight"].any(1).nonzero().flatten().tolist() == rows
    assert [record.round for record in found.details.rounds] == [0, 1, 2]
    assert found.details.rounds[-1].kept == 15 * 64 + 5 * 15 + 10 * 5
    assert found.details.cost == 3.0


def test_the_result_starts_from_its_initial_weights():
    work = work_on(_lenet, Recipe(epochs=0, batch_size=100))
    found = ChannelTickets(rate=0.5).run(work)
    whole = Dense(work.build(), seed=work.seed, weights=work.weights).model
    rows = found.subject.ticket().masks["fc1.weight"].any(1)
    assert torch.equal(found.subject.model.fc1.weight, whole.fc1.weight[rows])


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(SupermaskError, match="is out of range; it is between 0 and 1"):
        ChannelTickets(rate=rate)
