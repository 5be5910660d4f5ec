"""Edge-popup: find a mask by training scores over frozen random weights.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari, "What's hidden in a randomly weighted neural network?", CVPR 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, Pool, named_scope
from supermask.masking.parametrization import Masked
from supermask.masking.schedule import Constant, Schedule
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Fans, KaimingUniform
from supermask.search.algorithm import Setting, SettingName
from supermask.search.rule import SHORT, BudgetedRule, Start, common, started
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.versions import describe

Score = Literal["magnitude", "signed"]
CIFAR10 = {
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay": "cosine",
    "warm_up": 0,
    "batch_size": 128,
    "augment": True,
}
"""The recipe of the authors for convolutional networks on CIFAR-10, but for its 100 epochs."""

# |score| is then uniform on [0, 1/sqrt(fan_in)], as the authors' code has it
SCORES = KaimingUniform(gain=3.0**-0.5)


@dataclass(frozen=True, kw_only=True)
class RankedRule(BudgetedRule):
    """Edge-popup, and what goes by it: each layer, or the whole network, keeps its largest scores.

    Attributes:
        score: rank by "magnitude", as in the paper, or by the "signed" score.
        scores: distribution of the first scores; each is drawn from (seed, name), apart from the weights. Or "weights":
            the weights themselves, on the scale of HYDRA (Sehwag et al. 2020), so that the first mask keeps the
            largest. None is "weights" where weights are given, and else that of the authors.
        schedule: density over the optimizer steps; None is the density from the first step on.
        own_density: parameter name or pattern to a density of its own; `density` then holds for the other layers.
        equalised: draw the first scores of all layers on one scale instead of each on that of its fan-in, so that a
            global scope does not begin with the layers of the largest fan-in empty.
        packed: keep the frozen weights, which must be signed constants, as one bit each; the same numbers in less
            memory and more time.

    """

    score: Score = common("magnitude")
    scores: Start | None = common(None)
    schedule: Schedule | None = common(Constant())
    own_density: Mapping[str, float] | None = common(None)
    equalised: bool = common(False)
    packed: bool = common(False, told=False)  # it changes no number

    def __post_init__(self) -> None:
        if self.score not in ("magnitude", "signed"):
            raise SupermaskError(f"score={self.score!r} is unknown; known are magnitude, signed.")
        super().__post_init__()

    def defaults(self) -> dict[str, Any]:
        """Return what None stands for, by option."""
        return {**super().defaults(), "scores": "weights" if self.given else SCORES}

    @cached_property
    def budget(self) -> Budget:
        """How the density is shared out."""
        return Budget(named_scope(self.scope), dict(self.own_density or {}))

    @property
    def signed(self) -> bool:
        """Whether scores are ranked with their sign."""
        return self.score == "signed"

    def density_at(self, steps: int) -> float:
        """Return the density after so many optimizer steps."""
        assert self.kept is not None
        return (self.schedule or Constant()).density(steps, self.kept)

    def complete(self, steps: int) -> bool:
        """Return whether the schedule has reached the density that was asked for."""
        return self.density_at(steps) == self.kept

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        told = {
            **super().described(),
            "schedule": describe(self.schedule or Constant()),
            "own_density": dict(self.budget.own),
        }
        if not self.equalised:  # tickets from before there was the option have the same provenance
            del told["equalised"]
        return told

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what ranks the kept weights of a layer above the pruned ones: scores or their magnitudes."""
        return {name: score if self.signed else score.detach().abs() for name, score in scores.items()}

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Return the first scores of a parameter."""
        fans = _mean_fans(state.network.masked) if self.equalised else None
        return started(state, slot, self.scores, positive=self.positive, fans=fans)

    @property
    def positive(self) -> bool:
        """Whether scores start positive where they start from the weights: what is read with its sign does."""
        return self.score == "signed"

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight, with its frozen weights as bits where they are packed."""
        frozen = slot.parameter.detach().clone()
        packed = slot.name if self.packed else None
        return Masked(frozen, signed=self.score == "signed", packed=packed, scaled_for=self.scaled_for(state, slot))

    def varies(self, state: SearchState) -> bool:
        """Return whether a layer may keep more or fewer weights than its fraction."""
        return not self.complete(0) or super().varies(state)

    def pools(self, state: SearchState) -> list[Pool]:
        """Return the pools of all layers at the density of the present step."""
        density = self.density_at(state.steps)
        return state.at_density(density, lambda: self.budget.pools(state.shapes, density))

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Keep the largest scores."""
        state.keep_largest(scores, self.pools(state))

    def about(self) -> str:
        """Return the density."""
        return f"density={self.kept:g}, "


@final
@dataclass(frozen=True, kw_only=True)
class EdgePopupRule(RankedRule):
    """Edge-popup (Ramanujan et al. 2020): scores are trained, weights are not."""

    name: ClassVar[str] = "edge_popup"
    capturable: ClassVar[bool] = True
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": SHORT,
        "published": Setting(
            CIFAR10,
            "the authors' configurations for conv2 to conv8 on CIFAR-10: 100 epochs, signed constants, not scaled",
            options={"scaled": False, "weights": "signed_constant"},
            figures="curves alone; 77.7, 85.8, 88.1 % for conv2, conv4, conv6 at 0.5 in Aladago & Torresani 2021",
        ),
    }


class EdgePopup(Search, rule=EdgePopupRule):
    """Edge-popup over any module: the weights are frozen at random, the scores that rank them are trained.

    Its keywords are the options of `EdgePopupRule`; see `Search` for what it can do.
    """


def _mean_fans(slots: Mapping[str, Slot]) -> Fans:
    """Return the fans at which scores have the variance that they have on average over the network's weights."""
    counts = [slot.parameter.numel() for slot in slots.values()]
    fans = [slot.fans for slot in slots.values()]

    def mean(which: list[int]) -> int:
        return max(1, round(sum(counts) / sum(count / fan for count, fan in zip(counts, which, strict=True))))

    return Fans(mean([each.fan_in for each in fans]), mean([each.fan_out for each in fans]))
