"""Convolutional targets: the one masked random network computes what its paths add up to, and a ticket holds it all."""

import copy
import dataclasses
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_cnns import CNNS, algebra, cnn, effective_weights, filled, names_of_pairs, noise, written_out
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError
from supermask.models.sequence import from_description
from supermask.random.weights import RandomWeight
from theory import ascent
from theory.constructions import random_pair
from theory.domains import Ball
from theory.error_budget import per_weight
from theory.norms import operator_norm
from theory.target import read_target

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    """Here the search from below is not under test."""
    monkeypatch.setattr(ascent, "STEPS", 2)


@pytest.fixture
def draws(monkeypatch):
    """Count what is drawn: calls for a whole network, and each tensor that is grown from a seed and a name."""
    networks, tensors = [], []
    grow, grow_all = RandomWeight.grow, random_pair.grow_all

    def counted(weight, seed, name, *rest, **named):
        tensors.append((seed, name, weight))
        return grow(weight, seed, name, *rest, **named)

    def counted_all(weights, seed):
        networks.append(seed)
        return grow_all(weights, seed)

    monkeypatch.setattr(RandomWeight, "grow", counted)
    monkeypatch.setattr(random_pair, "grow_all", counted_all)
    return SimpleNamespace(networks=networks, tensors=tensors)


def build(target, shape, *, width=16, epsilon=0.05, **options):
    return construct(target, epsilon, construction="convolution", width=width, input_shape=shape, **options)


def images(shape, *, seed=0):
    return torch.cat([3.0 * noise(12, *shape, seed=seed), torch.zeros(1, *shape), torch.ones(1, *shape)])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", CNNS)
def test_the_masked_network_computes_its_effective_weights(tmp_path, name, grouped):
    target, shape = cnn(name, seed=3)
    built = build(target, shape, seed=5, grouped=grouped)
    x = images(shape)
    found = built.network(x)
    assert found.dtype is torch.float64
    torch.testing.assert_close(found, algebra(built, target, x), rtol=0.0, atol=1e-10)
    built.ticket.save(tmp_path / "built.ticket")
    ticket = Ticket.load(tmp_path / "built.ticket")
    regrown = ticket.apply(from_description(ticket.provenance["model"]["modules"]).double())
    assert torch.equal(regrown(x), found)
    assert ticket.provenance["model"]["input_shape"] == list(shape) == list(built.input_shape)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", CNNS)
def test_random_weights_are_untouched_masks_binary_and_each_channel_reads_one_input(name, grouped):
    target, shape = cnn(name, seed=1)
    built = build(target, shape, width=10, seed=2, grouped=grouped)
    parameters = dict(built.network.named_parameters())
    assert parameters.keys() == built.ticket.masks.keys() == built.ticket.weights.keys()
    for parameter, mask in built.ticket.masks.items():
        untouched = built.ticket.weights[parameter].grow(2, parameter).double()
        found = parameters[parameter].detach()
        assert mask.dtype is torch.bool
        assert found.dtype is torch.float64
        assert torch.equal(found[mask], untouched[mask])
        assert not found[~mask].any()
        assert untouched.count_nonzero() == untouched.numel()
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer, (first, second) in zip(layers, names_of_pairs(built), strict=True):
        reads = parameters[f"{first}.weight"].flatten(1).count_nonzero(dim=1)
        if f"{first}.bias" in parameters:
            reads = reads + parameters[f"{first}.bias"].bool()
        assert int(reads.max()) <= 1
        second_hop = written_out(parameters[f"{second}.weight"], getattr(layer, "groups", 1))
        read = second_hop.transpose(0, 1).flatten(1).any(dim=1)
        assert torch.equal(reads.bool(), read)  # a path is kept on both hops or on none


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("width", [1, 9, 40])
def test_the_random_network_is_drawn_once_whether_it_fits_or_not(draws, width, grouped):
    target = filled(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 1, 2))
    built = build(target, (1, 4, 4), width=width, epsilon=0.1, seed=7, grouped=grouped)
    assert draws.networks == [7]
    assert {seed for seed, *_ in draws.tensors} == {7}
    assert sorted(name for _, name, _ in draws.tensors) == sorted(built.ticket.weights)  # each of them once
    assert {(name, weight) for _, name, weight in draws.tensors} == set(built.ticket.weights.items())
    assert (built.ticket.seed, built.widths) == (7, (width, width))
    assert built.within == (built.certificate.upper <= 0.1) == (width == 40)


def test_the_seed_alone_decides_the_network():
    target, shape = cnn("padding")
    one, same, other = (build(target, shape, seed=seed) for seed in (0, 0, 1))
    assert one.ticket.digest == same.ticket.digest != other.ticket.digest
    assert all(torch.equal(mask, same.ticket.masks[name]) for name, mask in one.ticket.masks.items())
    assert one.certificate == same.certificate != other.certificate


def test_the_target_is_left_as_it_was():
    target, shape = cnn("batch norm")
    target.train().float()
    before = copy.deepcopy(target.state_dict())
    build(target, shape)
    assert target.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    assert all(tensor.dtype is before[name].dtype for name, tensor in target.state_dict().items())


def missed(built, target):
    """Return how far each weight is missed, by the paths that the ticket keeps."""
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    signed = True
    for layer, (up, down, constant) in zip(layers, effective_weights(built, target), strict=True):
        errors = (up - layer.weight).abs()
        if signed:
            errors = torch.maximum(errors, (down + layer.weight).abs())
        bias = [] if layer.bias is None else [(constant - layer.bias).abs()[:, None]]
        yield torch.cat([errors.flatten(1), *bias], dim=1).detach().numpy()
        signed = isinstance(layer, nn.Conv2d) and layer is not layers[-1] and not has_relu_behind(target, layer)


def has_relu_behind(target, layer):
    modules = list(target)
    behind = modules[modules.index(layer) + 1 :]
    return any(isinstance(module, nn.ReLU) for module in behind[:2])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["a stride", "padding", "dilation", "the largest of windows that overlap"])
def test_errors_are_those_of_the_effective_weights(name, grouped):
    target, shape = cnn(name, seed=2)
    built = build(target, shape, width=9, grouped=grouped)
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer, errors, expected in zip(layers, built.errors, missed(built, target), strict=True):
        columns = layer.weight[0].numel() + (layer.bias is not None)
        assert errors.shape == (len(layer.weight), columns)
        np.testing.assert_allclose(errors, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["like LeNet-5", "padding", "the largest of windows that overlap"])
def test_paths_for_negative_inputs_behind_a_relu_only_cost_weights(name):
    target, shape = cnn(name)
    one, both = (build(target, shape, both_halves=both) for both in (False, True))
    x = images(shape)
    torch.testing.assert_close(both.network(x), one.network(x), rtol=0.0, atol=1e-12)
    assert both.ticket.digest == one.ticket.digest
    assert both.ticket.kept > one.ticket.kept
    waiting = []
    for i, (first, _) in enumerate(names_of_pairs(one)):
        mine, theirs = (built.ticket.masks[f"{first}.weight"] for built in (one, both))
        assert torch.equal(mine, theirs) if i == 0 else not (mine & ~theirs).any()
        hop = one.ticket.random_weights()[f"{first}.weight"]
        waiting.append((bool((hop[mine] < 0.0).any()), bool((hop[theirs] < 0.0).any())))
    assert waiting[0] == (True, True)
    if name == "like LeNet-5":
        assert waiting[1:] == [(False, True)] * 4


def test_a_fully_connected_target_has_a_second_half_only_where_it_is_wanted():
    target = filled(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    one, both = (construct(target, 0.05, width=20, both_halves=both) for both in (False, True))
    x = noise(40, 3)
    torch.testing.assert_close(both.network(x), one.network(x), rtol=0.0, atol=1e-12)
    assert both.ticket.kept > one.ticket.kept


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("grouped", [False, True])
def test_widths_chosen_from_epsilon_reach_it(norm, grouped):
    for name in ("padding", "the largest of windows that overlap", "like LeNet-5"):
        target, shape = cnn(name, seed=1)
        wide, narrow = (
            build(target, shape, width=None, epsilon=epsilon, norm=norm, grouped=grouped) for epsilon in (0.05, 0.5)
        )
        assert wide.within
        assert narrow.within
        assert all(one > other for one, other in zip(wide.widths, narrow.widths, strict=True))


def test_within_is_what_is_proven_and_not_what_was_found():
    target, shape = cnn("like LeNet-5")
    built = build(target, shape)
    between = (built.certificate.lower + built.certificate.upper) / 2
    assert built.certificate.lower < between < built.certificate.upper
    assert not dataclasses.replace(built, epsilon=between).within
    assert dataclasses.replace(built, epsilon=built.certificate.upper).within


def test_a_weight_may_miss_by_what_all_of_its_window_together_may():
    """Errors of that size, all one way on the box and of random signs on the ball, move outputs by half of epsilon."""
    target, generator = filled(nn.Conv2d(2, 3, (3, 2), bias=False)), np.random.default_rng(0)
    read, epsilon, radius = read_target(target, (2, 6, 6)), 0.4, 5.0
    (on_box,), (on_ball,) = (per_weight(read, epsilon, Ball(radius), norm) for norm in ("linf", "l2"))
    assert on_box == pytest.approx(epsilon / 2 / radius / 12, rel=1e-6)
    for _ in range(5):
        halves = on_ball * generator.choice([-1.0, 1.0], (3, 4, 3, 2))
        moved = operator_norm(read.layers[0], halves, "l2") * radius
        assert 0.35 <= moved / (epsilon / 2) <= 2.0  # measured: 1 to 1.5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_widths_count_the_steps_that_make_errors_larger(norm):
    """Windows of 16 that overlap and are added up: 16 times an error in either norm, before and behind a layer."""
    adds = nn.AvgPool2d(4, 1, divisor_override=1)
    target = filled(adds, nn.Conv2d(1, 2, 1), adds, nn.Conv2d(2, 1, 1), adds)
    built = build(target, (1, 16, 16), width=None, epsilon=2.0, norm=norm, grouped=True)
    assert built.within


def test_a_scaled_layer_is_the_same_network_scaled_exactly():
    target, shape = cnn("like conv2")
    larger = copy.deepcopy(target)
    larger[0].weight.data *= 32.0
    larger[6].weight.data /= 1024.0
    one, other = (build(each, shape, width=12, epsilon=1e-9) for each in (target, larger))  # all items used, in both
    assert all(torch.equal(mask, other.ticket.masks[name]) for name, mask in one.ticket.masks.items())
    assert torch.equal(one.network(images(shape)) / 32.0, other.network(images(shape)))
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    scales = [one.ticket.weights[f"{second}.weight"].scale for _, second in names_of_pairs(one)]
    assert scales == [2.0 * float(layer.weight.detach().abs().max()) for layer in layers]
    assert scales == one.ticket.provenance["scales"]
    assert all(one.ticket.weights[f"{first}.weight"].scale == 1.0 for first, _ in names_of_pairs(one))


def test_a_target_that_is_not_convolutional_is_built_as_by_the_diamond():
    target = filled(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    one = construct(target, 0.1, width=12, construction="convolution")
    assert one.certificate == construct(target, 0.1, width=12).certificate


@pytest.mark.parametrize("bias", [False, True])
def test_a_dead_target_keeps_nothing_and_is_met_exactly(bias):
    target = filled(nn.Conv2d(1, 2, 2, bias=bias), nn.ReLU(), nn.Conv2d(2, 1, 2, padding=1, bias=bias))
    for parameter in target.parameters():
        parameter.data.zero_()
    built = build(target, (1, 4, 4), width=None)
    assert built.within
    assert built.certificate.lower == 0.0
    assert built.ticket.kept == 0
    assert not built.network(images((1, 4, 4))).any()


def test_weights_are_counted():
    target = filled(nn.Conv2d(2, 3, (2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2, bias=False))
    built, smaller = (build(target, (2, 3, 4), width=8, grouped=grouped) for grouped in (False, True))
    second = 3 * 24 * 6 + 2 * 96
    assert built.ticket.prunable == 24 * (2 + 1) + 96 * 12 + second
    assert smaller.ticket.prunable == 24 + 96 + second
    assert built.network(images((2, 3, 4))).shape == (14, 2)


LARGE = nn.Sequential(nn.Flatten(), nn.Linear(20_000, 4))
CNN = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        (CNN, {}, "^relu_diamond is for fully connected targets, .* has convolutions; use convolution"),
        (CNN, {"construction": "linear_diamond"}, "^linear_diamond is for fully connected targets"),
        (CNN, {"construction": "malach"}, "^malach is for fully connected targets"),
        (CNN[:1], {"construction": "convolution"}, "takes images of any size; give input_shape"),
        (CNN, {"construction": "convolution", "input_shape": (1, 5, 5)}, "takes 8 inputs, but gets 32"),
        (CNN, {"construction": "convolution", "input_shape": (2, 3, 3)}, "images of 1 channels, but gets images of 2"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), {"construction": "linear_diamond"}, "this one has ReLUs; use relu"),
        (LARGE, {"width": 20}, r"8,002,400,100 weights, more than .*; give grouped=True, or a smaller width"),
        (LARGE, {"width": 20_000, "grouped": True}, r"2,000,100,000 weights, more than .*; give a smaller width"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_drawn(draws, target, options, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        construct(target, 0.01, **options)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert draws.tensors == []
