"""The learned supermask: each weight is kept with a chance of its own, and the chances are trained.

Zhou, Lan, Liu, Yosinski, "Deconstructing lottery tickets: zeros, signs, and the supermask", NeurIPS 2019, section 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.transformed import Sampled
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, SignOf, XavierNormal
from supermask.search.algorithm import Setting, SettingName
from supermask.search.rule import Rule, common, refuse_nan, step_generator, untold
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.training import Recipe

Evaluated = Literal["sampled", "rounded"]


@final
@dataclass(frozen=True, kw_only=True)
class LearnedRule(Rule):
    """The learned supermask (Zhou et al. 2019, section 5): the chance of each weight to be kept is trained.

    A supermask m ~ Bernoulli(sigmoid(s)) over frozen random weights, with a straight-through gradient to s. The density
    is an outcome: no number of weights is promised. In training every optimizer step has a sample of its own, drawn
    from (seed, parameter name, step).

    Attributes:
        logit: that all scores start from; sigmoid(logit) is the chance of a weight to be kept.
        rescaled: multiply the weights of a layer by n / (number kept) in every step.
        evaluated: measure a sample, as published ("sampled"), or keep what has a chance above one half ("rounded").
        learning_rate: of the scores, without weight decay, in place of the run's (100 in the authors' notes, whose
            runs are thirty times as long).

    Raises:
        SupermaskError: as `Search`, or an option is out of range.

    """

    name: ClassVar[str] = "learned"
    by_density: ClassVar[bool] = False
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": Setting({"warm_up": 0.2}, "chosen on the validation split of MNIST, LeNet-300-100"),
        "published": Setting(
            {"momentum": 0.9, "decay": "constant", "warm_up": 0, "batch_size": 250},
            "the authors' notes: 2,000 epochs of MNIST, SGD 100; LeNet-300-100",
            options={"learning_rate": 100.0},
            figures="98.0 % (table 1)",
        ),
    }
    # signed constants with the deviation of Glorot normal weights, as in the paper
    weights: str | Distribution = common(SignOf(XavierNormal()), told=False)
    logit: float = 0.0  # keeps half of the weights, as the authors' code does
    rescaled: bool = True  # section 5.2
    # rounding does worse as long as most chances are near one half
    evaluated: Evaluated = "sampled"
    learning_rate: float = untold(400.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluated not in ("rounded", "sampled"):
            raise SupermaskError(f"evaluated={self.evaluated!r} is unknown; known are rounded, sampled.")
        if not abs(self.logit) < 30.0:
            raise SupermaskError(
                f"logit={self.logit} is out of range; sigmoid(logit) is the chance of a weight to be kept."
            )

    def recipe(self, recipe: Recipe, setting: SettingName = "short") -> Recipe:
        """Return the recipe with the learning rate of the scores."""
        return replace(super().recipe(recipe, setting), learning_rate=self.learning_rate, weight_decay=0.0)

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        told = super().described()
        return {**{name: told[name] for name in ("logit", "rescaled", "evaluated")}, **self.policy}

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return the scores if the mask rounds their chances; nothing ranks a sample."""
        return scores if self.evaluated == "rounded" else None

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Return scores that are all equal."""
        return torch.full(slot.shape, self.logit, device="cpu")

    def layer(self, state: SearchState, slot: Slot) -> Sampled:
        """Return the sampled weight."""
        return Sampled(slot.parameter.detach().clone(), rescaled=self.rescaled)

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Draw the sample of the present step, and round where the mask is not that sample."""
        refuse_nan(scores)
        for name, layer in state.layers.items():
            assert isinstance(layer, Sampled)
            score = scores[name]
            generator = step_generator(state, "sample", name, score.device)
            uniform = torch.rand(score.shape, generator=generator, device=score.device)
            layer.sample.copy_(uniform < torch.sigmoid(score))
            # a chance of exactly one half is rounded up, so that the start is not an empty network
            layer.mask.copy_(score >= 0.0 if self.evaluated == "rounded" else layer.sample)
            layer.refresh()


class LearnedSupermask(Search, rule=LearnedRule):
    """A mask that is sampled by trained chances: a search by `LearnedRule`."""
