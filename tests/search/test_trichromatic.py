"""Trichromatic supermasks against their formula, written out slowly."""

import math

import pytest
import torch
from one_layer import gradients, linear, only

from supermask.errors import SupermaskError
from supermask.search import SignedSupermask, TrichromaticSupermask


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_a_kept_weight_has_the_sign_of_its_score_and_the_level_of_its_rank(levels):
    search = TrichromaticSupermask(linear(), density=0.5, levels=levels, weights="kaiming_normal")
    for _ in range(3):
        score = only(search.scores()).detach().reshape(-1)
        order = sorted(range(96), key=lambda place: (-abs(score[place].item()), place))
        level = [0] * 96
        for coat in range(levels):
            for place in order[: round(0.5 * (levels - coat) / levels * 96)]:
                level[place] += 1
        gain = math.sqrt(48 / sum(each**2 for each in level))
        factors = torch.tensor([each * (-1 if s < 0 else 1) for each, s in zip(level, score.tolist(), strict=True)])
        frozen = only(search.frozen_weights())
        torch.testing.assert_close(search.model.weight.detach(), frozen * factors.reshape(8, 12) * gain)
        treatment = only(search.treatments())
        assert torch.equal(treatment.factors, factors.reshape(8, 12).to(torch.int8))
        assert treatment.gain == pytest.approx(gain)
        gradient, weight = gradients(search)
        torch.testing.assert_close(gradient, weight * frozen * gain)
        only(search.scores()).data.sub_(0.1 * gradient)
        search.step()


def test_what_is_kept_has_the_variance_of_the_distribution():
    search = TrichromaticSupermask(linear(), density=0.5, levels=4)
    constant = math.sqrt(2 / 12)  # signed, and of the deviation of He
    assert search.model.weight.detach().square().mean().item() == pytest.approx(constant**2)


def test_one_level_is_a_signed_supermask():
    one, other = (
        kind(linear(), density=0.4, **more)
        for kind, more in ((TrichromaticSupermask, {"levels": 1}), (SignedSupermask, {}))
    )
    for search in (one, other):
        only(search.scores()).data.copy_(torch.randn(8, 12, generator=torch.Generator().manual_seed(1)))
        search.step()
    assert torch.equal(one.model.weight, other.model.weight)
    assert torch.equal(gradients(one)[0], gradients(other)[0])


@pytest.mark.parametrize(
    ("options", "says"), [({"levels": 0}, "levels=0"), ({"levels": 128}, "levels=128"), ({"score": "signed"}, "score=")]
)
def test_options_that_do_not_fit_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        TrichromaticSupermask(linear(), density=0.5, **options)
