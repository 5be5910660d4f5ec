"""Of convolutional targets: the certificate is above every difference there is, and its lower end is a difference."""

import copy
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cnns import CNNS, attack, cnn, effective_weights, filled, noise, sizes_of
from torch import nn

from theory import ascent
from theory.certificate import upper_bounds
from theory.constructions.effective import Effective
from theory.target import read_target

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct

NORMS = ["l2", "linf"]


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(ascent, "STEPS", 25)


def build(target, shape, **options):
    return construct(target, 0.05, construction="convolution", input_shape=shape, **options)


def assert_above(built, target, shape, *, seed=0, **options):
    """See to it that nothing is found above the certificate; return how much was found."""
    radius, norm = built.certificate.radius, built.certificate.norm
    found = attack(target, built.network, shape, radius=radius, norm=norm, seed=seed + 1, **options)
    assert built.certificate.upper >= max(found, built.certificate.lower)
    assert built.certificate.lower >= 0.75 * found
    return found


# by the other norm the certificate is another recursion, and the network the same: few of them are enough
FEW = ("a stride", "padding")


@pytest.mark.parametrize(
    ("name", "norm"),
    [*((name, "l2") for name in CNNS)]
    + [pytest.param(name, "linf", marks=() if name in FEW else pytest.mark.slow) for name in CNNS],
)
def test_the_certificate_is_above_every_error_that_is_found(name, norm):
    target, shape = cnn(name, seed=4)
    for radius, width, grouped in [(1.0, 5, False), (0.05, 12, True), (10.0, 12, False)]:
        built = build(target, shape, width=width, radius=radius, norm=norm, grouped=grouped)
        assert_above(built, target, shape, steps=8)
        assert (built.certificate.radius, built.certificate.norm) == (radius, norm)


@st.composite
def small_targets(draw):
    """Return a convolution with steps around it, perhaps a second one, and its inputs' shape."""
    window, stride, dilation = (draw(st.tuples(st.integers(1, 3), st.integers(1, 2))) for _ in range(3))
    geometry = {"stride": stride, "dilation": dilation, "bias": draw(st.booleans())}
    steps = [nn.ReLU(), nn.MaxPool2d(2, 1, padding=1), nn.AvgPool2d(2, 1, 1, divisor_override=2), nn.MaxPool2d(3, 2, 1)]
    after = draw(st.lists(st.sampled_from(steps), max_size=2))
    modules = [nn.Conv2d(draw(st.integers(1, 2)), 2, window, padding=draw(st.integers(0, 1)), **geometry), *after]
    if draw(st.booleans()):
        modules.append(nn.Conv2d(2, 2, 2, padding=1, bias=draw(st.booleans())))
    return filled(*modules, seed=draw(st.integers(0, 1000))), (modules[0].in_channels, 8, 7)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    case=small_targets(),
    width=st.sampled_from([1, 6, 16]),
    radius=st.sampled_from([0.1, 1.0, 20.0]),
    norm=st.sampled_from(NORMS),
    seed=st.integers(0, 1000),
)
def test_no_geometry_has_an_error_above_its_certificate(case, width, radius, norm, seed):
    target, shape = case
    built = build(target, shape, width=width, radius=radius, norm=norm, seed=seed)
    found = attack(target, built.network, shape, radius=radius, norm=norm, seed=seed, steps=8)
    assert built.certificate.upper >= max(found, built.certificate.lower)


def off_by(read, size):
    """Return effective weights that miss every layer's by `size`, all one way, the halves by other amounts."""
    found = []
    for layer in read.layers:
        negative = layer.kernel - 0.5 * size if layer.signed else None
        mass = np.abs(layer.kernel), np.abs(layer.offset)
        found.append(
            Effective(
                layer.kernel + size,
                negative,
                layer.offset + size,
                *mass,
                terms=layer.kernel.size,
                outgoing=1.0,
                gathered=1,
            )
        )
    return found


def test_on_a_box_a_positive_network_reaches_its_certificate():
    """All weights, errors and inputs pull one way: the recursion gives nothing away but rounding."""
    target = filled(
        nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(2, 2, 2, dilation=2),
        nn.AvgPool2d(2, divisor_override=3), nn.Flatten(), nn.Linear(2, 2),
    )  # fmt: skip
    for parameter in target.parameters():
        parameter.data.fill_(0.25)  # all channels alike, so that the worst of each layer meet
    read = read_target(target, (1, 10, 10))
    found = off_by(read, 0.125)
    other = copy.deepcopy(target)
    for parameter in other.parameters():
        parameter.data += 0.125
    x = torch.full((1, 1, 10, 10), 3.0, dtype=torch.float64)
    reached = float((other(x) - target(x)).abs().max().detach())
    assert reached <= upper_bounds(read, found, 3.0, "linf").upper <= reached * (1.0 + 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_upper_bounds_are_the_recursion_over_steps_written_out(norm):
    target = filled(
        nn.AvgPool2d(2, divisor_override=1), nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 1),
        nn.Conv2d(2, 2, 1), nn.AvgPool2d(2, divisor_override=2),
    )  # fmt: skip
    read = read_target(target, (1, 8, 8))
    found = off_by(read, 0.125)
    (first, second), (one, two), order = read.layers, found, 2 if norm == "l2" else np.inf

    def matrix_norm(kernel):
        return np.linalg.norm(kernel[:, :, 0, 0], order)

    def offset_norm(offset, places):
        return np.linalg.norm(offset, order) * (places**0.5 if norm == "l2" else 1.0)

    if norm == "linf":
        s0, s1, s2, d1 = 4.0, 1.0, 2.0, 0.125  # windows of 4 added up, windows of 9, and half of 4 added up
    else:
        s0, s1, s2 = 2.0, 3.0, 1.0
        d1 = np.linalg.norm([[0.125, 0.0625]] * 2, 2)
    r0 = 0.5 * s0
    e1 = s1 * (d1 * r0 + offset_norm(one.offset - first.offset, 16))
    r1 = s1 * (matrix_norm(first.kernel) * r0 + offset_norm(first.offset, 16))
    d2 = matrix_norm(two.positive - second.kernel)
    e2 = s2 * (matrix_norm(second.kernel) * e1 + d2 * (r1 + e1) + offset_norm(two.offset - second.offset, 4))
    r2 = s2 * (matrix_norm(second.kernel) * r1 + offset_norm(second.offset, 4))
    bounds = upper_bounds(read, found, 0.5, norm).layers
    assert [bound.difference for bound in bounds] == pytest.approx([e1, e2], rel=1e-6)
    assert [bound.size for bound in bounds] == pytest.approx([r1, r2], rel=1e-6)
    assert [bound.operator_error for bound in bounds] == pytest.approx([d1, d2], rel=1e-6)
    offsets = [offset_norm(one.offset - first.offset, 16), offset_norm(two.offset - second.offset, 4)]
    assert [bound.offset_error for bound in bounds] == pytest.approx(offsets, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_certificate_is_for_the_shape_of_the_inputs(norm):
    target = filled(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
    small, large = (build(target, (1, side, side), width=8, norm=norm) for side in (3, 8))
    assert small.ticket.digest == large.ticket.digest
    assert (small.input_shape, large.input_shape) == ((1, 3, 3), (1, 8, 8))
    for built in (small, large):
        assert_above(built, target, built.input_shape)
    if norm == "l2":  # the offsets' errors count at every place
        assert large.certificate.upper > small.certificate.upper
        assert attack(target, large.network, (1, 8, 8), radius=1.0, norm=norm, seed=0) > small.certificate.upper / 4


def test_the_shape_is_the_smallest_square_that_fits():
    target, shape = cnn("like LeNet-5")
    built = construct(target, 0.1, construction="convolution", width=6)
    assert built.input_shape == shape
    assert (
        built.certificate == construct(target, 0.1, construction="convolution", width=6, input_shape=shape).certificate
    )


@pytest.mark.parametrize("norm", NORMS)
def test_the_norm_of_an_image_is_over_all_its_pixels(norm):
    """One channel, one pixel and no bias: the network is off by the same multiple of every pixel."""
    target = filled(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    built = build(target, (1, 3, 3), width=6, radius=2.0, norm=norm)
    ((up, down, _),) = effective_weights(built, target)
    weight = target[0].weight.detach()
    off = [float(abs(half - wanted)) for half, wanted in ((up, weight), (down, -weight))]
    worst = (max(off) if norm == "linf" else np.hypot(*off)) * 2.0
    assert built.certificate.upper == pytest.approx(worst, rel=1e-6)
    served = off[0] if float(weight.detach()) > 0.0 else off[1]  # what is negative, the ReLU cuts off
    assert built.certificate.lower == pytest.approx(served * 2.0, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_rounding_of_averages_is_counted(norm):
    """The same weights on both sides, so that nothing but rounding is between the two networks."""
    side, radius, shortened = 33, 100.0, 1.0 if norm == "linf" else 1.0 / 33.0
    target = filled(nn.Conv2d(1, 1, 1, bias=False), nn.AvgPool2d(side))
    read = read_target(target, (1, side, side))
    found = [
        Effective(
            x.kernel, x.kernel if x.signed else None, x.offset, np.abs(x.kernel), np.abs(x.offset), x.inputs, 1.0, 1
        )
        for x in read.layers
    ]
    upper = upper_bounds(read, found, radius, norm).upper
    x = noise(50, 1, side, side)
    x *= radius / sizes_of(x, norm).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        seen = float(sizes_of(target(x) - read(x), norm).max())
    assert seen <= upper < 1e-9
    size = abs(float(target[0].weight.detach())) * radius * shortened
    assert upper >= 2 * (side**2 - 1) * 2.0**-53 * size  # in both networks, each sum of so many pixels


def test_a_dead_layer_still_counts_what_comes_behind_it():
    target = filled(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2))
    target[0].weight.data.zero_()
    built = build(target, (1, 4, 4), width=6)
    assert_above(built, target, (1, 4, 4))
    assert built.certificate.lower > 0.0


def test_one_pixel_is_an_image_too():
    target = filled(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    assert construct(target, 0.1, construction="convolution", width=6).input_shape == (2, 1, 1)
