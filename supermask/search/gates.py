"""Relaxed Bernoulli gates: in training each weight passes a gate between 0 and 1, through which the gradient is exact.

Tsayag, Lindenbaum, "Uncovering a winning lottery ticket with continuously relaxed Bernoulli gates", arXiv 2603.08914,
2026. What was read of it is its abstract and the authors' page on it, which gives the gate and the penalty; its tables
and its recipe were not read. The gate is that of Yamada, Lindenbaum, Negahban, Kluger, "Feature selection using
stochastic gates", ICML 2020, section 3, where sigma is 0.5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.parametrization import Masked
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Uniform
from supermask.search.algorithm import SettingName
from supermask.search.rule import BudgetedRule, common, drawn, step_generator, untold
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.training import Recipe

_HALF = 0.5  # an open gate is one above it: the density counts these, as rounding does
_REACH = 1.0  # of the scores from one half; with 0.5, the noise takes hardly any gate across from there
_SPREAD = 0.1  # of the first scores, so that they have an order
_MOST_SHUT = 1e-6  # densities 0 and 1 have no finite score that all gates could start from


@final
@dataclass(frozen=True, kw_only=True)
class GatesRule(BudgetedRule):
    """Relaxed Bernoulli gates (Tsayag & Lindenbaum 2026): a mask by exact gradients, not straight-through ones.

    In training a weight is frozen x z, z = min(1, max(0, 1/2 + (s - 1/2) / T + e)), with e ~ N(0, sigma^2) drawn from
    (seed, parameter name, step), and the gradient of its score s is that of this formula. With the temperature T = 1
    this is the published gate, s + e. The published penalty, lambda x the sum of Phi(s / sigma), is the expected number
    of gates that are not shut. Here it counts the gates that are more than half open, and lambda is not an option: each
    step takes the one that brings the expected fraction of open gates to the density (one Newton step, of either sign).
    The ticket, and evaluation, keep the weights of the largest scores, exactly as many as the density says.

    Ours are also: sigma is 0.25, not the published 0.5, whose noise opens many gates at low densities, and short runs
    end worse; T falls over the run, so that training ends in the network that is kept; scores stay within 1 of one
    half, where a penalty still moves them; and the gates of a layer are multiplied by the number that gives them the
    root mean square of the mask.

    Attributes:
        sigma: deviation of the noise.
        coldest: the temperature after the last step; it falls from 1, exponentially.
        steps: optimizer steps over which it falls; None leaves it at 1. A run knows them by itself.
        learning_rate: of the scores, without weight decay, in place of the recipe's.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range.

    """

    name: ClassVar[str] = "gates"
    sigma: float = 0.25
    coldest: float = 0.1
    steps: int | None = common(None)
    learning_rate: float = untold(3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0.0 < self.sigma < math.inf and 0.0 < self.coldest <= 1.0):
            raise SupermaskError(
                f"sigma={self.sigma}, coldest={self.coldest} do not fit: the noise is positive, the temperature in"
                " (0, 1]."
            )
        if self.steps is not None and self.steps < 1:
            raise SupermaskError(f"steps={self.steps} is too small; give a number of optimizer steps.")

    def recipe(self, recipe: Recipe, setting: SettingName = "short") -> Recipe:
        """Return the recipe with the learning rate of the scores."""
        return replace(super().recipe(recipe, setting), learning_rate=self.learning_rate, weight_decay=0.0)

    def temperature(self, steps: int) -> float:
        """Return the temperature after so many optimizer steps."""
        return 1.0 if self.steps is None else self.coldest ** min(1.0, steps / self.steps)

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Draw scores at which the expected fraction of open gates is the density."""
        assert self.kept is not None
        chance = min(max(self.kept, _MOST_SHUT), 1.0 - _MOST_SHUT)
        return drawn(state, slot, Uniform(_SPREAD)) + NormalDist(_HALF, self.sigma).inv_cdf(chance)

    def layer(self, state: SearchState, slot: Slot) -> "Gated":
        """Return the gated weight."""
        return Gated(slot.parameter.detach().clone(), self.scaled_for(state, slot))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Penalise the open gates, keep the largest scores, and draw the noise of the present step."""
        temperature = self.temperature(state.steps)
        pools = self.pools(state)
        for pool in pools:
            self._penalise(pool, [scores[name] for name in pool.names], self.sigma * temperature)
        state.keep_largest(scores, pools)
        for name, layer in state.layers.items():
            assert isinstance(layer, Gated)
            generator = step_generator(state, "gate", name, scores[name].device)
            layer.draw(scores[name], self.sigma, temperature, generator)

    def _penalise(self, pool: Pool, scores: list[Tensor], width: float) -> None:
        """Take the step along the penalty's gradient after which the expected fraction of open gates is the density."""
        size = sum(score.numel() for score in scores)
        if not size:
            return
        # as wide as at temperature 1, so that the penalty reaches all gates to the end
        slopes = [_bell((score - _HALF) / self.sigma) for score in scores]
        heights = [(score - _HALF) / width for score in scores]
        surplus = torch.stack([torch.special.ndtr(height).sum() for height in heights]).sum() - pool.kept
        slope = torch.stack([(_bell(u) * bell).sum() for u, bell in zip(heights, slopes, strict=True)]).sum()
        rate = slope.clamp(min=torch.finfo(slope.dtype).tiny) / (width * math.sqrt(2.0 * math.pi))
        # not further than the penalty is wide: beyond that the slope is another one
        step = (surplus / rate).clamp(-width, width)
        for score, bell in zip(scores, slopes, strict=True):
            score.sub_(step * bell).clamp_(_HALF - _REACH, _HALF + _REACH)


class Gates(Search, rule=GatesRule):
    """A mask found through gates that open and close by degrees: a search by `GatesRule`."""


class Gated(Masked):
    """The parametrization scores -> frozen x gate in training mode, frozen x mask in evaluation mode.

    Evaluation takes no gradient to the scores: none is straight-through.

    Args:
        frozen: the random weights, floating; never changed.
        scaled_for: as of `Masked`.

    """

    noise: Tensor
    """What is added to the gates at this step; of the shape and dtype of the scores."""

    temperature: Tensor
    """By which the distance of the scores from one half is divided at this step; without dimensions."""

    gate_gain: Tensor
    """What gives the gates of this step the root mean square of the mask; without dimensions."""

    def __init__(self, frozen: Tensor, scaled_for: float | None) -> None:
        super().__init__(frozen, signed=True, scaled_for=scaled_for)
        self.register_buffer("noise", torch.zeros_like(frozen))
        self.register_buffer("temperature", frozen.new_ones(()))
        self.register_buffer("gate_gain", frozen.new_ones(()))

    def forward(self, scores: Tensor) -> Tensor:
        """Return the gated weight in training mode, the masked one in evaluation mode."""
        weight = self.frozen * self.gate_gain * self.gates(scores) if self.training else self.value
        return weight if self.scaled_for is None else weight * self.gain

    def gates(self, scores: Tensor) -> Tensor:
        """Return the gates of this step, in [0, 1]."""
        return ((scores - _HALF) / self.temperature + (self.noise + _HALF)).clamp(0.0, 1.0)

    @torch.no_grad()
    def draw(self, scores: Tensor, sigma: float, temperature: float, generator: torch.Generator) -> None:
        """Draw the noise of a step, and take the gain of its gates."""
        drawn = torch.randn(scores.shape, generator=generator, dtype=scores.dtype, device=scores.device)
        self.noise.copy_(drawn * sigma)
        self.temperature.fill_(temperature)
        # gates that are all shut have no gain that would help
        power = self.gates(scores).square().sum().clamp(min=1e-6)
        self.gate_gain.copy_((self.mask.sum() / power).sqrt())


def _bell(heights: Tensor) -> Tensor:
    return torch.exp(-0.5 * heights.square())
