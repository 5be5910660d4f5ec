"""Grouped first hops leave out what is pruned in any case: with it written out, the dense network computes the same."""

import importlib

import pytest
import torch
from small_cnns import CNNS, filled, hops, inputs_of, names_of_pairs, noise
from torch import nn

from supermask.errors import SupermaskError
from theory import ascent
from theory.constructions import random_pair
from theory.target import read_target

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    """Here the search from below is not under test."""
    monkeypatch.setattr(ascent, "STEPS", 2)


VECTORS = {
    "fully connected with biases": (lambda: (nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (5,)),
    "fully connected without": (lambda: (nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)), (5,)),
    "one input": (lambda: (nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1)), (1,)),
}
ALL = {**CNNS, **VECTORS}


def target_of(name, *, seed=0):
    modules, shape = ALL[name]
    return filled(*modules(), seed=seed), shape


def build(target, shape, *, width=12, **options):
    options = {"construction": "convolution", "grouped": True, **options}
    return construct(target, 0.05, width=width, input_shape=shape, **options)


def written_out(built, target):
    """Return the dense network: full first hops with biases, zero but for the blocks that the ticket kept."""
    modules, pairs = list(built.network), names_of_pairs(built)
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer, (first, second) in zip(layers, pairs, strict=True):
        groups = getattr(layer, "groups", 1)
        into, constant, _ = hops(built, first, second, inputs=inputs_of(layer), groups=groups)
        if isinstance(layer, nn.Conv2d):
            dense = nn.Conv2d(into.shape[1], into.shape[0], 1)
        else:
            dense = nn.Linear(into.shape[1], into.shape[0])
        dense.weight.data, dense.bias.data = into.reshape(dense.weight.shape), constant
        modules[int(first)] = dense
    blocks = nn.ConstantPad1d | nn.ConstantPad3d | nn.Unflatten
    return nn.Sequential(*(module for module in modules if not isinstance(module, blocks)))


def assert_as_dense(built, target, shape):
    x = torch.cat([3.0 * noise(20, *shape), torch.zeros(1, *shape)])
    dense = written_out(built, target)
    firsts = [module for module in dense if isinstance(module, nn.Linear | nn.Conv2d)][::2]
    assert all(getattr(module, "groups", 1) == 1 for module in firsts)
    assert bool(dense(x).any())
    torch.testing.assert_close(built.network(x), dense(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_it_computes_what_the_dense_network_computes(name):
    target, shape = target_of(name, seed=2)
    assert_as_dense(build(target, shape, seed=3), target, shape)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("construction", ["linear_diamond", "relu_diamond", "malach", "malach_products"])
def test_so_it_is_in_every_construction(name, construction):
    target, shape = target_of(name, seed=2)
    if construction == "linear_diamond":
        target = nn.Sequential(*(module for module in target if not isinstance(module, nn.ReLU)))
    assert_as_dense(build(target, shape, seed=3, width=25, construction=construction), target, shape)


@pytest.mark.parametrize("name", ALL)
def test_it_has_only_the_weights_of_the_blocks(name):
    target, shape = target_of(name)
    dense, grouped = (build(target, shape, width=30, grouped=grouped) for grouped in (False, True))
    weights = grouped.ticket.weights
    for layer, (first, second) in zip(read_target(target, shape).layers, names_of_pairs(grouped), strict=True):
        units = 30 * layer.groups * (layer.reads + (layer.bias is not None))
        assert weights[f"{first}.weight"].count == units * (layer.reads if layer.groups > 1 else 1)
        assert weights[f"{second}.weight"].count == units * layer.outputs // layer.groups * layer.taps
    assert grouped.ticket.prunable == sum(weight.count for weight in weights.values())
    assert grouped.ticket.prunable <= dense.ticket.prunable
    if name not in ("one input", "like conv2"):
        assert grouped.ticket.prunable < dense.ticket.prunable
    if name != "a grouped convolution":  # whose blocks for biases stand on random ones
        assert not any(parameter.endswith("bias") for parameter in weights)


def test_what_is_too_large_with_dense_first_hops_is_built_without(monkeypatch):
    monkeypatch.setattr(random_pair, "MOST_WEIGHTS", 5_000)
    target = filled(nn.Linear(100, 2, bias=False))
    with pytest.raises(SupermaskError, match=r"has 81,600 weights, more than the 5,000 .*; give grouped=True, or"):
        build(target, (100,), width=8, grouped=False)
    assert build(target, (100,), width=8).ticket.prunable == 2_400
    with pytest.raises(SupermaskError, match=r"has 6,000 weights, more than the 5,000 .*; give a smaller width\.$"):
        build(target, (100,), width=20)


def test_what_is_certified_is_the_dense_network_too():
    target, shape = target_of("padding")
    built = build(target, shape, width=30)
    x = noise(200, *shape)
    x /= x.flatten(1).norm(dim=1)[:, None, None, None]
    with torch.no_grad():
        apart = (written_out(built, target)(x) - target(x)).flatten(1).norm(dim=1)
    assert 0.0 < float(apart.max()) <= built.certificate.upper


def test_the_constant_input_of_a_bias_is_one():
    """Where all else is zero, each output is the sum of the paths of its bias."""
    for target, shape in [
        (filled(nn.Conv2d(1, 2, 2, stride=2, padding=1)), (1, 4, 4)),
        (filled(nn.Linear(3, 2)), (3,)),
    ]:
        built = build(target, shape, width=40)
        found = built.network(torch.zeros(1, *shape, dtype=torch.float64)).detach()
        found = found[0].flatten(1) if found.dim() == 4 else found[0, :, None]
        assert float((found - target[0].bias.detach()[:, None]).abs().max()) < 0.05
        assert float((found - found[:, :1]).abs().max()) < 1e-15
