"""A certificate holds where its domain says; where no input is negative, half of each block is enough."""

import copy
import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from supermask.errors import SupermaskError
from theory import ascent
from theory.domains import Around, Ball, Box, Nonnegative

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(ascent, "STEPS", 12)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(*sizes, seed=0):
    modules = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(inputs, outputs).double()
        weight = noise(outputs, inputs, seed=10 * seed + i)
        linear.weight.data = weight / torch.linalg.matrix_norm(weight, 2)
        linear.bias.data = 0.3 * noise(outputs, seed=50 + 10 * seed + i)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def image_network(seed=0):
    target = nn.Sequential(
        nn.AvgPool2d(2, 1), nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 2, padding=1),
        nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3),
    )  # fmt: skip
    for i, parameter in enumerate(target.parameters()):
        parameter.data = 0.5 * noise(*parameter.shape, seed=20 * seed + i)
    return target.double().eval()


LOW, HIGH = torch.linspace(0.0, 0.3, 5), torch.linspace(0.4, 2.0, 5)
POINTS = noise(6, 5, seed=2)
DOMAINS = {
    "ball": (Ball(2.0), lambda x, norm: x * 2.0 / sizes_of(x, norm)),
    "nonnegative": (Nonnegative(2.0), lambda x, norm: x.abs() * 2.0 / sizes_of(x, norm)),
    "box": (Box(LOW, HIGH), lambda x, norm: LOW + (HIGH - LOW) * (x > 0)),
    "box of both signs": (Box(-0.5, HIGH), lambda x, norm: torch.where(x > 0, HIGH.double(), -0.5)),
    "around": (Around(POINTS, 0.2), lambda x, norm: POINTS[torch.arange(len(x)) % 6] + 0.2 * x / sizes_of(x, norm)),
    "around, nowhere negative": (
        Around(POINTS.abs() + 0.3, 0.2),
        lambda x, norm: POINTS.abs()[torch.arange(len(x)) % 6] + 0.3 + 0.2 * x / sizes_of(x, norm),
    ),
}


def sizes_of(rows, norm):
    flat = rows.flatten(1)
    found = flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)
    return found.reshape(-1, *[1] * (rows.dim() - 1))


def off(target, other, x, norm):
    with torch.no_grad():
        return float(sizes_of(target(x) - other(x), norm).max())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", DOMAINS)
def test_nothing_in_the_domain_is_above_its_certificate(name, norm):
    domain, into = DOMAINS[name]
    target = network(5, 6, 4, 3)
    for width, both in ((10, False), (30, True)):
        built = construct(target, 0.01, width=width, domain=domain, norm=norm, both_halves=both)
        found = off(target, built.network, into(noise(600, 5, seed=7), norm).double(), norm)
        assert built.certificate.upper >= max(found, built.certificate.lower)
        assert built.certificate.lower >= 0.5 * found > 0.0
        assert built.certificate.domain is domain
        (first, *_) = [module for module in built.network if isinstance(module, nn.Linear)]
        assert bool((first.weight < 0.0).any()) == (domain.signed or both)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_coordinates_leave_the_domain(norm):
    for domain, _ in DOMAINS.values():
        x = domain.place(domain.project(3.0 * noise(200, 5, seed=1), norm))
        size = domain.size((5,), norm)
        assert float(sizes_of(x, norm).max()) <= size * (1.0 + 1e-12)
        assert float(sizes_of(x, norm).max()) >= 0.5 * size
        assert domain.signed or not bool((x < 0.0).any())
        if isinstance(domain, Box):
            assert bool(((x >= domain._low) & (x <= domain._high)).all())
        if isinstance(domain, Around):
            apart = sizes_of(x - domain.points[torch.arange(200) % 6], norm)
            assert 0.19 < float(apart.max()) <= 0.2 * (1.0 + 1e-12)


def test_pixels_halve_what_is_kept_of_the_first_layer():
    target = network(8, 12, 3)
    whole, half = (construct(target, 0.01, domain=domain, width=40) for domain in (Ball(1.0), Nonnegative(1.0)))
    assert half.counts[0].kept < 0.6 * whole.counts[0].kept
    assert half.within
    assert half.ticket.provenance["options"]["domain"] == "the nonnegative part of the ball of radius 1"
    assert whole.ticket.provenance["options"] == {"epsilon": 0.01, "radius": 1.0, "norm": "l2"}
    with pytest.raises(SupermaskError, match=r"inputs that are not negative, and the ball of radius 1 has others\.$"):
        half.certify(Ball(1.0))
    assert half.certify(Box(0.0, 1.0 / math.sqrt(8))).upper == pytest.approx(half.certificate.upper)


def test_a_ball_given_as_a_domain_is_the_ball_of_its_radius():
    target = network(4, 5, 3)
    one, other = construct(target, 0.02, radius=3.0, width=20), construct(target, 0.02, domain=Ball(3.0), width=20)
    assert one.certificate == other.certificate
    assert all(torch.equal(mask, other.ticket.masks[name]) for name, mask in one.ticket.masks.items())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.05, 0.5])
@pytest.mark.parametrize("signed", [True, False])
def test_around_points_nothing_is_above_the_certificate(norm, radius, signed):
    """Errors as large as they come, so that the states of ReLUs differ between the two networks."""
    for target, shape in ((network(5, 6, 6, 6, 3), (5,)), (image_network(), (1, 8, 8))):
        points = noise(7, *shape, seed=2) if signed else noise(7, *shape, seed=2).abs() + radius
        domain = Around(points, radius)
        assert domain.signed == signed
        for width in (3, 25):
            built = construct(target, 0.01, construction="convolution", width=width, domain=domain, norm=norm)
            moves = noise(7 * 60, *shape, seed=4)
            moves = torch.cat([moves / sizes_of(moves, norm), moves.sign() / sizes_of(moves.sign(), norm)])
            x = points[torch.arange(len(moves)) % 7] + radius * moves
            found = off(target, built.network, torch.cat([points, x]), norm)
            assert built.certificate.upper >= max(found, built.certificate.lower)
            if radius == 0.0 and width == 25:
                assert built.certificate.upper <= found * (1.0 + 1e-6)


def test_near_its_data_a_network_is_much_nearer_than_over_the_ball():
    target = network(8, 24, 24, 24, 24, 4)
    points = noise(20, 8, seed=2)
    points /= sizes_of(points, "l2")
    built = construct(target, 0.01, width=40)
    found = off(target, built.network, points, "l2")
    near = [built.certify(Around(points, radius)).upper for radius in (0.0, 1e-4, 1e-3, 2.0)]
    assert found <= near[0] <= found * (1.0 + 1e-6)
    assert near == sorted(near)
    assert near[1] <= 1.1 * near[0] < 0.1 * built.certificate.upper


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_near_data_rounding_is_counted_too(dtype):
    target, points = network(6, 8, 8, 3), noise(9, 6, seed=3).to(dtype).double()
    built = construct(target, 1e-8)
    own = built.certify(Around(points, 0.0), dtype=dtype)
    with torch.no_grad():
        runs = [copy.deepcopy(each).to(dtype)(points.to(dtype)).double() for each in (target, built.network)]
    found = float(sizes_of(runs[0] - runs[1], "l2").max())
    assert built.certify(Around(points, 0.0)).upper < found <= own.upper


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ball(0.0), r"^radius=0\.0 must be a positive number\.$"),
        (lambda: Nonnegative(math.nan), r"^radius=nan must be a positive number\.$"),
        (lambda: Box(1.0, 0.0), r"has a low above its high; give bounds with low <= high\.$"),
        (lambda: Box(torch.zeros(2), torch.ones(3)), r"low of shape \(2,\) and a high of shape \(3,\); give one\.$"),
        (lambda: Box(0.0, math.inf), r"^The domain's high hold NaN or infinity\.$"),
        (lambda: Around(torch.zeros(3), 0.1), r"^The points have the shape \(3,\); give \(points, \*shape of an inp"),
        (lambda: Around(torch.zeros(0, 3), 0.1), r"^The points have the shape \(0, 3\); give"),
        (lambda: Around(torch.zeros(2, 3), -1.0), r"^radius=-1\.0 must be a number of at least 0\.$"),
        (lambda: construct(network(3, 2), 0.1, domain=Ball(2.0), radius=2.0), r"a domain is given too; give one of"),
        (lambda: construct(network(3, 2), 0.1, domain=Box(np.zeros(4), 1.0)), r"takes 3 inputs, but gets 4\.$"),
        (
            lambda: construct(network(3, 2), 0.1, width=8).certify(Around(torch.zeros(1, 4), 0.1)),
            r"takes inputs of \(3",
        ),
    ],
)
def test_what_is_no_domain_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(SupermaskError, match=sentence):
        make()
