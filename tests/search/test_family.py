"""Each search against its paper's formula, written out slowly."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from one_layer import INPUTS, gradients, linear, only
from torch import nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Global
from supermask.masking.schedule import CubicRamp
from supermask.models import build
from supermask.random.distributions import KaimingNormal, SignedConstant
from supermask.random.weights import RandomWeight
from supermask.search import (
    Biprop,
    EdgePopup,
    GemMiner,
    IteRand,
    LearnedSupermask,
    MulticoatedSupermask,
    PartiallyFrozen,
    Search,
    SignedSupermask,
)
from supermask.search.biprop import BipropRule
from supermask.search.gem_miner import GemMinerRule
from supermask.search.iterand import IteRandRule
from supermask.training import Recipe

# ---- learned supermasks (Zhou et al. 2019)


def test_the_sample_follows_the_chances_and_every_step_has_its_own():
    search = LearnedSupermask(nn.Linear(100, 200, bias=False), seed=1, logit=-1.0, rescaled=False)
    chance, counts, samples = 1 / (1 + math.exp(1.0)), [], []
    for _ in range(20):
        samples.append(only(search.masks()))
        counts.append(int(samples[-1].sum()))
        search.step()
    # 400,000 Bernoulli draws: by Hoeffding's inequality off by more than 0.005 with chance 2 exp(-20), or 4e-9
    assert sum(counts) / 400_000 == pytest.approx(chance, abs=0.005)
    assert not any(torch.equal(one, other) for one, other in pairwise(samples))
    # neighbouring samples are independent: they agree where both keep or both prune
    agree = np.mean([(one == other).float().mean().item() for one, other in pairwise(samples)])
    assert agree == pytest.approx(chance**2 + (1 - chance) ** 2, abs=0.01)


@pytest.mark.parametrize("rescaled", [True, False])
def test_the_gradient_of_a_logit_is_that_through_the_sigmoid(rescaled):
    search = LearnedSupermask(linear(), rescaled=rescaled)
    only(search.scores()).data.copy_(torch.randn(8, 12, generator=torch.Generator().manual_seed(3)))
    search.step()
    search.model.train()
    score, weight = gradients(search)
    frozen, logits = only(search.frozen_weights()), only(search.scores()).detach().clone().requires_grad_(True)
    chance = torch.sigmoid(logits)
    soft = only(search.masks()).float() + chance - chance.detach()  # a sample whose gradient is that of its chance
    slow = frozen * soft * (soft.numel() / soft.sum() if rescaled else 1.0)
    slow.backward(weight)
    torch.testing.assert_close(score, logits.grad)
    torch.testing.assert_close(search.model.weight.detach(), slow.detach())


def test_rounding_keeps_what_has_a_chance_of_a_half_or_more():
    search = LearnedSupermask(linear(), evaluated="rounded")
    assert bool(only(search.masks()).all())
    scores = only(search.scores())
    scores.data.copy_(torch.randn(8, 12, generator=torch.Generator().manual_seed(3)))
    search.step()
    assert torch.equal(only(search.masks()), torch.sigmoid(scores) >= 0.5)
    assert not torch.equal(search.model.train()(INPUTS), search.model.eval()(INPUTS)), "training goes by samples"


# ---- Gem-Miner (Sreenivasan et al. 2022)


def test_gem_miner_follows_algorithm_one():
    density, steps, period, penalty = 0.2, 9, 2, 0.05
    search = GemMiner(
        linear(), density=density, steps=steps, freeze_every=period, penalty=penalty, scope=Global(0), scaled=False
    )
    optimizer = torch.optim.SGD(search.parameters(), lr=0.05)
    scores = only(search.scores()).detach().numpy().copy().ravel()
    frozen = only(search.frozen_weights()).numpy().ravel()
    assert ((scores >= 0) & (scores <= 1)).all()
    live = np.ones(scores.size, bool)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        _, weight = gradients(search)
        search.before_step(optimizer)
        optimizer.step()
        search.step()
        slope = weight.numpy().ravel() * frozen + 2 * penalty * scores
        scores = np.where(live, np.clip(scores - 0.05 * slope, 0, 1), scores)
        if step in (2, 4, 6):  # not after the fourth period, with which the steps end
            left = round(density ** (step / 6) * scores.size)
            order = sorted(np.flatnonzero(live), key=lambda place: (-scores[place], place))
            live = np.isin(np.arange(scores.size), order[:left])
        np.testing.assert_allclose(only(search.scores()).detach().numpy().ravel(), scores, atol=1e-6)
        assert (only(search.live()).numpy().ravel() == live).all()
        assert (only(search.masks()).numpy().ravel() == (live & (scores > 0.5))).all()
    assert search.complete
    assert live.sum() == round(density * scores.size)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"density": 0.0}, "density=0"),
        ({"steps": 0}, "steps=0"),
        ({"freeze_every": 11}, "freeze_every=11"),
        ({"penalty": -1.0}, "penalty"),
        ({"penalty": math.nan}, "penalty"),
        ({"pull": -1.0}, "pull"),
        ({"pull": 2.0, "penalty": 0.1}, "say the same thing twice"),
    ],
)
def test_gem_miner_refuses_what_it_cannot_do(options, says):
    with pytest.raises(SupermaskError, match=says):
        GemMiner(linear(), **{"density": 0.5, "steps": 10, **options})


def test_gem_miner_wants_to_know_its_steps_before_it_touches_the_model():
    model = linear()
    before = model.weight.detach().clone()
    with pytest.raises(SupermaskError, match="give steps="):
        GemMiner(model, density=0.5)
    assert torch.equal(model.weight, before)


@pytest.mark.filterwarnings("ignore:An optimizer has moved")  # the scores alone are looked at
def test_the_pull_is_the_share_of_a_score_that_the_penalty_takes_away():
    recipe = Recipe(iterations=4000, learning_rate=2.0, warm_up=0.2)
    search = GemMiner(linear(), density=1.0, steps=4000, pull=0.3, total_rate=recipe.total_rate(4000))
    scores = only(search.scores())
    optimizer = recipe.settle({"weight_decay": 0.0}).make_optimizer([scores])
    scores.data.fill_(0.9)
    for step in range(4000):
        optimizer.param_groups[0]["lr"] = recipe.rate(step, 4000)
        scores.grad = torch.zeros_like(scores)
        search.before_step(optimizer)
        optimizer.step()
    # a small share taken in each step adds up to an exponential
    torch.testing.assert_close(scores.detach(), torch.full((8, 12), 0.9 * math.exp(-0.3)), rtol=2e-3, atol=0.0)


def test_a_mask_that_the_penalty_empties_is_refused():
    search = GemMiner(linear(), density=0.5, steps=100)
    only(search.scores()).data.fill_(0.4)
    with pytest.raises(SupermaskError, match=r"mask of weight is empty at step 1.*smaller pull"):
        search.step()


# ---- IteRand (Chijiwa et al. 2021)


def test_iterand_replaces_pruned_weights_by_the_chance_asked_for_and_never_kept_ones():
    search = IteRand(nn.Linear(100, 200, bias=False), density=0.5, every=2, rate=0.25, weights="kaiming_normal", seed=4)
    kept_before, changed, events = only(search.frozen_weights()), 0, 0
    for step in range(1, 9):
        mask = only(search.masks())
        only(search.scores()).data.add_(0.1 * torch.randn(200, 100, generator=torch.Generator().manual_seed(step)))
        search.step()
        mask, now = only(search.masks()), only(search.frozen_weights())
        assert torch.equal(now[mask], kept_before[mask])
        differs = int((now != kept_before).sum())
        assert (differs > 0) == (step % 2 == 0)
        changed, events, kept_before = changed + differs, events + (step % 2 == 0), now
    # 40,000 draws: off by more than 0.017 with chance 2 exp(-2 x 40,000 x 0.017^2) = 2e-10
    assert changed / (events * 10_000) == pytest.approx(0.25, abs=0.017)
    redraws = only(search.treatments()).redraws
    assert set(redraws.unique().tolist()) == {0, 1, 2, 3}, "what the fourth replaced is pruned still"
    weight = only(search.network.weights)
    for draw in range(5):
        places = redraws == draw
        places &= only(search.masks())
        assert torch.equal(now[places], weight.grow(4, "weight", draw=draw)[places])


def test_without_replacement_iterand_is_edge_popup_by_signed_scores():
    from supermask.random.distributions import KaimingUniform

    one = IteRand(linear(), density=0.4, rate=0.0, every=1)
    other = EdgePopup(linear(), density=0.4, score="signed", scores=KaimingUniform())
    for _ in range(3):
        assert torch.equal(one.model.weight, other.model.weight)
        for search in (one, other):
            score, _ = gradients(search)
            only(search.scores()).data.sub_(score)
            search.step()
    assert one.treatments() == {}


# ---- biprop (Diffenderfer & Kailkhura 2021)


@pytest.mark.parametrize("scaled", [False, True])
def test_biprop_scales_the_signs_by_the_mean_magnitude_of_what_is_kept(scaled):
    search = Biprop(linear(), density=0.4, seed=3, scaled=scaled)
    fans, scale = only(search.network.masked).fans, math.sqrt(96 / 38) if scaled else 1.0
    real = RandomWeight((8, 12), KaimingNormal(), fans, scale).grow(3, "weight")
    for _ in range(3):
        mask = only(search.masks())
        alpha = torch.tensor(math.sqrt(2 / 12) * scale) if scaled else real[mask].abs().mean()
        torch.testing.assert_close(search.model.weight.detach(), real.sign() * mask * alpha)
        assert only(search.scales()) == pytest.approx(alpha.item())
        score, weight = gradients(search)
        torch.testing.assert_close(score, weight * real * only(search.scores()).sign().detach())
        only(search.scores()).data.sub_(score)
        search.step()


def test_biprop_over_signed_constants_is_edge_popup():
    one, other = (kind(linear(), density=0.4, weights="signed_constant") for kind in (Biprop, EdgePopup))
    for _ in range(3):
        torch.testing.assert_close(one.model.weight.detach(), other.model.weight.detach())
        for search in (one, other):
            only(search.scores()).data.sub_(gradients(search)[0])
            search.step()


# ---- signed supermasks (Koster et al. 2022)


@pytest.mark.parametrize("options", [{"density": 0.4}, {"threshold": 0.1}])
def test_a_signed_mask_is_the_sign_of_the_large_scores(options):
    search = SignedSupermask(linear(), **options)
    for _ in range(3):
        score = only(search.scores()).detach().clone()
        if "threshold" in options:
            kept = score.abs() > 0.1
        else:
            order = sorted(range(96), key=lambda place: (-abs(score.reshape(-1)[place].item()), place))
            kept = torch.tensor([place in order[:38] for place in range(96)]).reshape(8, 12)
        frozen = only(search.frozen_weights())
        assert torch.equal(search.model.weight.detach(), torch.where(kept, frozen * score.sign(), 0.0))
        assert torch.equal(only(search.treatments()).factors, (kept * score.sign()).to(torch.int8))
        score_gradient, weight = gradients(search)
        torch.testing.assert_close(score_gradient, weight * frozen)
        only(search.scores()).data.sub_(0.1 * score_gradient)
        search.step()


# ---- multicoated supermasks (Okoshi et al. 2022)


@pytest.mark.parametrize(("coats", "fractions"), [(3, (1, 2 / 3, 1 / 3)), ((1.0, 0.26, 0.1), (1.0, 0.26, 0.1))])
def test_coats_are_nested_masks_added_up(coats, fractions):
    search = MulticoatedSupermask(linear(), density=0.5, coats=coats)
    for _ in range(3):
        score = only(search.scores()).detach().abs().reshape(-1)
        order = sorted(range(96), key=lambda place: (-score[place].item(), place))
        counts = torch.zeros(96)
        for fraction in fractions:
            counts[order[: round(0.5 * fraction * 96)]] += 1
        frozen = only(search.frozen_weights())
        rms = math.sqrt(counts.square().sum() / 48)  # the weights are scaled for 48 that are kept
        torch.testing.assert_close(search.model.weight.detach(), frozen * counts.reshape(8, 12) / rms)
        gradient, weight = gradients(search)
        signs = only(search.scores()).detach().sign()
        torch.testing.assert_close(gradient, len(fractions) * weight * frozen * signs / rms)
        only(search.scores()).data.sub_(gradient)
        search.step()


@pytest.mark.parametrize("coats", [0, 128, (), (0.5,), (1.0, 1.5), (1.0, 0.0), (1.0, math.nan)])
def test_coats_that_do_not_fit_are_refused(coats):
    with pytest.raises(SupermaskError, match="coats"):
        MulticoatedSupermask(linear(), density=0.5, coats=coats)


def test_one_coat_is_edge_popup():
    one, other = MulticoatedSupermask(linear(), density=0.4, coats=1), EdgePopup(linear(), density=0.4)
    assert torch.equal(one.model.weight, other.model.weight)
    assert torch.equal(gradients(one)[0], gradients(other)[0])


# ---- partially frozen networks (Otsuka et al. 2025)


def test_the_fixed_part_of_a_mask_never_moves_and_has_the_sizes_asked_for():
    search = PartiallyFrozen(nn.Linear(100, 200, bias=False), density=0.3, frozen=0.6, seed=2)
    preset = only(search.presets())
    free, locked = preset.grow(2, "weight", (200, 100))
    assert (preset.pruned, preset.locked) == (8_400, 3_600)
    assert (int(free.sum()), int(locked.sum())) == (8_000, 3_600)
    for step in range(3):
        mask = only(search.masks())
        assert torch.equal(mask & ~free, locked)
        assert int(mask.sum()) == 6_000
        only(search.scores()).data.add_(torch.randn(200, 100, generator=torch.Generator().manual_seed(step)))
        search.step()
    ranks = only(search.scores()).detach().abs()
    assert ranks[mask & free].min() >= 0


def test_of_the_free_weights_the_largest_are_kept():
    search = PartiallyFrozen(linear(), density=0.5, frozen=0.5)
    free, _ = only(search.presets()).grow(0, "weight", (8, 12))
    mask, rank = only(search.masks()), only(search.scores()).detach().abs()
    assert rank[mask & free].min() > rank[~mask & free].max()


def test_nothing_frozen_is_edge_popup():
    one, other = PartiallyFrozen(linear(), density=0.4, frozen=0.0), EdgePopup(linear(), density=0.4)
    assert torch.equal(one.model.weight, other.model.weight)


def test_a_budget_that_the_fixed_part_does_not_allow_is_refused():
    with pytest.raises(SupermaskError, match="does not fit 48 that are kept and 0 that are pruned"):
        PartiallyFrozen(linear(), density=0.3, frozen=0.5, locked=1.0)


# ---- what is asked for


def test_a_density_that_is_missing_is_asked_for_before_the_model_is_touched():
    model = linear()
    before = model.weight.detach().clone()
    with pytest.raises(SupermaskError, match="edge_popup needs a density; give density="):
        EdgePopup(model)
    assert torch.equal(model.weight, before)


def test_a_search_and_its_rule_are_one_thing():
    rule = IteRandRule(density=0.4, every=2)
    one, other = Search(linear(), rule, seed=3), IteRand(linear(), density=0.4, every=2, seed=3)
    assert one.rule == other.rule == rule
    assert (one.every, one.density, one.name) == (2, 0.4, "iterand")
    assert torch.equal(one.model.weight, other.model.weight)
    assert one.options == other.options
    assert type(Search.of(linear(), rule)) is IteRand
    assert Search(linear(), rule, density=0.2).density == 0.2
    with pytest.raises(AttributeError, match="penalty"):
        _ = one.penalty
    with pytest.raises(TypeError, match="penalty"):
        IteRand(linear(), density=0.4, penalty=1.0)


def test_a_run_sets_the_options_that_a_search_shares_but_not_those_that_are_its_own_or_fixed():
    asked = {"density": 0.3, "score": "magnitude", "every": 7, "weights": "uniform", "steps": 5}
    rule = IteRandRule(every=2).in_run(asked)
    assert (rule.density, rule.weights, rule.score, rule.every) == (0.3, "uniform", "signed", 2)
    assert BipropRule().in_run(asked).weights == "kaiming_normal"
    assert GemMinerRule().in_run(asked).steps == 5


def test_iterand_keeps_its_random_weights_whole_where_others_pack_them():
    plain, packed = (IteRand(linear(), density=0.4, every=1, rate=0.5, packed=option) for option in (False, True))
    for search in (plain, packed):
        search.step()
        assert torch.equal(search.ticket().apply(linear()).weight, search.model.weight)
    assert torch.equal(plain.model.weight, packed.model.weight)


# ---- edge-popup over the whole network


def test_a_global_density_empties_the_largest_layer_of_conv4_unless_its_start_is_equalised():
    model = lambda: build("conv4", width=0.5)  # noqa: E731
    with pytest.raises(SupermaskError, match=r"leaves none in classifier\.0\.weight"):
        EdgePopup(model(), density=0.08, scope="global")
    search = EdgePopup(model(), density=0.1, scope="global", equalised=True)
    densities = {name: mask.float().mean().item() for name, mask in search.masks().items()}
    # each layer is a random share of the largest of one distribution: off by 5 standard deviations with chance 6e-7
    for name, mask in search.masks().items():
        assert densities[name] == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / mask.numel()))


def test_an_equalised_start_has_the_usual_variance_over_the_network():
    usual, equalised = (EdgePopup(build("lenet_300_100"), density=0.5, equalised=each) for each in (False, True))

    def squares(search):
        return torch.cat([score.detach().reshape(-1).square() for score in search.scores().values()])

    assert squares(equalised).mean() == pytest.approx(squares(usual).mean().item(), rel=0.02)
    assert only(EdgePopup(linear(), density=0.5, weights=SignedConstant()).masks()).sum() == 48


def test_a_gradual_global_density_falls_along_the_cubic():
    search = EdgePopup(linear(), density=0.25, scope=Global(1), schedule=CubicRamp(4, initial=1.0))
    kept = [int(only(search.masks()).sum())]
    for _ in range(5):
        search.step()
        kept.append(int(only(search.masks()).sum()))
    assert kept == [round(96 * (0.25 + 0.75 * (1 - min(step, 4) / 4) ** 3)) for step in range(6)]
