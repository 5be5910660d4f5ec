"""Calibrated, the one random network is pruned until the certificate spends most of epsilon."""

import importlib
import math

import pytest
import torch
from torch import nn

from theory import ascent, calibration
from theory.calibration import calibrated
from theory.constructions import random_pair
from theory.domains import Ball, Nonnegative
from theory.error_budget import per_weight
from theory.target import read_target

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(ascent, "STEPS", 3)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(seed=0):
    target = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    for i, parameter in enumerate(target.parameters()):
        parameter.data = noise(*parameter.shape, seed=10 * seed + i)
        if parameter.dim() > 1:
            parameter.data /= torch.linalg.matrix_norm(parameter.data, 2)
    return target


@pytest.mark.parametrize("seed", range(3))
def test_most_of_epsilon_is_spent_and_fewer_weights_are_kept(seed):
    target = network(seed)
    plan, spent = (construct(target, 0.02, seed=seed, calibrate=calibrate) for calibrate in (False, True))
    assert plan.certificate.upper < 0.4 * 0.02
    assert 0.9 * 0.02 <= spent.certificate.upper <= 0.02
    assert spent.within
    assert spent.ticket.kept < 0.9 * plan.ticket.kept
    x = noise(400, 8, seed=4)
    x /= x.norm(dim=1, keepdim=True)
    with torch.no_grad():
        assert float((target(x) - spent.network(x)).norm(dim=1).max()) <= spent.certificate.upper


def test_the_network_is_drawn_once_and_the_ticket_is_of_what_was_certified(monkeypatch):
    draws = []
    grow_all = random_pair.grow_all
    monkeypatch.setattr(random_pair, "grow_all", lambda *args: draws.append(1) or grow_all(*args))
    built = construct(network(), 0.02, calibrate=True, domain=Nonnegative(1.0))
    assert len(draws) == 1
    kept = sum(int(parameter.count_nonzero()) for parameter in built.network.parameters())
    assert kept == built.ticket.kept == sum(counts.kept for counts in built.counts)
    assert all(
        torch.equal(parameter != 0, built.ticket.masks[name]) for name, parameter in built.network.named_parameters()
    )
    assert built.certify(built.certificate.domain).upper == built.certificate.upper
    assert built.ticket.provenance["certificate"]["upper"] == built.certificate.upper


def test_what_is_out_of_reach_is_answered_with_the_nearest():
    built = construct(network(), 1e-6, width=6, calibrate=True)
    assert not built.within
    assert built.certificate.upper < 100.0


@pytest.mark.parametrize(
    ("power", "start"),
    [(power, start) for power in (0.5, 1.0, 2.0) for start in (0.3, 0.95, 1.0, 1.05)] + [(1.0, 1e-4), (1.0, 40.0)],
)
def test_the_factor_is_found_where_the_difference_goes_with_a_power_of_it(power, start):
    """At a power of 2 each aim overshoots, and the middle between what was within and what was not is taken."""
    tried = []

    def attempt(shares):
        tried.append(shares[0])
        return shares[0]

    reached = calibrated(attempt, lambda factor: start * factor**power, [1.0, 3.0], 1.0)
    assert len(tried) <= calibration.MOST_ATTEMPTS
    assert tried[0] == 1.0
    nearest = min(
        (start * factor**power for factor in tried if start * factor**power <= 1.0), key=lambda each: 1 - each
    )
    assert start * reached**power == nearest
    assert nearest >= 0.9


def test_of_no_attempt_within_the_nearest_is_returned():
    assert calibrated(lambda shares: shares[0], lambda factor: 2.0 + factor, [1.0], 1.0) < 1.0
    assert calibrated(lambda shares: shares[0], lambda factor: math.inf, [1.0], 1.0) == 1.0


def test_layers_of_more_weights_may_add_more():
    read = read_target(network())
    even, shared = (per_weight(read, 0.1, Ball(), "l2", by_weights=by) for by in (False, True))
    sizes = [layer.kernel.size for layer in read.layers]
    ratios = [of / plain for of, plain in zip(shared, even, strict=True)]
    assert ratios == pytest.approx([len(sizes) * size / sum(sizes) for size in sizes])
