"""What a search is: one frozen dataclass of its rule, whose fields are its options."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, PerLayer, Pool, Scope, Shapes, checked_density, named_scope
from supermask.masking.parametrization import Masked
from supermask.masking.progress import Carried
from supermask.parameters.given import Given, named_given
from supermask.parameters.parameters import Slot
from supermask.parameters.roles import Policy
from supermask.random.distributions import Distribution, Fans, named
from supermask.random.stream import philox
from supermask.random.transform import Preset
from supermask.random.weights import RandomWeight
from supermask.search.algorithm import Algorithm, Setting, SettingName
from supermask.search.state import SearchState
from supermask.ticket.coding.drawn import Drawn
from supermask.training import Outcome, Recipe
from supermask.versions import describe

Start = Distribution | Literal["weights"]
"""What the first scores of a search are: drawn, or the weights that they rank."""


def common(default: Any, *, fixed: bool = False, told: bool = True) -> Any:
    """Return a field for an option that the commands set for all searches of a run at once, and not by `--NAME.OPTION`.

    Args:
        default: of this search.
        fixed: the commands leave it at its default; only a caller in Python sets it.
        told: it is part of the provenance of a ticket.

    """
    return field(default=default, metadata={"common": True, "fixed": fixed, "told": told})


def untold(default: Any) -> Any:
    """Return a field for an option of one search that is not part of the provenance of a ticket."""
    return field(default=default, metadata={"told": False})


@dataclass(frozen=True, kw_only=True)
class Rule(Algorithm, Policy):
    """How a mask is searched for: where scores start, and how they choose the mask after each optimizer step.

    A search is a final subclass: its fields are its options, and it says `first_scores` and `select`. The rest has
    defaults. A rule holds no state: what changes is in the `SearchState` that it is handed, or `carried`.

    Attributes:
        weights: distribution of the frozen weights, by name or a `Distribution`; or "given", or `Given(name)`: the
            weights that the model has stay, times their masks, and so does all else that no option names.
        include: parameters that are masked besides those of two or more dimensions with "weight" in their name.
        dense: parameters that stay random and whole; they do not count as prunable.
        learned: parameters that are trained as usual and stored in the ticket.
        bias: "none" (zero), "frozen" (random; where weights are given, as the model has it) or "learned". None is
            "none", and "frozen" where weights are given.
        norm: "affine_off", "frozen" (as the model has it), "learned" or "none" (bypassed). None is "affine_off", and
            "frozen" where weights are given.

    Raises:
        SupermaskError: an option is out of range.

    """

    capturable: ClassVar[bool] = False
    """Whether a CUDA graph can hold a step: it waits for nothing, and the host draws and decides nothing."""

    not_given: ClassVar[str] = ""
    """Why the rule cannot search over given weights; empty where it can."""

    weights: str | Distribution | Given = common("signed_constant", told=False)  # a ticket holds it by itself

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given and self.not_given:
            raise SupermaskError(f"{self.name} cannot search over given weights: {self.not_given}.")

    @property
    def rule(self) -> "Rule":
        """The rule itself."""
        return self

    @classmethod
    def own_fields(cls) -> tuple[Field[Any], ...]:
        """Return the options of this search alone."""
        of_all = {part.name for part in fields(Policy)}
        return tuple(part for part in fields(cls) if not part.metadata.get("common") and part.name not in of_all)

    @classmethod
    def common_names(cls) -> tuple[str, ...]:
        """Return the names of the options that other searches have too."""
        own = {part.name for part in cls.own_fields()}
        return tuple(part.name for part in fields(cls) if part.name not in own)

    def in_run(self, asked: Mapping[str, Any]) -> Self:
        """Return the rule with those of the options of a run that it has and that are not fixed."""
        fixed = {part.name for part in fields(self) if part.metadata.get("fixed")}
        return self.changed({name: asked[name] for name in self.common_names() if name in asked.keys() - fixed})

    def changed(self, options: Mapping[str, Any]) -> Self:
        """Return the rule with other options; where weights become given, or random, so do the defaults of others."""
        if bool(named_given(options.get("weights", self.weights))) == bool(self.given):
            return replace(self, **options)
        open_again = {name: None for name, value in self.defaults().items() if getattr(self, name) == value}
        return replace(self, **{**open_again, **options})

    @property
    def given(self) -> Given | None:
        """The given weights that are masked in place of random ones; None where weights are drawn."""
        return named_given(self.weights)

    @property
    def policy(self) -> dict[str, Any]:
        """What becomes of the parameters, as plain values."""
        values = {part.name: getattr(self, part.name) for part in fields(Policy)}
        # what tickets of before did not name is left out where it is as it was for them
        older = {part.name: part.default for part in fields(Policy) if part.metadata.get("later")}
        return {name: value for name, value in values.items() if name not in older or value != older[name]}

    @property
    def distribution(self) -> Distribution:
        """The distribution of the frozen weights.

        Raises:
            SupermaskError: it is unknown, or they are given.

        """
        return named(self.weights)  # type: ignore[arg-type]  # which refuses what is given

    @property
    def kept(self) -> float | None:
        """Fraction of the prunable weights that is kept; None where it is an outcome.

        Raises:
            SupermaskError: it has to be given, and is not.

        """
        return None

    @property
    def budget(self) -> Budget:
        """How the density is shared out."""
        return Budget(PerLayer())

    def fractions(self, shapes: Shapes) -> Mapping[str, float]:
        """Return by name the fraction of a layer that is kept, for which its frozen weights are scaled; or nothing."""
        return {}

    @property
    def signed(self) -> bool:
        """Whether masks are selected by ranks with their sign, not by their magnitudes."""
        return True

    def described(self) -> dict[str, Any]:
        """Return the options as plain values, for the provenance of a ticket.

        The order is kept by the file of a ticket: shared options, the roles of the parameters, the search's own.
        """
        told = {part.name: _plain(getattr(self, part.name)) for part in fields(self) if part.metadata.get("told", True)}
        roles = {part.name for part in fields(Policy)}
        first = {name: told[name] for name in self.common_names() if name in told.keys() - roles}
        return {**first, **self.policy, **{name: told[name] for name in self.own_options() if name in told}}

    @abstractmethod
    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Return the scores that a parameter starts from, of its shape; they come from (seed, name) alone."""

    @abstractmethod
    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Let every layer take the mask that the present scores choose.

        Raises:
            SupermaskError: a score is NaN, or a layer is emptied that must not be.

        """

    def emptied(self, shapes: Shapes) -> list[str]:
        """Return the layers that will keep no weight although that was not asked for."""
        return []

    def layer(self, state: SearchState, slot: Slot) -> Masked:
        """Return the masked weight of a parameter that still holds its random weight."""
        return Masked(slot.parameter.detach().clone(), signed=self.signed, scaled_for=self.scaled_for(state, slot))

    def scaled_for(self, state: SearchState, slot: Slot) -> float | None:
        """Return the number of kept weights for which a layer is scaled; None where it always keeps that many."""
        return None

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return what ranks each kept weight of a layer above the pruned ones, or None if the mask is not a ranking."""
        return scores

    def presets(self, state: SearchState) -> dict[str, Preset]:
        """Return by parameter name what part of its mask the seed fixes; nothing where all of it is searched for."""
        return {}

    def drawn(self, state: SearchState) -> Mapping[str, Drawn]:
        """Return by parameter name the bits that draw its mask; nothing where masks are stored entry by entry."""
        return {}

    def carried(self, state: SearchState) -> Carried | None:
        """Return what else changes in a search: neither its model nor its step, but a part of its state like both."""
        return None

    def complete(self, steps: int) -> bool:
        """Return whether the search has reached the density that was asked for."""
        return True

    def before_step(self, state: SearchState, scores: Mapping[str, nn.Parameter]) -> None:
        """Change the gradients of the scores before an optimizer step."""

    def after_step(self, state: SearchState) -> None:
        """Do what follows the selection of a step."""

    def details(self, outcome: Outcome) -> object:
        """Return what a result says of a run besides, a record of the kind `details_kind`; None for most rules."""
        return None

    def about(self) -> str:
        """Return what the text of a search says before its steps."""
        return ""


SHORT = Setting({"warm_up": 0.4}, "chosen on the validation split of MNIST, LeNet-300-100, 5 epochs")
"""Scores need a warm-up, above all at low densities: the first steps at the full rate throw the mask about."""


@dataclass(frozen=True, kw_only=True)
class BudgetedRule(Rule):
    """A rule that keeps as many weights as a density says.

    Attributes:
        density: fraction of the prunable weights that is kept, in [0, 1].
        scope: what competes for the kept weights: "layer", "global", "erk", "smart_ratio" or a `Scope`.
        scaled: multiply the frozen weights of a layer by 1/sqrt(the fraction of them that is kept), so that the pruned
            network keeps the variance of the distribution. Ramanujan et al. 2020, section 4.2 ("scaled"); their code
            divides by sqrt(1 - density) instead, which is the same at 0.5 alone. Where that fraction changes, with a
            global scope or a schedule, the layer has a gain that follows it. None is True, and False where weights are
            given: they have no distribution whose variance could be kept, and True is refused.

    """

    settings: ClassVar[Mapping[SettingName, Setting]] = {"short": SHORT}
    density: float | None = common(None)  # a run or a caller gives it: there is no density that is right for all
    scope: str | Scope = common("layer")
    scaled: bool | None = common(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density is not None:
            checked_density(self.density)
        if self.given and self.scaled:
            raise SupermaskError(
                "scaled=True keeps the variance of a distribution, and given weights have none; leave it out, so that"
                " they stay as they are."
            )
        _ = self.budget  # refuses an unknown scope, or a density of a layer's own that is out of range

    def defaults(self) -> dict[str, Any]:
        """Return what None stands for, by option."""
        return {**super().defaults(), "scaled": not self.given}

    @property
    def kept(self) -> float | None:
        """Fraction of the prunable weights that is kept."""
        if self.density is None:
            raise SupermaskError(f"{self.name} needs a density; give density=, the fraction of weights to keep.")
        return float(self.density)

    @cached_property
    def budget(self) -> Budget:
        """How the density is shared out."""
        return Budget(named_scope(self.scope))

    def described(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return {**super().described(), "density": self.kept, "scope": describe(self.budget.scope)}

    def short_recipe(self) -> Mapping[str, Any]:
        """Return what the short setting says, with the rate that goes with the density.

        Scaled weights are 1/sqrt(density) larger, and so are the gradients of their scores, while the scores stay on
        one scale. The rate takes that back below a density of 1/2, for which recipes are published.
        """
        own = super().short_recipe()
        if not self.scaled or self.density is None:
            return own
        rate = own.get("learning_rate", Recipe().peak) * min(1.0, (2.0 * self.density) ** 0.5)
        return {**own, "learning_rate": float(f"{rate:.2g}")}  # a number that a reader can say

    def pools(self, state: SearchState) -> list[Pool]:
        """Return the pools of all layers at the density."""
        kept = self.kept
        assert kept is not None
        return state.at_density(kept, lambda: self.budget.pools(state.shapes, kept))

    def fractions(self, shapes: Shapes) -> Mapping[str, float]:
        """Return by name the fraction of a layer that is kept, for which its frozen weights are scaled; or nothing."""
        return self.budget.fractions(shapes, self.kept) if self.scaled and self.kept is not None else {}

    def emptied(self, shapes: Shapes) -> list[str]:
        """Return the layers in which the density keeps no weight, although it is not 0."""
        return self.budget.emptied(shapes, self.kept) if self.kept is not None else []

    def varies(self, state: SearchState) -> bool:
        """Return whether a layer may keep more or fewer weights than its fraction."""
        return self.budget.scope.competing

    def scaled_for(self, state: SearchState, slot: Slot) -> float | None:
        """Return the number of kept weights for which a layer is scaled; None where it always keeps that many."""
        if not self.scaled or self.kept is None or not self.varies(state):
            return None
        weight = state.network.weights[slot.name]
        return weight.count / weight.scale**2


def drawn(state: SearchState, slot: Slot, distribution: Distribution, fans: Fans | None = None) -> Tensor:
    """Return first scores of a parameter from (seed, name), independent of its weights; float32 on the CPU."""
    return RandomWeight(slot.shape, distribution, fans or slot.fans).grow(state.seed, slot.name, "scores")


def started(
    state: SearchState, slot: Slot, scores: Start | None, *, positive: bool, fans: Fans | None = None
) -> Tensor:
    """Return first scores of a parameter that still holds its weight.

    Args:
        state: of the search.
        slot: of the parameter.
        scores: their distribution; or "weights", the weights on the scale of Sehwag et al. 2020 (HYDRA), section 3.2:
            sqrt(6 / fan_in) x w / max |w|, whose largest magnitudes are those of the weights.
        positive: take the magnitudes of the weights, where scores are ranked or read with their sign.
        fans: that a distribution scales by, in place of the parameter's.

    """
    if isinstance(scores, Distribution):
        return drawn(state, slot, scores, fans)
    weight = slot.parameter.detach()
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    largest = weight.abs().max() if weight.numel() else weight.new_ones(())
    first = weight * (math.sqrt(6.0 / slot.fans.fan_in) / torch.where(largest > 0.0, largest, 1.0))
    return first.abs() if positive else first


def step_generator(state: SearchState, purpose: str, name: str, device: torch.device) -> torch.Generator:
    """Return a generator of what a parameter draws at the present step, for nothing but (seed, purpose, name, step)."""
    key = int(philox(state.seed, purpose, name, state.steps).random_raw()) >> 1  # a torch seed has 63 bits
    return torch.Generator(device).manual_seed(key)


def refuse_nan(scores: Mapping[str, Tensor]) -> None:
    """Raise SupermaskError if a score is NaN, by which nothing can be ranked or compared."""
    for name, score in scores.items():
        if bool(score.isnan().any()):
            raise SupermaskError(f"A score of {name} is NaN; the training diverged: lower the learning rate.")


def refuse_infinite(scores: Mapping[str, Tensor]) -> None:
    """Raise SupermaskError if a score is infinite: it has no rank among its equals, and no gradient moves it."""
    for name, score in scores.items():
        # a sum reads each score once and writes nothing; only where it is not finite are they looked at one by one
        if not math.isfinite(score.detach().sum()):
            count = int(score.isinf().sum())
            if count:
                raise SupermaskError(
                    f"{count:,} of {score.numel():,} scores of {name} are infinite, where no gradient moves them; the"
                    " training diverged: lower the learning rate."
                )


def _plain(value: Any) -> Any:
    """Return the value of an option as JSON keeps it."""
    if isinstance(value, Distribution):
        return value.describe()
    return describe(value) if is_dataclass(value) else value
