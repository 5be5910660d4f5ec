"""certificate.upper is above every difference there is, and lower is a difference that there is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask.errors import SupermaskError
from theory.certificate import certify, upper_bounds
from theory.constructions.effective import Effective, effective
from theory.constructions.random_pair import Paths, RandomPair, check_blocks
from theory.domains import Ball
from theory.target import TargetLayer, read_target

NORMS = ["l2", "linf"]


class Algebra(nn.Module):
    """A network that is given by its effective weights."""

    def __init__(self, target, found):
        super().__init__()
        self.target, self.found = target, found

    def forward(self, x):
        found = iter(self.found)
        for node in self.target.nodes:
            if not isinstance(node.operation, TargetLayer):
                x = node.operation.module(x)
                continue
            pair = next(found)
            negative = pair.positive if pair.negative is None else pair.negative
            up, down = (torch.from_numpy(flat(kernel)) for kernel in (pair.positive, negative))
            x = x.relu() @ up.T - (-x).relu() @ down.T + torch.from_numpy(pair.offset)
        return x


def flat(kernel):
    """Return the matrix of a fully connected kernel."""
    return kernel[:, :, 0, 0]


def kernel(matrix):
    return matrix[:, :, None, None]


def network(*sizes, bias, seed, scale=1.0):
    generator = np.random.default_rng(seed)
    modules = []
    for inputs, outputs in itertools.pairwise(sizes):
        linear = nn.Linear(inputs, outputs, bias=bias).double()
        for parameter in linear.parameters():
            parameter.data = torch.from_numpy(scale * generator.standard_normal(parameter.shape))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def perturbed(target, size, seed):
    """Return effective weights that miss the layers' by about `size`, the two halves of the first differently."""
    generator = np.random.default_rng(seed)

    def off(matrix):
        return matrix + size * generator.standard_normal(matrix.shape)

    found = []
    for i, layer in enumerate(target.layers):
        offset = layer.offset if layer.bias is None else off(layer.bias)
        negative = off(layer.kernel) if i == 0 else None
        mass = np.abs(layer.kernel), np.abs(layer.offset)
        found.append(Effective(off(layer.kernel), negative, offset, *mass, layer.inputs, 1.0, 1))
    return found


def certified(module, found, *, radius, norm, other=None):
    target = read_target(module)
    return certify(target, other or Algebra(target, found), found, domain=Ball(radius), norm=norm, seed=0)


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


@settings(max_examples=12, deadline=None, derandomize=True)
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
    found = perturbed(read_target(target), error, seed + 1)
    certificate = certified(target, found, radius=radius, norm=norm)
    seen = attack(target, Algebra(read_target(target), found), sizes[0], radius=radius, norm=norm, seed=seed + 2)
    assert certificate.upper >= seen
    assert certificate.upper >= certificate.lower > 0.0
    assert certificate.lower >= 0.8 * seen
    assert certificate.ratio == certificate.upper / certificate.lower


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_one_input_without_biases_is_worst_at_an_end(seed, norm):
    target = network(1, 5, 4, 1, bias=False, seed=seed)
    found = perturbed(read_target(target), 0.05, seed)
    certificate = certified(target, found, radius=3.0, norm=norm)
    ends = torch.tensor([[3.0], [-3.0]], dtype=torch.float64)
    exact = float((target(ends) - Algebra(read_target(target), found)(ends)).abs().max().detach())
    assert certificate.lower == pytest.approx(exact, rel=1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_one_input_with_biases_is_worst_at_a_breakpoint(seed, norm):
    target = network(1, 4, 1, bias=True, seed=seed)
    read = read_target(target)
    first, found = read.layers[0], perturbed(read, 0.05, seed)
    pair = found[0]
    kernels = [(first.kernel, first.offset), (pair.positive, pair.offset), (pair.negative, pair.offset)]
    kinks = np.concatenate([-offset / slope[:, 0, 0, 0] for slope, offset in kernels])
    radius = 2.0
    points = torch.from_numpy(np.array([0.0, radius, -radius, *kinks[np.abs(kinks) <= radius]]))[:, None]
    exact = float((target(points) - Algebra(read, found)(points)).abs().max().detach())
    certificate = certified(target, found, radius=radius, norm=norm)
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
    read = read_target(target)
    found = perturbed(read, 0.1, seed)
    other = Algebra(read, found)

    @torch.no_grad()
    def difference(points):
        x = torch.from_numpy(points)
        return (target(x) - other(x))[:, 0].numpy()

    up, down = flat(found[0].positive), flat(found[0].negative)
    halves = [np.where([a, b], up, down) for a in (True, False) for b in (True, False)]
    exact = worst_of_two_inputs(difference, np.concatenate([flat(read.layers[0].kernel), *halves]))
    certificate = certified(target, found, radius=1.0, norm="l2")
    assert 0.95 * exact <= certificate.lower <= exact * (1.0 + 1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize("seed", range(5))
def test_one_layer_on_a_box_against_its_vertices(seed):
    target = network(2, 3, bias=False, seed=seed)
    found = perturbed(read_target(target), 0.1, seed)
    vertices = torch.tensor(list(itertools.product([-2.0, 0.0, 2.0], repeat=2)), dtype=torch.float64)
    exact = float((target(vertices) - Algebra(read_target(target), found)(vertices)).abs().max().detach())
    certificate = certified(target, found, radius=2.0, norm="linf")
    assert certificate.lower == pytest.approx(exact, rel=1e-9)
    assert certificate.upper >= exact


@pytest.mark.parametrize(("norm", "expected"), [("linf", 0.25 * 3.0), ("l2", 0.125 * 2.0 * 3.0)])
def test_where_all_errors_pull_one_way_only_the_two_halves_are_given_away(norm, expected):
    """On the box the bound is reached; on the ball it counts both halves' errors at once, sqrt 2 more than there is."""
    target = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    target[0].weight.data = torch.tensor([[0.25, 0.5]], dtype=torch.float64)
    weight = read_target(target).layers[0].kernel
    found = [
        Effective(
            weight + 0.125, weight + 0.125, np.zeros(1), np.abs(weight), np.zeros(1), terms=2, outgoing=1.0, gathered=1
        )
    ]
    assert certified(target, found, radius=3.0, norm=norm).upper == pytest.approx(expected, rel=1e-6)


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
    target = read_target(network(3, 4, 4, 2, bias=bias, seed=4))
    found = perturbed(target, 0.1, 5)
    first, second, third = (flat(layer.kernel) for layer in target.layers)
    up, down = flat(found[0].positive), flat(found[0].negative)
    if norm == "linf":
        d1 = max(
            sum(max(abs(up[i, j] - w), abs(down[i, j] - w)) for j, w in enumerate(row)) for i, row in enumerate(first)
        )
    else:
        d1 = slow_norm(np.concatenate([up - first, first - down], axis=1), norm)
    d2, d3 = slow_norm(flat(found[1].positive) - second, norm), slow_norm(flat(found[2].positive) - third, norm)
    n1, n2, n3 = (slow_norm(matrix, norm) for matrix in (first, second, third))
    b1, b2, _ = (slow_norm(layer.offset[:, None], norm) for layer in target.layers)
    pairs = zip(found, target.layers, strict=True)
    g1, g2, g3 = (slow_norm((pair.offset - layer.offset)[:, None], norm) for pair, layer in pairs)
    r0 = 2.0
    e1, r1 = d1 * r0 + g1, n1 * r0 + b1
    e2, r2 = n2 * e1 + d2 * (r1 + e1) + g2, n2 * r1 + b2
    e3 = n3 * e2 + d3 * (r2 + e2) + g3
    bounds = upper_bounds(target, found, 2.0, norm).layers
    assert [bound.difference for bound in bounds] == pytest.approx([e1, e2, e3], rel=1e-6)
    assert [bound.size for bound in bounds[:2]] == pytest.approx([r1, r2], rel=1e-6)
    assert [bound.operator_error for bound in bounds] == pytest.approx([d1, d2, d3], rel=1e-6)
    assert bounds[-1].difference >= e3


def fully_connected(outputs, inputs, *, bias, signed=True):
    return TargetLayer(np.zeros((outputs, inputs, 1, 1)), np.zeros(outputs) if bias else None, signed=signed)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.125, 1.0])
def test_effective_weights_are_sums_over_paths(slope, bias):
    generator = np.random.default_rng(1)
    inputs, width, outputs = 3, 4, 2
    hop = generator.uniform(-1, 1, (inputs + bias, width))
    second = generator.uniform(-1, 1, (outputs, inputs + bias, width, 1))
    second *= generator.random(second.shape) < 0.6
    found = effective(fully_connected(outputs, inputs, bias=bias), Paths(hop, second), slope=slope)
    positive, negative = np.zeros((outputs, inputs)), np.zeros((outputs, inputs))
    constant, mass, offset_mass = np.zeros(outputs), np.zeros((outputs, inputs)), np.zeros(outputs)
    for out, column, unit in itertools.product(range(outputs), range(inputs + bias), range(width)):
        u, v = hop[column, unit], second[out, column, unit, 0]
        if column == inputs:
            offset_mass[out] += abs(u * v)
            constant[out] += v * (u if u > 0 else slope * u)
            continue
        mass[out, column] += abs(u * v)
        positive[out, column] += v * (u if u > 0 else slope * u)
        negative[out, column] += v * (u if u < 0 else slope * u)
    expected = (kernel(positive), kernel(negative), constant, kernel(mass), offset_mass)
    theirs = (found.positive, found.negative, found.offset, found.mass, found.offset_mass)
    for mine, other in zip(expected, theirs, strict=True):
        np.testing.assert_allclose(other, mine, rtol=0.0, atol=1e-14)
    assert found.gathered == max(np.count_nonzero(second[o, c]) for o in range(outputs) for c in range(inputs + bias))


def test_a_bias_gathers_the_paths_of_all_its_columns_and_taps():
    layer = TargetLayer(np.zeros((1, 1, 1, 2)), np.zeros(1), signed=False)
    second = np.array([[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]])  # one path a tap, and four of the bias
    assert effective(layer, Paths(np.ones((2, 2)), second), slope=0.0).gathered == 4


def test_inputs_that_are_never_negative_have_one_half():
    paths = Paths(np.array([[1.0, -1.0]]), np.array([[[[0.5], [0.25]]]]))
    found = effective(fully_connected(1, 1, bias=False, signed=False), paths, slope=0.0)
    assert found.negative is None
    assert found.positive == 0.5


def test_a_unit_that_reads_two_inputs_is_no_diamond():
    pair = RandomPair(fully_connected(1, 2, bias=False), 1, 1.0, False, "0", "1")
    tensors = {"0.weight": torch.ones(2, 2), "1.weight": torch.ones(1, 2)}
    with pytest.raises(AssertionError, match="more than its own input"):
        check_blocks(pair, tensors)
    check_blocks(pair, {**tensors, "0.weight": torch.eye(2)})


@pytest.mark.parametrize("norm", NORMS)
def test_identical_networks_are_apart_by_rounding_only(norm):
    target = network(4, 5, 3, bias=True, seed=0)
    found = [
        Effective(
            x.kernel, x.kernel if x.signed else None, x.offset, np.abs(x.kernel), np.abs(x.offset), x.inputs, 1.0, 1
        )
        for x in read_target(target).layers
    ]
    certificate = certified(target, found, radius=1.0, norm=norm, other=target)
    assert certificate.lower < 1e-14  # the target's layers add up in another order
    assert 0.0 < certificate.upper < 1e-11
    assert certificate.upper >= certificate.lower


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("detour", [0.0, 1.0, 1e6])
def test_upper_counts_the_rounding_of_long_sums(detour, norm):
    """The same weights as sums over paths that cancel: the larger the paths, the more rounding is seen and allowed."""
    target = network(6, 4, bias=False, seed=0)
    weight = flat(read_target(target).layers[0].kernel)
    shares = np.stack([weight + detour, 0.0 * weight - detour / 2, 0.0 * weight - detour / 2], axis=2)
    hop = np.tile([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], (6, 1))
    second = np.concatenate([shares, -shares], axis=2)
    pair = nn.Sequential(nn.Linear(6, 36, bias=False), nn.ReLU(), nn.Linear(36, 4, bias=False)).double()
    pair[0].weight.data = torch.block_diag(*torch.from_numpy(hop)[:, :, None])
    pair[2].weight.data = torch.from_numpy(second.reshape(4, 36))
    found = [effective(fully_connected(4, 6, bias=False), Paths(hop, second[..., None]), slope=0.0)]
    certificate = certified(target, found, radius=1.0, norm=norm, other=pair)
    seen = attack(target, pair, 6, radius=1.0, norm=norm, seed=1)
    assert max(seen, certificate.lower) <= certificate.upper <= 1e-11 * max(1.0, detour)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ball_without_a_radius_is_refused(radius):
    target = network(2, 1, bias=False, seed=0)
    with pytest.raises(SupermaskError, match=r"^radius=.* must be a positive number\.$"):
        certified(target, perturbed(read_target(target), 0.1, 0), radius=radius, norm="l2")


def test_an_unknown_norm_is_refused():
    target = network(2, 1, bias=False, seed=0)
    with pytest.raises(SupermaskError, match=r"^Unknown norm 'l1'; known are l2, linf\.$"):
        certified(target, perturbed(read_target(target), 0.1, 0), radius=1.0, norm="l1")
