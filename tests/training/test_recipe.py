import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supermask.errors import SupermaskError
from supermask.training import Recipe
from supermask.training.layout import sound_layout


@given(step=st.integers(0, 99), warm_up=st.integers(0, 50))
def test_cosine_with_warm_up(step, warm_up):
    rate = Recipe(learning_rate=0.4, warm_up=warm_up).rate(step, 100)
    if step < warm_up:
        assert rate == pytest.approx(0.4 * (step + 1) / warm_up)
    else:
        assert rate == pytest.approx(0.2 * (1 + math.cos(math.pi * (step - warm_up) / (100 - warm_up))))


def test_cosine_is_torchs_own():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    recipe = Recipe(learning_rate=0.1)
    for step in range(50):
        assert recipe.rate(step, 50) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_steps_fall_to_a_tenth_at_half_and_at_three_quarters():
    rates = [Recipe(learning_rate=1.0, decay="step").rate(step, 100) for step in range(100)]
    assert rates[:50] == [1.0] * 50
    assert rates[50:75] == pytest.approx([0.1] * 25)
    assert rates[75:] == pytest.approx([0.01] * 25)


def test_drops_are_fractions_of_all_steps_warm_up_included():
    recipe = Recipe(learning_rate=0.3, decay="step", drops=(2 / 3, 5 / 6), warm_up=20_000)
    rates = {step: recipe.rate(step, 30_000) for step in (0, 19_999, 20_000, 24_999, 25_000)}
    expected = {0: 0.3 / 20_000, 19_999: 0.3, 20_000: 0.03, 24_999: 0.03, 25_000: 0.003}
    assert rates == pytest.approx(expected)


def test_iterations_count_instead_of_epochs():
    assert Recipe(epochs=3, batch_size=100).steps(950) == 27
    assert Recipe(epochs=3, batch_size=100, iterations=5).steps(950) == 5


def test_constant_is_constant():
    assert {Recipe(decay="constant", learning_rate=0.3).rate(step, 10) for step in range(10)} == {0.3}


def test_optimizers_take_the_recipe():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    sgd = Recipe(momentum=0.7, weight_decay=0.01).make_optimizer(parameters)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.7, 0.01)
    adam = Recipe(optimizer="adam", weight_decay=0.02).make_optimizer(parameters)
    assert isinstance(adam, torch.optim.Adam)
    assert adam.defaults["weight_decay"] == 0.02


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"epochs": -1}, "epochs=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"iterations": -1}, "iterations=-1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"drops": (0.0,)}, r"drops=\(0.0,\)"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"optimizer": "sdg"}, "'sdg'; known are sgd, sgdw, adam"),
        ({"best": "test"}, "'test'; known are accuracy, loss, auto"),
        ({"decay": "linear"}, "'linear'; known are cosine"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"warm_up": 1.5}, "warm_up=1.5"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov=True needs SGD"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov=True needs SGD"),
        ({"padding": -1}, "padding=-1"),
        ({"warp": -0.1}, "warp=-0.1"),
        ({"warp": math.inf}, "warp=inf"),
    ],
)
def test_bad_values_are_refused_by_name(bad, says):
    with pytest.raises(SupermaskError, match=says):
        Recipe(**bad)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(SupermaskError, match="batch_size=128 is larger than the 100"):
        Recipe(batch_size=128).steps_per_epoch(100)


@pytest.mark.parametrize(
    ("best", "validation", "by_loss"),
    [("loss", 5000, True), ("accuracy", 10, False), ("auto", 999, True), ("auto", 1000, False)],
)
def test_what_chooses_the_best_step(best, validation, by_loss):
    assert Recipe(best=best).chooses_by_loss(validation) is by_loss


def test_what_is_left_open_is_the_methods_own_or_the_default():
    own = {"learning_rate": 400.0, "warm_up": 0.4}
    assert Recipe().settle() == Recipe(learning_rate=0.1, weight_decay=1e-4, warm_up=0)
    assert Recipe().settle(own) == Recipe(learning_rate=400.0, weight_decay=1e-4, warm_up=0.4)
    given = Recipe(learning_rate=0.3, weight_decay=0.0, warm_up=0)
    assert given.settle(own) == given, "zero is a value"
    assert Recipe().settle(own).settle() == Recipe().settle(own)


@given(share=st.floats(0.0, 0.99), steps=st.integers(1, 500))
def test_a_warm_up_below_one_is_a_fraction_of_all_steps(share, steps):
    one, other = Recipe(warm_up=share), Recipe(warm_up=round(share * steps))
    assert [one.rate(step, steps) for step in range(steps)] == [other.rate(step, steps) for step in range(steps)]


def test_the_travel_is_how_far_a_constant_gradient_moves_a_parameter():
    recipe = Recipe(learning_rate=0.05, warm_up=0.2, weight_decay=0.0, momentum=0.5)
    place = torch.zeros(1, requires_grad=True)
    optimizer = recipe.make_optimizer([place])
    for step in range(400):
        optimizer.param_groups[0]["lr"] = recipe.rate(step, 400)
        place.grad = torch.ones(1)
        optimizer.step()
    assert -place.item() == pytest.approx(recipe.total_rate(400), rel=0.01)


@pytest.mark.parametrize("nesterov", [False, True])
def test_decoupled_decay_takes_its_share_whatever_the_momentum(nesterov):
    # Loshchilov & Hutter 2019, algorithm 1: m = b m + r g; p = p - (r / peak) w p - m
    recipe = Recipe(optimizer="sgdw", learning_rate=0.2, weight_decay=0.01, warm_up=3, nesterov=nesterov)
    place = torch.tensor([2.0, -1.0, 5.0], requires_grad=True)
    still = torch.tensor([1.0], requires_grad=True)
    optimizer = recipe.make_optimizer([place, still])
    expected, sums = place.detach().clone(), torch.zeros(3)
    for step in range(6):
        rate = optimizer.param_groups[0]["lr"] = recipe.rate(step, 6)
        gradient = torch.tensor([0.3, -0.7, 0.1]) * (step + 1)
        place.grad = gradient.clone()
        optimizer.step()
        sums = 0.9 * sums + gradient
        expected = expected - rate / 0.2 * 0.01 * expected
        expected = expected - rate * (gradient + 0.9 * sums if nesterov else sums)
        torch.testing.assert_close(place.detach(), expected)
    assert still.item() == 1.0, "what has no gradient takes no part in a step"


@pytest.mark.parametrize("optimizer", ["sgd", "sgdw"])
def test_gradients_that_lie_otherwise_than_their_parameters_are_taken_entry_by_entry(optimizer):
    """torch's fused step would take them in the order of the memory, and say nothing."""
    weight, gradient = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    trained = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = torch.nn.Parameter(weight.clone(memory_format=layout))
        made = Recipe(optimizer=optimizer, weight_decay=0.01).make_optimizer([parameter])
        assert made.param_groups[0]["fused"]
        for _ in range(3):
            parameter.grad = gradient.clone()
            made.step()
        trained.append(parameter.detach())
    torch.testing.assert_close(*trained)


def test_on_other_devices_torch_chooses_how_many_tensors_a_launch_takes():
    """False would be one launch for each tensor, and more."""
    parameter = torch.nn.Parameter(torch.ones(2, device="meta"))
    assert Recipe().make_optimizer([parameter]).param_groups[0]["fused"] is None
    assert Recipe(graph=True).make_optimizer([parameter]).param_groups[0]["fused"] is True


def test_parameters_that_a_fused_step_cannot_take_are_trained_all_the_same():
    number = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = Recipe(learning_rate=0.5, weight_decay=0.0).make_optimizer([number])
    number.grad = torch.full((2,), 1j)
    optimizer.step()
    assert torch.equal(number.detach(), torch.full((2,), 1 - 0.5j))


@pytest.mark.parametrize(
    ("convolution", "kept"),
    [
        (nn.Conv2d(7, 9, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1, stride=(1, 2)), False),
        (nn.Conv2d(8, 9, 1, stride=2), True),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, 3, stride=2), True),
    ],
    ids=str,
)
def test_channels_are_not_last_where_that_would_damage_memory(convolution, kept):
    recipe, model = Recipe(channels_last=True), nn.Sequential(nn.Conv2d(3, 4, 3), convolution)
    assert sound_layout(recipe, model, torch.device("cpu")).channels_last is kept
    assert sound_layout(recipe, model, torch.device("cuda")).channels_last
    assert sound_layout(Recipe(), model, torch.device("cpu")) == Recipe()
