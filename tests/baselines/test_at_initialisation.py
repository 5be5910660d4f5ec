"""Pruning at initialisation, each method against its definition on networks small enough to go through by hand."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from small_networks import DOUBLES, IMAGES, chain, sparse, with_norm
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import SupermaskError, data
from supermask.baselines import (
    SNIP,
    GraSP,
    MagnitudeAtInitialisation,
    RandomERK,
    RandomSmartRatio,
    RandomUniform,
    SynFlow,
)
from supermask.baselines.at_initialisation.examples import Given
from supermask.baselines.sample import Sample
from supermask.masking.budget import ERK, PerLayer, SmartRatio
from supermask.runs import METHODS, Job, SearchOptions, run
from supermask.training import Recipe

ALL = [SNIP(), GraSP(), SynFlow(iterations=4), MagnitudeAtInitialisation()]
ALL += [RandomUniform(), RandomERK(), RandomSmartRatio()]
NAMES = [method.name for method in ALL]


def loss_of(network, temperature=1.0):
    """The loss as the papers have it: batch norm in training mode, no dropout, everything else as usual."""
    model = deepcopy(network.model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return model, lambda: cross_entropy(model(DOUBLES[0]) / temperature, DOUBLES[1])


def by_differences(model, names, function, step=1e-5):
    """How a number changes with a factor c on one weight, at c = 1, for each weight."""
    found = {}
    for name in names:
        weight = dict(model.named_parameters())[name].data
        slopes = torch.zeros(weight.numel(), dtype=torch.float64)
        flat = weight.view(-1)
        for index, before in enumerate(flat.tolist()):
            flat[index] = before * (1 + step)
            above = function().item()
            flat[index] = before * (1 - step)
            slopes[index] = (above - function().item()) / (2 * step)
            flat[index] = before
        found[name] = slopes.view(weight.shape)
    return found


def same(found, expected, rtol=1e-3):
    assert found.keys() == expected.keys()
    for name, score in expected.items():
        torch.testing.assert_close(found[name], score, rtol=rtol, atol=rtol * float(score.abs().max()) * 1e-3)


def test_snip_is_the_sensitivity_to_a_factor_on_each_weight():
    network = sparse(with_norm().double())
    model, loss = loss_of(network)
    slopes = by_differences(model, network.prunable, loss)
    same(SNIP().scores(network, Given(0, DOUBLES)), {name: slope.abs() for name, slope in slopes.items()})
    assert any((slope < 0).any() for slope in slopes.values())


@pytest.mark.parametrize("temperature", [200.0, 1.0])
def test_grasp_is_half_the_change_of_the_squared_gradient_with_a_factor_on_each_weight(temperature):
    network = sparse(with_norm().double())
    model, loss = loss_of(network, temperature)
    weights = [dict(model.named_parameters())[name] for name in network.prunable]

    def squared_gradient():
        return sum((slope**2).sum() for slope in torch.autograd.grad(loss(), weights))

    halves = {name: slope / 2 for name, slope in by_differences(model, network.prunable, squared_gradient).items()}
    same(GraSP(temperature=temperature).scores(network, Given(0, DOUBLES)), halves)


def test_the_temperature_of_grasp_is_that_of_its_authors():
    network = sparse(with_norm().double())
    same(
        GraSP().scores(network, Given(0, DOUBLES)), GraSP(temperature=200.0).scores(network, Given(0, DOUBLES)), rtol=0
    )


def test_grasp_removes_the_highest_scores_of_the_paper():
    """S(-theta) = -theta * H g with the whole Hessian written down."""
    network = sparse(chain(16, 2, 3).double())
    names, weights = list(network.prunable), list(network.weights().values())

    def loss(*values):
        return cross_entropy(
            torch.func.functional_call(network.model, dict(zip(names, values, strict=True)), DOUBLES[0]) / 200,
            IMAGES[1],
        )

    blocks = torch.autograd.functional.hessian(loss, tuple(weights))
    slopes = torch.autograd.functional.jacobian(loss, tuple(weights))
    theta, g = (torch.cat([one.flatten() for one in many]) for many in (weights, slopes))
    sizes = [weight.numel() for weight in weights]
    rows = [torch.cat([b.reshape(n, -1) for b in row], 1) for n, row in zip(sizes, blocks, strict=True)]
    paper = -theta * (torch.cat(rows) @ g)
    masks, _ = GraSP().choose(network, Given(0, DOUBLES), 0.5)
    removed = torch.cat([~mask.flatten() for mask in masks.values()])
    assert removed.sum() == 19
    assert paper[removed].min() > paper[~removed].max()


def test_grasp_differentiates_attention_twice():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, images):
            rows = images[:, 0]
            return self.attention(rows, rows, rows, need_weights=False)[0].mean(1)

    scores = GraSP().scores(sparse(Attending()), Given(0, IMAGES))
    assert all(score.isfinite().all() and score.any() for score in scores.values())


def test_magnitude_keeps_the_largest():
    network = sparse(with_norm())
    masks, _ = MagnitudeAtInitialisation().choose(network, Given(0, None), 0.25)
    sizes = torch.cat([weight.abs().flatten() for weight in network.weights().values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert kept.sum() == 16
    assert sizes[kept].min() > sizes[~kept].max()


@pytest.mark.parametrize("density", [0.0, 0.03, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("method", "scope"), [(RandomUniform(), PerLayer()), (RandomERK(), ERK()), (RandomSmartRatio(), SmartRatio())]
)
def test_random_masks_keep_what_their_scope_says(method, scope, density):
    network = sparse(chain(16, 16, 16, 3))
    masks, _ = method.choose(network, Given(0, None), density)
    shapes = {name: tuple(weight.shape) for name, weight in network.weights().items()}
    expected = {pool.names[0]: pool.kept for pool in scope.pools(shapes, density)}
    assert {name: int(mask.sum()) for name, mask in masks.items()} == expected


def test_random_masks_go_by_seed_and_name_alone():
    def drawn(seed, weights):
        return list(RandomUniform().choose(sparse(chain(16, 16, 16, 3), weights), Given(seed, None), 0.5)[0].values())

    first, second, third = drawn(0, 0)
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(drawn(0, 0), drawn(0, 1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn(0, 0), drawn(1, 0), strict=True))
    wider, _ = RandomUniform().choose(sparse(chain(16, 16, 16, 5)), Given(0, None), 0.5)
    assert torch.equal(list(wider.values())[1], second)
    assert third.sum() == 24


def test_random_masks_take_every_place_and_every_pair_alike():
    """5 of 20 places, 1,000 seeds; false-alarm rate 1e-4 for each of the two."""
    network, times, kept, n = sparse(nn.Sequential(nn.Flatten(), nn.Linear(20, 1))), 1000, 5, 20
    drawn = np.array(
        [
            RandomUniform().choose(network, Given(seed, None), kept / n)[0]["1.weight"].numpy().ravel()
            for seed in range(times)
        ]
    ).astype(float)
    p = kept / n
    places = ((drawn.sum(0) - times * p) ** 2).sum() / (times * p * (1 - p)) * (n - 1) / n
    assert chi2.ppf(5e-5, n - 1) < places < chi2.ppf(1 - 5e-5, n - 1)
    together = drawn[:, ::2].sum(1)  # hypergeometric: variance kept/4 (n - kept)/(n - 1)
    spread = times * together.var() / (kept / 4 * (n - kept) / (n - 1))
    assert chi2.ppf(5e-5, times - 1) < spread < chi2.ppf(1 - 5e-5, times - 1)


@pytest.mark.parametrize("method", ALL, ids=NAMES)
def test_the_network_is_left_as_it_was(method):
    network = sparse(with_norm())
    model = network.model
    model[1].running_mean += 0.3
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones(3, 12)
    before, draws = deepcopy(model.state_dict()), torch.get_rng_state()
    method.choose(network, Given(0, IMAGES), 0.3)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert [module.training for module in model] == [True, True, False, True, True, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True, True, True]
    assert all(mask.all() for mask in network.masks().values())
    assert model[0].weight.grad is None
    assert torch.equal(model[5].weight.grad, torch.ones(3, 12))
    assert torch.equal(torch.get_rng_state(), draws)


def test_modes_come_back_after_a_failure():
    network = sparse(with_norm())
    with pytest.raises(SupermaskError, match="does not take inputs"):
        SNIP().scores(network, Given(0, (torch.zeros(2, 1, 9, 9), torch.zeros(2).long())))
    assert all(module.training for module in network.model.modules())


@pytest.mark.parametrize("method", ALL, ids=NAMES)
@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_counts_are_exact(method, density):
    masks, _ = method.choose(sparse(with_norm()), Given(0, IMAGES), density)
    scope = PerLayer() if method.name == "random_uniform" else ERK()
    expected = sum(pool.kept for pool in scope.pools({name: tuple(m.shape) for name, m in masks.items()}, density))
    assert sum(int(mask.sum()) for mask in masks.values()) == expected


@pytest.mark.parametrize("method", ALL, ids=NAMES)
def test_a_ticket_is_found_without_a_training(method):
    model = with_norm()
    before = deepcopy(model.state_dict())
    ticket = method.ticket(model, density=0.3, seed=3, examples=IMAGES)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    masks, _ = method.choose(sparse(with_norm(), 3), Given(3, IMAGES), 0.3)
    assert all(torch.equal(ticket.masks[name], mask) for name, mask in masks.items())
    assert ticket.provenance["algorithm"] == method.name
    plain = ticket.apply(with_norm())
    assert sum(int((dict(plain.named_parameters())[name] != 0).sum()) for name in masks) == ticket.kept
    assert ticket.size > 0


def test_a_ticket_takes_other_weights_and_other_prunable_parameters():
    ticket = MagnitudeAtInitialisation().ticket(
        with_norm(), density=0.5, weights="signed_constant", include=("5.bias",), dense=("0.weight",)
    )
    assert {name: mask.numel() for name, mask in ticket.masks.items()} == {"5.weight": 36, "5.bias": 3}
    assert ticket.weights["0.weight"].distribution.describe()["name"] == "signed_constant"


@pytest.mark.parametrize("method", [SNIP(), GraSP(), SynFlow()])
def test_examples_that_are_missing_are_asked_for(method):
    with pytest.raises(SupermaskError, match=r"give it some as examples=\(images, labels\)"):
        method.ticket(with_norm(), density=0.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GraSP(temperature=0.0), r"temperature=0\.0 is out of range"),
        (lambda: SynFlow(iterations=0), "iterations=0 is out of range; give from 1 to 100,000"),
        (lambda: SynFlow(iterations=2**63), f"iterations={2**63} is out of range"),
        (lambda: SynFlow(floor=-1), "floor=-1 is negative"),
        (lambda: MagnitudeAtInitialisation().ticket(with_norm(), density=1.5), r"density=1\.5 is out of range"),
    ],
)
def test_bad_options_are_refused(make, says):
    with pytest.raises(SupermaskError, match=says):
        make()


def test_methods_draw_as_many_examples_as_their_options_say():
    digits = data.load("digits", seed=0)
    sample = Sample(digits, 0, torch.device("cpu"))
    network = sparse(chain(64, 5, 10))
    for drawn, given in (
        (SNIP(batch=7), sample.batch(7)),
        (SNIP(), sample.batch(100)),
        (GraSP(per_class=2), sample.per_class(2)),
        (GraSP(), sample.per_class(10)),
    ):
        same(drawn.scores(network, sample), drawn.scores(network, Given(0, given)), rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("density", [0.0, 1e-4])
def test_a_network_with_an_empty_layer_is_trained_all_the_same(tmp_path, name, density):
    options = SynFlow(iterations=2) if name == "synflow" else None
    job = Job(method=name, data="synthetic", search=SearchOptions(density=density), options=options)
    result = run(Job(**{**vars(job), "recipe": Recipe(epochs=1, batch_size=200)}), tmp_path, progress=False)
    assert abs(result.kept - density * result.prunable) < (2 if name == "random_uniform" else 0.5)
    assert math.isfinite(result.test.loss)


def test_every_method_here_is_known_by_its_name():
    assert all(type(METHODS[method.name]) is type(method) for method in ALL)
    assert len(set(NAMES)) == 7


@pytest.mark.parametrize("method", [SNIP(), GraSP()], ids=["snip", "grasp"])
def test_scores_that_leave_the_range_of_the_weights_are_refused_with_their_parameter(method):
    huge = (torch.full((4, 3), 3e38), torch.arange(4) % 2)  # activations of the first layer, squared, are no float32
    with pytest.raises(SupermaskError, match=rf"{method.name} scores of 0\.weight are NaN or infinite"):
        method.ticket(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), density=0.5, examples=huge)
