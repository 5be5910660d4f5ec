"""certificate.upper is above every difference there is, and lower is a difference that there is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask.errors import SupermaskError
from theory.certificate import Effective, certify, effective_layers, upper_bounds
from theory.target import layers_of

NORMS = ["l2", "linf"]


class Algebra(nn.Module):
    """A network that is given by its effective weights."""

    def __init__(self, layers, effective):
        super().__init__()
        self.layers, self.effective = layers, effective

    def forward(self, x):
        for layer, found in zip(self.layers, self.effective, strict=True):
            negative = found.positive if found.negative is None else found.negative
            y = x.relu() @ torch.from_numpy(found.positive).T - (-x).relu() @ torch.from_numpy(negative).T
            y = y + torch.from_numpy(found.offset)
            x = y.relu() if layer.relu else y
        return x


def network(*sizes, bias, seed, scale=1.0):
    generator = np.random.default_rng(seed)
    modules = []
    for inputs, outputs in itertools.pairwise(sizes):
        linear = nn.Linear(inputs, outputs, bias=bias).double()
        for parameter in linear.parameters():
            parameter.data = torch.from_numpy(scale * generator.standard_normal(parameter.shape))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def perturbed(layers, size, seed):
    """Return effective weights that miss the layers' by about `size`, the two halves of the first differently."""
    generator = np.random.default_rng(seed)

    def off(matrix):
        return matrix + size * generator.standard_normal(matrix.shape)

    found = []
    for i, layer in enumerate(layers):
        offset = layer.offset if layer.bias is None else off(layer.bias)
        mass = np.abs(np.concatenate([layer.weight, layer.offset[:, None]], axis=1))
        negative = off(layer.weight) if i == 0 else None
        found.append(Effective(off(layer.weight), negative, offset, mass, terms=layer.inputs))
    return found


def certified(target, effective, *, radius, norm, module=None):
    layers = layers_of(target)
    module = module or Algebra(layers, effective)
    return certify(target, module, layers, effective, radius=radius, norm=norm, seed=0)


def sizes_of(rows, norm):
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def into_ball(x, radius, norm):
    if norm == "linf":
        return x.clamp(-radius, radius)
    return x * (radius / x.norm(dim=1, keepdim=True)).clamp(max=1.0)


def attack(target, other, inputs, *, radius, norm, seed):
    """Return the largest difference seen: at random, on the axes, and by gradient ascent through the modules."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(400, inputs, dtype=torch.float64, generator=generator)
    axes = torch.eye(inputs, dtype=torch.float64)
    corners = x[:200].sign()
    x = into_ball(radius * torch.cat([10.0 * x, x / 10.0, 10.0 * corners, axes, -axes, 0.0 * axes[:1]]), radius, norm)
    largest = 0.0
    for _ in range(30):
        x.requires_grad_()
        differences = sizes_of(target(x) - other(x), norm)
        largest = max(largest, float(differences.detach().max()))
        (gradient,) = torch.autograd.grad(differences.sum(), x)
        step = gradient.sign() if norm == "linf" else gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
        x = into_ball(x.detach() + 0.2 * radius * step, radius, norm)
    return largest


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.sampled_from([(1, 1), (3, 2), (4, 5, 3), (3, 4, 4, 2), (2, 1, 6, 1)]),
    bias=st.booleans(),
    error=st.sampled_from([1.0, 1e-2, 1e-6]),
    radius=st.sampled_from([0.01, 1.0, 20.0]),
    norm=st.sampled_from(NORMS),
)
def test_upper_is_above_every_error_that_is_found(seed, sizes, bias, error, radius, norm):
    target = network(*sizes, bias=bias, seed=seed)
    effective = perturbed(layers_of(target), error, seed + 1)
    certificate = certified(target, effective, radius=radius, norm=norm)
    found = attack(target, Algebra(layers_of(target), effective), sizes[0], radius=radius, norm=norm, seed=seed + 2)
    assert certificate.upper >= found
    assert certificate.upper >= certificate.lower > 0.0
    assert certificate.lower >= 0.8 * found
    assert certificate.ratio == certificate.upper / certificate.lower


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_one_input_without_biases_is_worst_at_an_end(seed, norm):
    target = network(1, 5, 4, 1, bias=False, seed=seed)
    effective = perturbed(layers_of(target), 0.05, seed)
    certificate = certified(target, effective, radius=3.0, norm=norm)
    ends = torch.tensor([[3.0], [-3.0]], dtype=torch.float64)
    exact = float((target(ends) - Algebra(layers_of(target), effective)(ends)).abs().max().detach())
    assert certificate.lower == pytest.approx(exact, rel=1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_one_input_with_biases_is_worst_at_a_breakpoint(seed, norm):
    target = network(1, 4, 1, bias=True, seed=seed)
    first, *_ = layers = layers_of(target)
    effective = perturbed(layers, 0.05, seed)
    found = effective[0]
    lines = [(first.weight, first.offset), (found.positive, found.offset), (found.negative, found.offset)]
    kinks = np.concatenate([-offset / slope[:, 0] for slope, offset in lines])
    radius = 2.0
    points = torch.from_numpy(np.array([0.0, radius, -radius, *kinks[np.abs(kinks) <= radius]]))[:, None]
    exact = float((target(points) - Algebra(layers, effective)(points)).abs().max().detach())
    certificate = certified(target, effective, radius=radius, norm=norm)
    assert 0.95 * exact <= certificate.lower <= exact * (1.0 + 1e-12)
    assert certificate.upper >= exact


def worst_of_two_inputs(difference, normals):
    """Return the largest |difference| on the unit circle: linear between the lines that the normals stand on."""
    angles = np.concatenate([np.arctan2(normals[:, 0], -normals[:, 1]), [0.0, np.pi / 2]])
    angles = np.sort(np.concatenate([angles, angles + np.pi]) % (2 * np.pi))
    worst = 0.0
    for start, end in zip(angles, [*angles[1:], angles[0] + 2 * np.pi], strict=True):
        if end - start < 1e-9:
            continue
        inside = np.array([start + (end - start) * part for part in (0.0, 0.3, 0.6, 1.0)])
        points = np.stack([np.cos(inside), np.sin(inside)], axis=1)
        values = difference(points)
        worst = max(worst, *np.abs(values[[0, 3]]))
        slope = np.linalg.solve(points[1:3], values[1:3])
        peak = np.arctan2(slope[1], slope[0])
        if any((peak + turn - start) % (2 * np.pi) <= end - start for turn in (0.0, np.pi)):
            worst = max(worst, float(np.linalg.norm(slope)))
    return worst


@pytest.mark.parametrize("seed", range(5))
def test_two_inputs_against_the_exact_supremum_on_the_disc(seed):
    target = network(2, 4, 1, bias=False, seed=seed)
    layers = layers_of(target)
    effective = perturbed(layers, 0.1, seed)
    other, found = Algebra(layers, effective), effective[0]

    @torch.no_grad()
    def difference(points):
        x = torch.from_numpy(points)
        return (target(x) - other(x))[:, 0].numpy()

    halves = [np.where([a, b], found.positive, found.negative) for a in (True, False) for b in (True, False)]
    exact = worst_of_two_inputs(difference, np.concatenate([layers[0].weight, *halves]))
    certificate = certified(target, effective, radius=1.0, norm="l2")
    assert 0.95 * exact <= certificate.lower <= exact * (1.0 + 1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize("seed", range(5))
def test_one_layer_on_a_box_against_its_vertices(seed):
    target = network(2, 3, bias=False, seed=seed)
    effective = perturbed(layers_of(target), 0.1, seed)
    vertices = torch.tensor(list(itertools.product([-2.0, 0.0, 2.0], repeat=2)), dtype=torch.float64)
    exact = float((target(vertices) - Algebra(layers_of(target), effective)(vertices)).abs().max().detach())
    certificate = certified(target, effective, radius=2.0, norm="linf")
    assert certificate.lower == pytest.approx(exact, rel=1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize(("norm", "expected"), [("linf", 0.25 * 3.0), ("l2", 0.125 * 2.0 * 3.0)])
def test_where_all_errors_pull_one_way_only_the_two_halves_are_given_away(norm, expected):
    """On the box the bound is reached; on the ball it counts both halves' errors at once, sqrt 2 more than there is."""
    target = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    target[0].weight.data = torch.tensor([[0.25, 0.5]], dtype=torch.float64)
    weight = layers_of(target)[0].weight
    effective = [Effective(weight + 0.125, weight + 0.125, np.zeros(1), np.abs(weight), terms=2)]
    assert certified(target, effective, radius=3.0, norm=norm).upper == pytest.approx(expected, rel=1e-6)


def slow_norm(matrix, norm):
    if norm == "linf" or not matrix.any():
        return max(sum(abs(entry) for entry in row) for row in matrix)
    vector = np.random.default_rng(0).standard_normal(matrix.shape[1])
    for _ in range(3000):
        vector = matrix.T @ (matrix @ vector)
        vector /= np.sqrt((vector**2).sum())
    return np.sqrt(((matrix @ vector) ** 2).sum())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_upper_bounds_are_the_recursion_written_out(norm, bias):
    layers = layers_of(network(3, 4, 4, 2, bias=bias, seed=4))
    effective = perturbed(layers, 0.1, 5)
    first, second, third = layers
    a, b, c = effective
    if norm == "linf":
        d1 = max(
            sum(max(abs(a.positive[i, j] - w), abs(a.negative[i, j] - w)) for j, w in enumerate(row))
            for i, row in enumerate(first.weight)
        )
    else:
        d1 = slow_norm(np.concatenate([a.positive - first.weight, first.weight - a.negative], axis=1), norm)
    d2, d3 = slow_norm(b.positive - second.weight, norm), slow_norm(c.positive - third.weight, norm)
    n1, n2, n3 = (slow_norm(layer.weight, norm) for layer in layers)
    b1, b2, _ = (slow_norm(layer.offset[:, None], norm) for layer in layers)
    g1, g2, g3 = (slow_norm((e.offset - x.offset)[:, None], norm) for e, x in zip(effective, layers, strict=True))
    r0 = 2.0
    e1, r1 = d1 * r0 + g1, n1 * r0 + b1
    e2, r2 = n2 * e1 + d2 * (r1 + e1) + g2, n2 * r1 + b2
    e3 = n3 * e2 + d3 * (r2 + e2) + g3
    found = upper_bounds(layers, effective, 2.0, norm)
    assert [bound.difference for bound in found] == pytest.approx([e1, e2, e3], rel=1e-6)
    assert [bound.size for bound in found[:2]] == pytest.approx([r1, r2], rel=1e-6)
    assert [bound.operator_error for bound in found] == pytest.approx([d1, d2, d3], rel=1e-6)
    assert found[-1].difference >= e3


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [True, False])
def test_effective_weights_are_sums_over_paths(relu, bias):
    generator = np.random.default_rng(1)
    inputs, hidden, outputs = 3, 12, 2
    first = generator.uniform(-1, 1, (hidden, inputs))
    second = generator.uniform(-1, 1, (outputs, hidden)) * (generator.random((outputs, hidden)) < 0.6)
    offset = generator.uniform(-1, 1, hidden) if bias else None
    if relu:  # each unit reads one input, the last ones the bias
        first *= np.arange(hidden)[:, None] % 4 == np.arange(inputs)
        if bias:
            offset *= np.arange(hidden) % 4 == inputs
    (found,) = effective_layers([(first, offset, second)], relu=relu, signed=[True])
    positive, negative = np.zeros((outputs, inputs)), np.zeros((outputs, inputs))
    constant, mass = np.zeros(outputs), np.zeros((outputs, inputs + 1))
    for out, unit in itertools.product(range(outputs), range(hidden)):
        for column in range(inputs):
            u, v = first[unit, column], second[out, unit]
            mass[out, column] += abs(u * v)
            if not relu or u > 0:
                positive[out, column] += u * v
            if not relu or u < 0:
                negative[out, column] += u * v
        if bias:
            mass[out, inputs] += abs(offset[unit] * second[out, unit])
            constant[out] += second[out, unit] * (max(offset[unit], 0.0) if relu else offset[unit])
    for mine, theirs in [
        (positive, found.positive), (negative, found.negative), (constant, found.offset), (mass, found.mass)
    ]:  # fmt: skip
        np.testing.assert_allclose(theirs, mine, rtol=0.0, atol=1e-14)


def test_inputs_that_are_never_negative_have_one_half():
    first, second = np.array([[1.0], [-1.0]]), np.array([[0.5, 0.25]])
    (found,) = effective_layers([(first, None, second)], relu=True, signed=[False])
    assert found.negative is None
    assert found.positive == 0.5


def test_a_unit_that_reads_two_inputs_is_no_diamond():
    with pytest.raises(AssertionError, match="more than one input"):
        effective_layers([(np.ones((2, 2)), None, np.ones((1, 2)))], relu=True, signed=[True])


@pytest.mark.parametrize("norm", NORMS)
def test_identical_networks_are_apart_by_rounding_only(norm):
    target = network(4, 5, 3, bias=True, seed=0)
    layers = layers_of(target)
    mass = [np.abs(np.concatenate([layer.weight, layer.offset[:, None]], axis=1)) for layer in layers]
    effective = [
        Effective(x.weight, x.weight if i == 0 else None, x.offset, mass[i], x.inputs) for i, x in enumerate(layers)
    ]
    certificate = certified(target, effective, radius=1.0, norm=norm, module=target)
    assert certificate.lower == 0.0
    assert 0.0 < certificate.upper < 1e-11
    assert certificate.ratio == float("inf")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("detour", [0.0, 1.0, 1e6])
def test_upper_counts_the_rounding_of_long_sums(detour, norm):
    """The same weights as sums over paths that cancel: the larger the paths, the more rounding is seen and allowed."""
    target = network(6, 4, bias=False, seed=0)
    weight = layers_of(target)[0].weight
    shares = [weight + detour, 0.0 * weight - detour / 2, 0.0 * weight - detour / 2]
    signs = np.concatenate([sign * np.eye(6) for sign in (1.0, -1.0) for _ in shares])
    second = np.concatenate([*shares, *(-share for share in shares)], axis=1)
    pair = nn.Sequential(nn.Linear(6, 36, bias=False), nn.ReLU(), nn.Linear(36, 4, bias=False)).double()
    pair[0].weight.data, pair[2].weight.data = torch.from_numpy(signs), torch.from_numpy(second)
    effective = effective_layers([(signs, None, second)], relu=True, signed=[True])
    certificate = certified(target, effective, radius=1.0, norm=norm, module=pair)
    seen = attack(target, pair, 6, radius=1.0, norm=norm, seed=1)
    assert max(seen, certificate.lower) <= certificate.upper <= 1e-11 * max(1.0, detour)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ball_without_a_radius_is_refused(radius):
    target = network(2, 1, bias=False, seed=0)
    with pytest.raises(SupermaskError, match=r"^radius=.* must be a positive number\.$"):
        certified(target, perturbed(layers_of(target), 0.1, 0), radius=radius, norm="l2")


def test_an_unknown_norm_is_refused():
    target = network(2, 1, bias=False, seed=0)
    with pytest.raises(SupermaskError, match=r"^Unknown norm 'l1'; known are l2, linf\.$"):
        certified(target, perturbed(layers_of(target), 0.1, 0), radius=1.0, norm="l1")
