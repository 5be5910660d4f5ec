"""Other random networks than dense uniform ones with ReLUs: sparse ones, signs, leaky ReLUs."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy.stats import binom
from small_cnns import attack, filled, noise
from torch import nn

from supermask.errors import SupermaskError
from supermask.models.sequence import from_description
from supermask.ticket import Ticket
from theory import construct
from theory.constructions.prune import PathProblem
from theory.constructions.signs import choose_signs, sign_width, smallest
from theory.constructions.subset_sums import choose_subsets, subset_width
from theory.domains import Nonnegative
from theory.target import read_target

SOURCES = {
    "sparse": {"source_density": 0.6},
    "sparse and leaky": {"source_density": 0.7, "construction": "leaky_diamond"},
    "leaky": {"construction": "leaky_diamond"},
    "signs": {"construction": "sign_diamond"},
    "sparse signs": {"construction": "sign_diamond", "source_density": 0.7},
    "a sparse linear network": {"construction": "linear_diamond", "source_density": 0.6},
}


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr("theory.ascent.STEPS", 10)
    monkeypatch.setattr("theory.ascent.STARTS", 48)


def small(*, linear=False, seed=0):
    return filled(nn.Linear(3, 4), *([] if linear else [nn.ReLU()]), nn.Linear(4, 2), seed=seed)


def run_by_hand(built, x, slope):
    """Return what the ticket's random weights and masks compute, layer by layer, without the network."""
    grown = built.ticket.random_weights()
    kept = {name: grown[name].double() * mask for name, mask in built.ticket.masks.items()}
    names = sorted({name.split(".")[0] for name in kept}, key=int)
    for first, second in zip(names[::2], names[1::2], strict=True):
        hidden = x @ kept[f"{first}.weight"].T + kept.get(f"{first}.bias", 0.0)
        x = torch.where(hidden > 0, hidden, slope * hidden) @ kept[f"{second}.weight"].T
        x = x.relu() if second != names[-1] and slope != 1.0 else x
    return x


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_holds_the_target_and_its_certificate_holds(name):
    options = {"epsilon": 0.1, "progress": False, **SOURCES[name]}
    linear = options.get("construction") == "linear_diamond"
    slope = {"linear_diamond": 1.0, "leaky_diamond": 0.125}.get(options.get("construction"), 0.0)
    for seed in range(2):
        target = small(linear=linear, seed=seed)
        built = construct(target, seed=seed, **options)
        assert built.within
        found = attack(target, built.network, (3,), radius=1.0, norm="l2", seed=seed)
        assert 0.0 < found <= built.certificate.upper
        assert built.certificate.lower <= built.certificate.upper
        x = noise(20, 3, seed=seed)
        torch.testing.assert_close(run_by_hand(built, x, slope), built.network(x), rtol=1e-12, atol=1e-12)
        ticket = Ticket.from_bytes(built.ticket.to_bytes())
        network = ticket.apply(from_description(json.loads(json.dumps(ticket.provenance["model"]["modules"]))).double())
        assert torch.equal(network(x), built.network(x))


@pytest.mark.parametrize("construction", ["relu_diamond", "leaky_diamond", "sign_diamond"])
def test_errors_are_those_of_the_network_on_each_input_alone(construction):
    target = filled(nn.Linear(3, 2), seed=1)
    built = construct(target, 0.1, construction=construction, width=16, progress=False)
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    with torch.no_grad():
        offset = built.network(zero) - target(zero)
        ends = [(built.network(x) - target(x) - offset).abs().T for x in (eye, -eye)]
    wanted = torch.cat([torch.maximum(*ends), offset.abs().T], dim=1).numpy()
    np.testing.assert_allclose(built.errors[0], wanted, rtol=0, atol=1e-14)


def test_absent_weights_are_never_kept_and_the_seed_alone_says_which_they_are():
    built = construct(small(), 0.1, source_density=0.5, progress=False)
    for name, mask in built.ticket.masks.items():
        free = built.ticket.presets[name].grow(0, name, tuple(mask.shape)).free
        assert not bool((mask & ~free).any())
        assert int(free.sum()) == round(0.5 * mask.numel())
    whole = construct(small(), 0.1, progress=False)
    assert not whole.ticket.presets
    assert built.widths > whole.widths


def test_over_inputs_that_are_not_negative_a_leaky_network_needs_one_half():
    target = small()
    half = construct(target, 0.1, construction="leaky_diamond", domain=Nonnegative(1.0), progress=False)
    assert half.within
    assert half.widths[0] < construct(target, 0.1, construction="leaky_diamond", progress=False).widths[0]
    assert bool((half.network[0].weight >= 0.0).all())


def test_signs_are_signs_and_each_weight_is_met_by_equal_paths():
    target = small()
    built = construct(target, 0.05, construction="sign_diamond", progress=False)
    grown = built.ticket.random_weights()
    for name, tensor in grown.items():
        assert len(tensor.abs().unique()) == 1, name
    assert bool((grown["0.weight"].abs() == 1.0).all())
    step = float(grown["2.weight"].abs().max())
    for error in built.errors[0].reshape(-1):
        assert error <= step / 2 * (1.0 + 1e-6)


def test_signs_against_all_subsets():
    random = np.random.default_rng(0)
    second = 0.25 * random.choice([-1.0, 0.0, 1.0], (40, 9))
    problem = PathProblem(np.ones(9), second, random.uniform(-1.2, 1.2, 40), 0.25)
    mask, errors = choose_signs(problem, 0.0)
    subsets = np.array(list(itertools.product([0.0, 1.0], repeat=9)))
    best = np.abs(subsets @ second.T - problem.wanted).min(axis=0)
    np.testing.assert_allclose(errors, best, atol=1e-15)
    np.testing.assert_allclose(np.abs((mask * second).sum(axis=1) - problem.wanted), errors, atol=1e-15)
    assert not mask[second == 0.0].any()


def test_of_paths_that_are_not_there_none_is_chosen_and_the_others_do_as_well_as_ever():
    random = np.random.default_rng(1)
    second = random.uniform(-1, 1, (30, 24)) * (random.random((30, 24)) < 0.5)
    wanted = random.uniform(-0.5, 0.5, 30)
    mask, errors = choose_subsets(PathProblem(np.ones(24), second, wanted, 1.0), 1e-12)
    assert not mask[second == 0.0].any()
    for row, error, target in zip(second, errors, wanted, strict=True):
        items = row[row != 0.0]
        sums = np.array(list(itertools.product([0.0, 1.0], repeat=len(items)))) @ items if len(items) < 15 else None
        if sums is not None:
            assert error <= np.abs(sums - target).min() + 1e-12


def test_widths_of_sparse_networks_give_every_weight_its_items():
    (layer, _) = read_target(small()).layers
    for density in (1.0, 0.5, 0.25):
        width = subset_width(layer, 0.01, 2, density)
        count = layer.kernel.size * 2 + 4 if density < 1.0 else 3 * 2 + 1
        items = 14  # log2(12 / 0.01) rounded up, and 3
        assert binom.cdf(items - 1, width, density**2 / 2) <= 0.01 / count
        assert binom.cdf(items - 1, width - 1, density**2 / 2) > 0.01 / count
    assert sign_width(layer, 0.001, 2) > 5 * sign_width(layer, 0.01, 2)


def test_the_smallest_number_that_is_enough():
    for least, most in itertools.product(range(1, 7), range(1, 40)):
        assert smallest(lambda n, most=most: n >= most, least) == max(least, most)


@pytest.mark.parametrize("density", [0.0, 1.5, float("nan")])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(SupermaskError, match=r"^source_density=.* must be above 0 and at most 1\.$"):
        construct(small(), 0.1, source_density=density)
