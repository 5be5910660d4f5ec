"""The barrier between two networks: its ends, what batch norm does in between, and what it refuses."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines import Dense
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.data.corruptions import quarter_turns
from supermask.judge import barrier
from supermask.judge.barrier import Barrier, _channels_last, between, distance
from supermask.training import Recipe, evaluate, train
from supermask.training.batches import Prepared

RECIPE = Recipe(iterations=40, batch_size=50, learning_rate=0.1)


def lenet(norm=False):
    layers = [nn.Linear(64, 30), *([nn.BatchNorm1d(30)] if norm else []), nn.ReLU(), nn.Linear(30, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def copy(synthetic, order, *, norm=False, recipe=RECIPE):
    """Return a network that is trained from one initialisation in some order of the examples."""
    subject = Dense(lenet(norm), seed=0)
    train(subject, synthetic, recipe, seed=order, progress=False)
    return subject.model


@pytest.fixture(scope="module")
def normed(synthetic):
    """Two copies with batch norm: few steps at a high rate take them apart."""
    recipe = replace(RECIPE, iterations=20, learning_rate=0.5)
    return [copy(synthetic, order, norm=True, recipe=recipe) for order in (1, 2)]


def error_of(model, images, labels):
    """Return the share of examples that a network gets wrong, one by one."""
    model.eval()
    with torch.no_grad():
        wrong = [int(model(image[None]).argmax()) != int(label) for image, label in zip(images, labels, strict=True)]
    return sum(wrong) / len(wrong)


def fake(errors, train_errors=None):
    """Return a barrier of made-up errors."""
    return Barrier(tuple(range(len(errors))), tuple(errors), tuple(train_errors or errors), 0.0, 0.0)


@pytest.mark.parametrize("statistics", ["estimated", "interpolated"])
@pytest.mark.parametrize("norm", [False, True])
def test_copies_of_one_order_are_one_network_at_every_place(synthetic, norm, statistics):
    first, second = (copy(synthetic, 3, norm=norm) for _ in range(2))
    found = barrier(first, second, synthetic, 7, statistics=statistics)
    assert (found.height, found.train_height, found.distance, found.disagreement) == (0, 0, 0, 0)
    assert len({*found.errors}) == len({*found.train_errors}) == 1
    assert found.stable


def test_at_the_ends_are_the_networks_with_the_errors_of_an_evaluation(synthetic, normed):
    first, second = normed
    states = [model.state_dict() for model in normed]
    for fraction, state in ((1.0, states[0]), (0.0, states[1])):
        end = between(*states, fraction)
        assert {name: tensor.dtype for name, tensor in end.items()} == {n: t.dtype for n, t in state.items()}
        assert all(tensor.equal(state[name]) for name, tensor in end.items())
    found = barrier(first, second, synthetic, 2, statistics="interpolated")
    parts = synthetic.test(), synthetic.train
    for place, model in ((-1, first), (0, second)):
        test, training = (1 - evaluate(model, Prepared(synthetic, part, Recipe())).accuracy for part in parts)
        assert (found.errors[place], found.train_errors[place]) == pytest.approx((test, training))
    assert found.fractions == (0.0, 1.0)
    assert found.disagreement > 0
    apart = [(one - other).detach().flatten() for one, other in zip(*(m.parameters() for m in normed), strict=True)]
    assert found.distance == pytest.approx(float(torch.cat(apart).norm()))


def test_a_network_and_its_permuted_twin_are_far_apart_on_the_line(synthetic):
    first = copy(synthetic, 1)
    second, order = deepcopy(first), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        second[1].weight.copy_(first[1].weight[order])
        second[1].bias.copy_(first[1].bias[order])
        second[3].weight.copy_(first[3].weight[:, order])
    found = barrier(first, second, synthetic, 11)
    assert found.disagreement == 0
    assert found.errors[0] == found.errors[-1] < 0.2
    assert found.height > 0.1
    assert not found.stable


def test_the_height_is_that_of_the_worst_place_above_the_mean_of_the_ends():
    assert fake([0.1, 0.5, 0.3, 0.2]).height == pytest.approx(0.35)
    assert fake([0.0, 0.0], [0.3, 0.4, 0.1]).train_height == pytest.approx(0.2)
    # the ends are places too: a better middle takes nothing away
    assert fake([0.3, 0.1, 0.3]).height == 0.0
    assert fake([0.1, 0.05, 0.3]).height == pytest.approx(0.1)


@pytest.mark.parametrize(("middle", "stable"), [(0.1199, True), (0.1201, False)])
def test_stable_is_below_two_points(middle, stable):
    assert fake([0.1, middle, 0.1]).stable == stable


def test_a_middle_that_is_better_than_both_ends_is_measured_as_such(synthetic):
    """Noise of opposite signs on a good network cancels in the middle."""
    good = copy(synthetic, 1)
    ends = [deepcopy(good), deepcopy(good)]
    noise = torch.randn(good[1].weight.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for sign, end in zip((1, -1), ends, strict=True):
            end[1].weight.add_(sign * 0.5 * noise)
    found = barrier(*ends, synthetic, 3)
    assert found.errors[1] < min(found.errors[0], found.errors[2])
    assert found.height == pytest.approx(abs(found.errors[0] - found.errors[2]) / 2)


def slow_place(ends, fraction, synthetic, batches):
    """Return a network between two others: its tensors written out, and its statistics averaged by hand if asked."""
    first, second = (end.state_dict() for end in ends)
    model = deepcopy(ends[0])
    layer = model[2]
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(fraction * first[name] + (1 - fraction) * second[name])
        for name in ("running_mean", "running_var"):
            getattr(layer, name).copy_(fraction * first[f"2.{name}"] + (1 - fraction) * second[f"2.{name}"])
        if batches:
            sums = [model[1](batch.flatten(1)) for batch in batches]
            layer.running_mean.copy_(torch.stack([each.mean(0) for each in sums]).mean(0))
            layer.running_var.copy_(torch.stack([each.var(0) for each in sums]).mean(0))
    return model


def test_the_statistics_in_between_are_those_of_a_slow_recomputation(synthetic, normed):
    count = 600  # two whole batches, and a rest that the statistics go without
    images, labels = synthetic.normalize(synthetic.train.images[:count]), synthetic.train.labels[:count]
    test = synthetic.test()
    found = {
        name: barrier(*normed, synthetic, 3, statistics=name, examples=count) for name in ("estimated", "interpolated")
    }
    for name, batches in (("estimated", images[:500].split(250)), ("interpolated", ())):
        for place, fraction in enumerate((0.0, 0.5, 1.0)):
            model = slow_place(normed, fraction, synthetic, batches)
            errors = error_of(model, synthetic.normalize(test.images), test.labels), error_of(model, images, labels)
            assert (found[name].errors[place], found[name].train_errors[place]) == pytest.approx(errors, abs=1e-9), name
    assert found["estimated"].errors[1] != found["interpolated"].errors[1]


def test_what_is_pruned_in_both_networks_is_zero_at_every_place(synthetic):
    ticket = whole_ticket(lenet(), seed=0)
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(mask.shape, generator=generator) < 0.3 for name, mask in ticket.masks.items()}
    networks = []
    for order in (1, 2):
        subject = Sparse(lenet(), replace(ticket, masks=masks))
        train(subject, synthetic, RECIPE, seed=order, progress=False)
        networks.append(subject.model.state_dict())
    for fraction in (0.0, 0.1, 0.5, 1.0):
        place = between(*networks, fraction)
        assert all((place[name][~mask] == 0).all() and (place[name][mask] != 0).all() for name, mask in masks.items())


def changed(change):
    model = lenet()
    with torch.no_grad():
        change(model)
    return model


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lenet(norm=True), r"differ in 3.weight: float32 \(10, 30\) and missing; give two of one architecture"),
        (lenet().double(), r"differ in 1.weight: float32 \(30, 64\) and float64 \(30, 64\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)), r"1.weight: .*30.* and .*20"),
        (
            changed(lambda model: model[3].bias.fill_(torch.nan)),
            "3.bias of network 2 holds a number that is not finite",
        ),
        (changed(lambda model: model[1].weight[0].fill_(torch.inf)), "1.weight of network 2"),
    ],
)
def test_what_is_no_pair_of_networks_is_refused_by_name(synthetic, second, message):
    with pytest.raises(SupermaskError, match=message):
        barrier(lenet(), second, synthetic)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points=1 is too small"),
        ({"examples": 1}, "examples=1 is too small"),
        ({"statistics": "averaged"}, "Unknown statistics 'averaged'; known are estimated, interpolated"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_test_set_is_read(options, message):
    fresh = data.load("synthetic", seed=0)
    with pytest.raises(SupermaskError, match=message):
        barrier(lenet(), lenet(), fresh, **options)
    assert fresh.test_reads == 0


def test_the_test_set_is_read_once_and_the_networks_stay_as_they_were(normed):
    fresh = data.load("synthetic", seed=0)
    first, second = (deepcopy(model) for model in normed)
    first.train()
    second.eval()
    first[2].eval()
    before = [
        ({n: t.clone() for n, t in m.state_dict().items()}, [x.training for x in m.modules()]) for m in (first, second)
    ]
    barrier(first, second, fresh, 4)
    assert fresh.test_reads == 1
    for model, (tensors, modes) in zip((first, second), before, strict=True):
        assert all(tensor.equal(tensors[name]) for name, tensor in model.state_dict().items())
        assert [module.training for module in model.modules()] == modes
        assert model[2].momentum == 0.1


def test_examples_that_are_drawn_at_each_step_are_those_of_the_task(synthetic):
    """All stored labels of the task are 0: a network that says 0 would seem to know the training examples."""
    turned = quarter_turns(synthetic, seed=0)
    constant = changed(lambda model: [each.zero_() for each in model.parameters()])
    with torch.no_grad():
        constant[3].bias[0] = 1.0
    found = barrier(constant, deepcopy(constant), turned, 2)
    assert found.train_errors[0] == pytest.approx(0.75, abs=0.06)
    assert found.train_errors == barrier(constant, deepcopy(constant), turned, 2).train_errors


DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.tuples(DTYPES, st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=4),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_between_is_the_line_of_floats_and_the_first_of_whole_numbers(layers, fraction, seed):
    generator = torch.Generator().manual_seed(seed)

    def state():
        return {
            str(number): (10 * torch.randn(shape, generator=generator)).to(dtype)
            for number, (dtype, shape) in enumerate(layers)
        }

    first, second = state(), state()
    kept = deepcopy(first), deepcopy(second)
    found, same = between(first, second, fraction), between(first, deepcopy(first), fraction)
    for name, tensor in found.items():
        one, other = first[name], second[name]
        assert (tensor.dtype, tensor.shape) == (one.dtype, one.shape)
        assert same[name].equal(one)
        if one.is_floating_point():
            expected = fraction * one.double() + (1 - fraction) * other.double()
            tolerance = 8 * torch.finfo(one.dtype).eps * (one.double().abs() + other.double().abs())
            assert ((tensor.double() - expected).abs() <= tolerance).all()
        else:
            assert tensor.equal(one if fraction else other)
        if tensor.numel():
            tensor.zero_()
    assert all(each[n].equal(before[n]) for each, before in zip((first, second), kept, strict=True) for n in each)


def test_the_distance_is_euclidean_and_that_of_no_tensors_is_zero():
    assert (
        distance(
            {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0]])},
            {"a": torch.tensor([0.0]), "b": torch.tensor([[4.0]])},
        )
        == 5
    )
    assert distance({}, {}) == 0


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), True),
        (nn.Conv2d(3, 4, 3), False),
        (nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last), False),  # its layouts are one
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last), True),
        (lenet(), False),
    ],
)
def test_a_network_with_its_channels_last_is_measured_so(model, found):
    assert _channels_last(model) == found
    assert _channels_last(deepcopy(model)) == found
