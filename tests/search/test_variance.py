"""Scaled weights keep the variance of their distribution, whatever is kept of them."""

import pytest
import torch
from searches import LINES
from torch import nn

from supermask.masking import CubicRamp, Global
from supermask.models import build
from supermask.search import SEARCHES, EdgePopup, MulticoatedSupermask
from supermask.search.rule import BudgetedRule

SCALED = [name for name, search in SEARCHES.items() if issubclass(search.kind, BudgetedRule)]
WAYS = {
    "layer": {},
    "global": {"scope": Global(floor=1)},
    "erk": {"scope": "erk"},
    "ramp": {"schedule": CubicRamp(4)},
    "global ramp": {"scope": Global(floor=1), "schedule": CubicRamp(4)},
}


def mean_squares(search):
    """Return by layer the mean square of the masked weights over that of the whole frozen ones, unscaled."""
    masked = dict(search.baked().named_parameters())
    frozen, weights = search.frozen_weights(), search.network.weights
    return {
        name: float(masked[name].double().square().mean() / (values.double() / weights[name].scale).square().mean())
        for name, values in frozen.items()
    }


def shaken(search, step):
    """Let the scores be others, and select."""
    for number, score in enumerate(search.scores().values()):
        noise = torch.randn(score.shape, generator=torch.Generator().manual_seed(31 * step + number))
        score.data.add_(noise * score.std()).abs_()
    search.step()


@pytest.mark.parametrize("density", [0.5, 0.1, 0.04])
@pytest.mark.parametrize("name", SCALED)
def test_every_search_keeps_the_variance_at_the_start_and_after_steps(name, density):
    options = {**LINES[name].options, "density": density} if name in LINES else {"density": density}
    search = SEARCHES[name](build("lenet_300_100", width=0.5), seed=1, **options)
    for step in range(3):
        assert mean_squares(search) == pytest.approx(dict.fromkeys(search.masks(), 1.0), rel=0.02)
        shaken(search, step)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [EdgePopup, MulticoatedSupermask])
def test_gains_follow_scopes_and_schedules(kind, way):
    search = kind(build("conv2", width=0.25), density=0.1, seed=1, **WAYS[way])
    for step in range(6):
        assert mean_squares(search) == pytest.approx(dict.fromkeys(search.masks(), 1.0), rel=1e-5)
        shaken(search, step)


def test_small_layers_are_scaled_for_the_weights_that_they_really_keep():
    search = EdgePopup(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1)), density=0.3)  # 4.5 of 15 are 4, 1.5 of 5 are 2
    assert mean_squares(search) == pytest.approx({"0.weight": 1.0, "1.weight": 1.0})
    assert search.treatments() == {}, "no gain where the number of kept weights is known from the start"


def test_a_ramp_leaves_no_gain_behind():
    search = EdgePopup(build("lenet_300_100", width=0.1), density=0.1, schedule=CubicRamp(4))
    assert all(treatment.gain == pytest.approx(0.1**0.5) for treatment in search.treatments().values())
    for step in range(4):
        shaken(search, step)
    assert search.treatments() == {}
