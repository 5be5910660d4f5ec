"""Norms are never below the exact ones: of a layer written out as a matrix, of a step as random search finds it."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from theory.norms import constant_norm, operator_norm, schur_norm, step_norm, step_rounding
from theory.precision import FLOAT64
from theory.target import FixedStep, TargetLayer

NORMS = ["l2", "linf"]


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix_of(computes, shape):
    """Return the matrix of a linear function of images, column by column: what it makes of each unit image."""
    count = math.prod(shape)
    return computes(torch.eye(count, dtype=torch.float64).reshape(count, *shape)).flatten(1).T.detach().numpy()


def exact_norm(matrix, norm):
    return np.linalg.norm(matrix, 2) if norm == "l2" else np.abs(matrix).sum(axis=1).max()


def convolution(kernel, size, *, stride=(1, 1), dilation=(1, 1)):
    return TargetLayer(kernel, None, size, stride, dilation, convolutional=True)


def matrix_of_layer(layer, kernel):
    weight, stride, dilation = torch.from_numpy(kernel), layer.stride, layer.dilation
    shape = (kernel.shape[1], *layer.size)
    return matrix_of(lambda x: nn.functional.conv2d(x, weight, stride=stride, dilation=dilation), shape)


def positive_part_of(kernel):
    return np.maximum(kernel, 0.0)


SIDES = st.integers(1, 3)


@st.composite
def layers(draw):
    """Return convolutions of all geometries that fit, with entries that are Gaussian, of one sign, or sparse."""
    window, stride, dilation = (draw(st.tuples(SIDES, SIDES)) for _ in range(3))
    least = [gap * (taps - 1) + 1 for taps, gap in zip(window, dilation, strict=True)]
    size = tuple(side + draw(st.integers(0, 5)) for side in least)
    outputs, inputs = draw(SIDES), draw(SIDES)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    kernel = generator.standard_normal((outputs, inputs, *window))
    kind = draw(st.sampled_from(["gaussian", "positive", "sparse"]))
    kernel = {"gaussian": kernel, "positive": np.abs(kernel), "sparse": kernel * (np.abs(kernel) > 1.0)}[kind]
    return convolution(kernel, size, stride=stride, dilation=dilation)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(layer=layers(), norm=st.sampled_from(NORMS))
def test_no_operator_norm_is_below_that_of_the_matrix(layer, norm):
    exact = exact_norm(matrix_of_layer(layer, layer.kernel), norm)
    assert operator_norm(layer, layer.kernel, norm) >= exact
    if layer.window == (1, 1) and layer.stride == (1, 1):
        assert operator_norm(layer, layer.kernel, norm) == pytest.approx(exact, rel=1e-8, abs=1e-300)
    positive = positive_part_of(layer.kernel)
    assert schur_norm(layer, positive, norm) >= exact_norm(matrix_of_layer(layer, positive), norm)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(layer=layers(), norm=st.sampled_from(NORMS))
def test_two_halves_side_by_side_count_as_one_matrix(layer, norm):
    """As the error operator of a layer whose inputs can be negative: its kernel has twice the layer's inputs."""
    kernel = np.concatenate([layer.kernel, np.flip(layer.kernel, 1) - 0.5], axis=1)
    assert operator_norm(layer, kernel, norm) >= exact_norm(matrix_of_layer(layer, kernel), norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 3)])
def test_a_window_of_one_pixel_has_the_norm_of_its_matrix(stride, norm):
    layer = convolution(noise(3, 4, 1, 1).numpy(), (5, 4), stride=stride)
    exact = exact_norm(layer.kernel[:, :, 0, 0], norm)
    assert operator_norm(layer, layer.kernel, norm) == pytest.approx(exact, rel=1e-8)
    assert exact == pytest.approx(exact_norm(matrix_of_layer(layer, layer.kernel), norm), rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_a_fully_connected_layer_has_the_norm_of_its_matrix(norm):
    layer = TargetLayer(noise(3, 5, 1, 1).numpy(), None)
    exact = exact_norm(layer.kernel[:, :, 0, 0], norm)
    assert exact <= operator_norm(layer, layer.kernel, norm) <= exact * (1.0 + 1e-8)


@pytest.mark.parametrize("norm", NORMS)
def test_a_window_as_large_as_the_image_has_the_largest_sum_of_sizes(norm):
    """One place: a row of all entries, whose norm on the box is their sum; on the ball the torus may give some away."""
    layer = convolution(noise(2, 2, 3, 3).numpy(), (3, 3))
    exact = exact_norm(layer.kernel.reshape(2, -1), norm)
    found = operator_norm(layer, layer.kernel, norm)
    assert exact <= found <= exact * (1.0 + 1e-8 if norm == "linf" else 3.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (1, 3)])
def test_on_images_of_some_size_little_is_given_away(window, seed):
    layer = convolution(noise(3, 2, *window, seed=seed).numpy(), (8, 9))
    exact = exact_norm(matrix_of_layer(layer, layer.kernel), "l2")
    assert exact <= operator_norm(layer, layer.kernel, "l2") <= 1.6 * exact


@pytest.mark.parametrize(
    ("stride", "dilation"), [((2, 2), (1, 1)), ((1, 1), (2, 2)), ((2, 3), (1, 2)), ((3, 1), (2, 1))]
)
def test_strides_and_dilations_give_away_little_more(stride, dilation):
    """Measured, that the bound stays one: a stride that is not counted would double it, or halve it."""
    for seed in range(3):
        layer = convolution(noise(2, 2, 3, 3, seed=seed).numpy(), (12, 11), stride=stride, dilation=dilation)
        exact = exact_norm(matrix_of_layer(layer, layer.kernel), "l2")
        assert exact <= operator_norm(layer, layer.kernel, "l2") <= 1.6 * exact


@pytest.mark.parametrize("norm", NORMS)
def test_what_has_no_inputs_has_no_norm(norm):
    layer = convolution(np.zeros((2, 1, 2, 2)), (4, 4))
    assert operator_norm(layer, np.zeros((2, 0, 2, 2)), norm) == 0.0
    assert operator_norm(layer, layer.kernel, norm) == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_an_offset_counts_at_every_place(norm):
    layer = convolution(noise(3, 2, 2, 2).numpy(), (6, 5), stride=(2, 1))
    everywhere = np.broadcast_to(np.array([0.5, -2.0, 1.0])[:, None, None], layer.output_shape)
    exact = np.linalg.norm(everywhere) if norm == "l2" else 2.0
    assert exact <= constant_norm(layer, np.array([0.5, -2.0, 1.0]), norm) <= exact * (1.0 + 1e-8)


AVERAGES = {
    "plain": nn.AvgPool2d(2),
    "overlapping": nn.AvgPool2d(3, stride=1),
    "overlapping on one side": nn.AvgPool2d((3, 2), stride=(2, 2)),
    "padded": nn.AvgPool2d(3, stride=2, padding=1),
    "padding not counted": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "another divisor": nn.AvgPool2d(2, stride=1, divisor_override=1),
    "a large divisor": nn.AvgPool2d(2, divisor_override=16),
    "rounded up": nn.AvgPool2d(3, stride=2, ceil_mode=True),
    "rounded up, padded and not counted": nn.AvgPool2d(2, 2, padding=1, ceil_mode=True, count_include_pad=False),
    "to one": nn.AdaptiveAvgPool2d(1),
    "to windows that overlap": nn.AdaptiveAvgPool2d((4, 3)),
    "to more than there is": nn.AdaptiveAvgPool2d((7, 9)),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
@pytest.mark.parametrize("module", AVERAGES.values(), ids=AVERAGES.keys())
def test_no_average_is_longer_than_its_bound(module, size, norm):
    exact = exact_norm(matrix_of(module, (1, *size)), norm)
    found = step_norm(FixedStep(module, (3, *size)), norm)
    assert exact <= found <= 1.5 * exact
    if norm == "linf":
        assert found == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("module", [nn.AvgPool2d(2), nn.AvgPool2d(2, divisor_override=1), nn.AdaptiveAvgPool2d(3)])
def test_averages_that_share_no_pixel_reach_their_bound(module, norm):
    exact = exact_norm(matrix_of(module, (1, 6, 6)), norm)
    assert step_norm(FixedStep(module, (2, 6, 6)), norm) == pytest.approx(exact, rel=1e-8)


LARGEST = {
    "plain": (nn.MaxPool2d(2), (6, 6), 1),
    "a step longer than the window": (nn.MaxPool2d(2, 3), (6, 6), 1),
    "overlapping": (nn.MaxPool2d(3, 1), (7, 7), 9),
    "overlapping by one": (nn.MaxPool2d(3, 2), (7, 7), 4),
    "overlapping on one side": (nn.MaxPool2d((1, 3), (1, 2)), (4, 7), 2),
    "padded": (nn.MaxPool2d(3, 2, padding=1), (7, 7), 4),
    "dilated": (nn.MaxPool2d(2, 1, dilation=2), (5, 5), 4),
    "dilated past the overlap": (nn.MaxPool2d(3, 2, dilation=(1, 3)), (7, 13), 4),
    "dilated in step": (nn.MaxPool2d(2, 2, dilation=2), (7, 7), 4),
    "rounded up": (nn.MaxPool2d(2, 2, ceil_mode=True), (5, 5), 1),
    "rounded up and overlapping": (nn.MaxPool2d(3, 2, ceil_mode=True), (6, 6), 4),
    "to one": (nn.AdaptiveMaxPool2d(1), (5, 4), 1),
    "to windows that overlap": (nn.AdaptiveMaxPool2d((4, 3)), (5, 4), 4),
    "to more than there is": (nn.AdaptiveMaxPool2d((6, 2)), (2, 2), 3),
}
"""Each with the image's size, and the most windows that a pixel is in, counted by hand."""


def furthest_apart(module, shape, norm):
    """Return the largest |step(x) - step(y)| / |x - y| that is found: near and far, and where one pixel stands out."""
    count = math.prod(shape)
    x = torch.cat([noise(40, *shape, seed=1), torch.zeros(2 * count, *shape, dtype=torch.float64)])
    one = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
    y = torch.cat([x[:40] + 0.1 * noise(40, *shape, seed=2), one, -one])
    moved = torch.linalg.vector_norm((module(x) - module(y)).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)
    apart = torch.linalg.vector_norm((x - y).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)
    return float((moved / apart).max())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("module", "size", "windows"), LARGEST.values(), ids=LARGEST.keys())
def test_a_pixel_that_stands_out_moves_every_window_it_is_in_and_no_more(module, size, windows, norm):
    bound = step_norm(FixedStep(module, (2, *size)), norm)
    assert bound == pytest.approx(math.sqrt(windows) if norm == "l2" else 1.0)
    assert furthest_apart(module, (2, *size), norm) == pytest.approx(bound)


SIZES = st.integers(1, 4)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    window=st.tuples(SIZES, SIZES),
    stride=st.tuples(SIZES, SIZES),
    dilation=st.tuples(SIZES, SIZES),
    padded=st.booleans(),
    ceil=st.booleans(),
    norm=st.sampled_from(NORMS),
)
def test_no_largest_value_moves_by_more_than_its_bound(window, stride, dilation, padded, ceil, norm):
    padding = tuple(taps // 2 for taps in window) if padded else 0
    module, shape = nn.MaxPool2d(window, stride, padding, dilation, ceil_mode=ceil), (1, 13, 14)
    assume(module(torch.zeros(shape)[None]).isfinite().all())
    found = furthest_apart(module, shape, norm)
    assert found <= step_norm(FixedStep(module, shape), norm) * (1.0 + 1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("module", [nn.ReLU(), nn.Flatten(), nn.ZeroPad2d((1, 2, 0, 3))])
def test_what_only_cuts_off_or_moves_entries_makes_nothing_longer(module, norm):
    assert step_norm(FixedStep(module, (2, 3, 4)), norm) == 1.0
    assert furthest_apart(module, (2, 3, 4), norm) == pytest.approx(1.0)


def test_rounding_of_a_sum_is_bounded_in_any_order():
    """The same terms in three orders, against the exact sum of fractions."""
    generator = np.random.default_rng(0)
    terms = generator.standard_normal(500) * 10.0 ** generator.integers(-8, 8, 500)
    exact, size = math.fsum(terms), math.fsum(abs(terms))
    for order in (terms, np.sort(terms), terms[::-1]):
        off = abs(list(itertools.accumulate(order))[-1] - exact)
        assert 0.0 < off <= FLOAT64.sums(len(terms)) * size


def test_only_averages_round():
    shape = (2, 4, 4)
    assert step_rounding(FixedStep(nn.AvgPool2d(4), shape)) >= FLOAT64.sums(17)
    assert step_rounding(FixedStep(nn.AdaptiveAvgPool2d(1), shape)) >= FLOAT64.sums(17)
    for module in (nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.ZeroPad2d(1)):
        assert step_rounding(FixedStep(module, shape)) == 0.0
