"""What the certificate says where numbers are very large, very small, or cancel."""

import copy
import importlib
import itertools
import math

import pytest
import torch
from torch import nn

from supermask.errors import SupermaskError
from theory import ascent

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct

NOTHING = 2.0**-99  # of a variance of 1; torch 2.11 refuses 0


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    """Here the search from below is not under test."""
    monkeypatch.setattr(ascent, "STEPS", 3)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(*modules, seed=0):
    target = nn.Sequential(*modules).double().eval()
    for i, parameter in enumerate(target.parameters()):
        parameter.data = noise(*parameter.shape, seed=100 * seed + i)
        if parameter.dim() > 1:
            parameter.data /= torch.linalg.matrix_norm(parameter.data.flatten(1), 2)
    return target


def seen(target, network, radius, norm="l2"):
    """Return the largest difference on random inputs of the ball."""
    x = noise(500, target[0].in_features, seed=9)
    x *= radius / (x.norm(dim=1, keepdim=True) if norm == "l2" else x.abs().amax(dim=1, keepdim=True))
    with torch.no_grad():
        off = (target(x) - network(x)).abs()
    return float(off.max() if norm == "linf" else (off.norm(dim=1)).max())


def cancelling(size, kind="linear"):
    """Return a target whose batch norm takes away the bias that its layer adds: both are large, and their rounding."""
    layer = nn.Linear(6, 8) if kind == "linear" else nn.Conv2d(6, 8, 1)
    norm = nn.BatchNorm1d(8, eps=NOTHING) if kind == "linear" else nn.BatchNorm2d(8, eps=NOTHING)
    target = filled(layer, norm, nn.ReLU(), *(() if kind == "linear" else (nn.Flatten(),)), nn.Linear(8, 3, bias=False))
    layer.weight.data *= 3.0
    layer.bias.data.fill_(size)
    norm.running_mean.fill_(size)
    norm.weight.data.fill_(1.0)
    norm.bias.data.zero_()
    return target


@pytest.mark.parametrize(
    ("size", "radius", "epsilon", "norm"),
    [(1e5, 1e-6, 1e-12, "l2"), (1e5, 1e-4, 1e-11, "linf"), (1e6, 1e-4, 1e-11, "l2")],
)
def test_the_rounding_of_batch_norm_that_was_folded_is_counted(size, radius, epsilon, norm):
    target = cancelling(size)
    built = construct(target, epsilon, radius=radius, norm=norm, width=80)
    off = seen(target, built.network, radius, norm)
    assert off > epsilon / 2  # it is more than the paths miss by
    assert off <= built.certificate.upper
    assert not built.within


def test_so_is_that_of_two_batch_norms_and_of_a_convolution():
    twice = cancelling(1e5)
    again = nn.BatchNorm1d(8, eps=NOTHING).double().eval()
    again.running_mean.fill_(-1e6)
    again.bias.data.fill_(-1e6)  # x + 1e6 - 1e6
    twice.insert(2, again)
    image = cancelling(1e5, "convolution")
    for target, shape in ((twice, (6,)), (image, (6, 1, 1))):
        built = construct(target, 1e-9, radius=1e-5, width=40, input_shape=shape, construction="convolution")
        x = noise(300, *shape, seed=5)
        x *= 1e-5 / x.flatten(1).norm(dim=1).reshape(-1, *[1] * len(shape))
        with torch.no_grad():
            rounding = (target(x) - built.target(x)).norm(dim=1).max()  # the folded layers, beside the target
            off = (target(x) - built.network(x)).norm(dim=1).max()
        assert float(rounding) > 1e-13
        assert float(off) <= built.certificate.upper


def test_a_target_that_overflows_inside_of_the_ball_is_refused():
    target = filled(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    target[0].weight.data *= 100.0
    with pytest.raises(SupermaskError, match=r"or not in finite numbers; give plain .*\.$"):
        construct(target, 0.1, width=8, radius=1.5e308)


def test_what_is_off_by_less_than_its_square_can_hold_is_off():
    target = filled(nn.Linear(3, 4))
    target[0].weight.data.zero_()
    target[0].bias.data.fill_(1e-170)
    built = construct(target, 1e-180, width=8)
    assert built.certificate.upper >= 2e-170 if not built.ticket.kept else built.certificate.upper > 0.0
    assert built.certificate.upper >= built.certificate.lower > 0.0
    small = filled(nn.Linear(6, 4, bias=False))
    small[0].weight.data *= 1e-170
    built = construct(small, 1e-180, width=8)
    x = noise(500, 6, seed=9)
    x /= x.norm(dim=1, keepdim=True)
    with torch.no_grad():
        assert built.certificate.upper >= float((small(x) - built.network(x)).abs().max()) > 0.0


@pytest.mark.parametrize("radius", [1e200, 1e-170, 1e-310])
def test_balls_whose_squares_overflow_or_vanish_have_both_bounds(radius):
    target = filled(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    built = construct(target, 1e-5 * radius, radius=radius, width=24)
    certificate = built.certificate
    assert 0.0 < certificate.lower <= certificate.upper < math.inf
    unit = construct(target, 1e-5, width=24).certificate
    if radius > 1e-200:  # else rounding to multiples of 2^-1074 is most of it
        assert certificate.upper / radius == pytest.approx(unit.upper, rel=1e-6)
        assert certificate.lower / radius >= 0.5 * unit.lower


def test_a_small_network_is_within_1e_10():
    target = filled(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    built = construct(target, 1e-10)
    assert built.within
    assert seen(target, built.network, 1.0) <= built.certificate.upper


@pytest.mark.parametrize("bias", [False, True])
def test_sizes_move_between_layers_where_random_weights_do_not_reach(bias):
    """A network of weights of 1e-60, 1e30 and 1e30 is one of ordinary weights."""
    one, two, three = (nn.Linear(3, 3, bias=bias) for _ in range(3))
    plain = filled(one, nn.ReLU(), two, nn.ReLU(), three)
    target = copy.deepcopy(plain)
    for place, shift, so_far in ((0, -200, -200), (2, 100, -100), (4, 100, 0)):
        target[place].weight.data *= 2.0**shift
        if bias:
            target[place].bias.data *= 2.0**so_far
    built, ordinary = construct(target, 0.01), construct(plain, 0.01)
    assert built.within
    assert built.certificate.upper <= 4.0 * ordinary.certificate.upper
    assert seen(target, built.network, 1.0) <= built.certificate.upper
    x = noise(20, 3)
    assert torch.equal(built.target(x), ordinary.target(x))


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (3, 2, 0), (3, 0, 2)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_of_no_units_are_refused_in_a_sentence(sizes):
    target = nn.Sequential(*(nn.Linear(*each) for each in itertools.pairwise(sizes)))
    with pytest.raises(SupermaskError, match=r"has \d inputs and \d outputs; give layers with one of each at least\.$"):
        construct(target, 0.1)


def test_an_epsilon_near_the_end_of_float64_is_answered():
    built = construct(filled(nn.Linear(3, 2)), 1e308)
    assert built.within
    assert built.counts[0].packing == 0
