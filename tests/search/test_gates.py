"""Relaxed Bernoulli gates against their formulas, written out slowly."""

import math
from itertools import pairwise
from statistics import NormalDist

import pytest
import torch
from one_layer import INPUTS, gradients, linear, only
from torch import nn

from supermask.errors import SupermaskError
from supermask.search import Gates
from supermask.training import Recipe


def gate_of(search, temperature):
    """Return the gates of this step one by one: min(1, max(0, 1/2 + (s - 1/2) / T + e))."""
    noise = search._layers["weight"].noise.reshape(-1).tolist()
    scores = only(search.scores()).reshape(-1).tolist()
    sums = [0.5 + (s - 0.5) / temperature + e for s, e in zip(scores, noise, strict=True)]
    return torch.tensor([min(1.0, max(0.0, each)) for each in sums]).reshape(8, 12)


def test_in_training_a_weight_passes_its_gate_and_the_gradient_is_that_of_the_formula():
    search = Gates(linear(), density=0.4, steps=3, coldest=0.3)
    for temperature in (1.0, 0.3 ** (1 / 3), 0.3 ** (2 / 3), 0.3, 0.3):
        score, weight = gradients(search)
        gate, mask, frozen = gate_of(search, temperature), only(search.masks()), only(search.frozen_weights())
        gain = math.sqrt(int(mask.sum()) / sum(each**2 for each in gate.reshape(-1).tolist()))
        torch.testing.assert_close(search.model.weight.detach(), frozen * gate * gain)
        between = (gate > 0.0) & (gate < 1.0)
        assert 0 < int(between.sum()) < 96
        torch.testing.assert_close(score, weight * frozen * gain * between / temperature)
        only(search.scores()).data.sub_(0.1 * score)
        search.step()


def test_the_gradient_is_that_of_finite_differences():
    search = Gates(linear().double(), density=0.4)
    scores, inputs = only(search.scores()), INPUTS.double()
    search.model(inputs).square().sum().backward()
    for place in [(0, 0), (3, 5), (7, 11)]:
        losses = []
        for change in (1e-6, -2e-6):  # 1e-6 above, then 1e-6 below
            scores.data[place] += change
            losses.append(search.model(inputs).square().sum().item())
        scores.data[place] += 1e-6
        assert scores.grad[place].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_evaluation_keeps_the_largest_scores_and_takes_no_gradient():
    search = Gates(linear(), density=0.4)
    search.step()
    score = only(search.scores()).detach().reshape(-1).tolist()
    order = sorted(range(96), key=lambda place: (-score[place], place))
    kept = torch.tensor([place in order[:38] for place in range(96)]).reshape(8, 12)
    search.model.eval()
    assert torch.equal(search.model.weight, torch.where(kept, only(search.frozen_weights()), 0.0))
    assert not search.model(INPUTS).requires_grad
    assert search.treatments() == {}


def test_a_step_takes_one_step_of_the_penalty_that_meets_the_density():
    search = Gates(linear(), density=0.4, sigma=0.5, steps=10, coldest=0.1)
    for step in range(1, 11):
        before = only(search.scores()).data.add_(0.1).clamp(-0.5, 1.5).double().reshape(-1).tolist()
        only(search.scores()).data.copy_(torch.tensor(before).reshape(8, 12))
        search.step()
        sigma = 0.5 * 0.1 ** (step / 10)
        gate = NormalDist(0.5, sigma)
        bells = [math.exp(-0.5 * ((score - 0.5) / 0.5) ** 2) for score in before]
        surplus = sum(1 - gate.cdf(1.0 - score) for score in before) - 38  # the chance that s + e is above one half
        rate = sum(gate.pdf(score) * bell for score, bell in zip(before, bells, strict=True))
        rise = min(max(surplus / rate, -sigma), sigma)
        after = [min(max(score - rise * bell, -0.5), 1.5) for score, bell in zip(before, bells, strict=True)]
        torch.testing.assert_close(only(search.scores()).detach().reshape(-1), torch.tensor(after), atol=1e-5, rtol=0)


@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
def test_the_expected_fraction_of_open_gates_is_led_to_the_density(density):
    search = Gates(nn.Linear(100, 50, bias=False), density=density)
    only(search.scores()).data.copy_(torch.linspace(-0.2, 1.3, 5_000).reshape(50, 100))
    for _ in range(60):
        search.step()
    open_ = torch.special.ndtr((only(search.scores()).double() - 0.5) / search.rule.sigma).mean().item()
    assert open_ == pytest.approx(density, abs=1e-4)


def test_a_density_that_noise_does_not_allow_at_first_is_met_as_the_gates_harden():
    search = Gates(nn.Linear(100, 50, bias=False), density=0.01, steps=20)
    for step in range(60):
        moved = torch.randn(50, 100, generator=torch.Generator().manual_seed(step)) * 0.03
        only(search.scores()).data.add_(moved if step < 40 else 0.0)
        search.step()
    open_ = torch.special.ndtr((only(search.scores()).double() - 0.5) / (0.1 * search.rule.sigma)).mean().item()
    assert open_ == pytest.approx(0.01, abs=1e-3)


def test_the_noise_has_its_deviation_and_every_step_and_layer_its_own():
    search = Gates(nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(2))), density=0.5, sigma=0.3)
    drawn = []
    for _ in range(5):
        drawn += [layer.noise.clone() for layer in search._layers.values()]
        search.step()
    for noise in drawn:
        # 10,000 draws: off by more than 4 % (5.6 of its own deviations) with chance 2e-8, ten times
        assert noise.std().item() == pytest.approx(0.3, rel=0.04)
    for one, other in pairwise(drawn):
        assert abs((one * other).mean().item()) < 0.06 * 0.3**2  # 6 of its deviations


def test_every_density_starts_within_reach():
    for density in (0.0, 1.0):
        search = Gates(linear(), density=density)
        for _ in range(3):
            search.step()
        scores = only(search.scores()).detach()
        assert scores.isfinite().all()
        assert int(only(search.masks()).sum()) == round(density * 96)


def test_a_run_takes_its_learning_rate_and_no_weight_decay():
    recipe = Gates(linear(), density=0.4, learning_rate=3.0).rule.recipe(Recipe(epochs=2))
    assert (recipe.learning_rate, recipe.weight_decay, recipe.epochs) == (3.0, 0.0, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": 0.0}, "sigma=0"),
        ({"sigma": math.nan}, "sigma=nan"),
        ({"coldest": 0.0}, "coldest=0"),
        ({"coldest": 1.5}, "coldest=1.5"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_numbers_that_are_out_of_range_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        Gates(linear(), density=0.5, **options)
