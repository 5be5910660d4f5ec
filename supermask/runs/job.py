"""A job: one method on one network and one data set with one seed, as plain values."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Global, checked_density, named_scope
from supermask.masking.schedule import Constant, CubicRamp, Schedule
from supermask.parameters.given import GIVEN, Given, load_given
from supermask.parameters.roles import BiasPolicy, GainPolicy, NormPolicy
from supermask.random.distributions import named
from supermask.random.weights import checked_seed
from supermask.runs.methods import named_method
from supermask.search import Search
from supermask.search.algorithm import Algorithm, SettingName
from supermask.search.rule import BudgetedRule, Rule
from supermask.training import Recipe


@dataclass(frozen=True)
class SearchOptions:
    """How a mask is searched for.

    Attributes:
        density: fraction of the prunable weights that is kept, from 0 to 1.
        scope: what competes for the kept weights: each layer by itself, the whole network, or each layer with a
            density of its own by its shape (Erdos-Renyi-Kernel) or by its depth (smart ratio). None is the search's
            own, which is each layer for most.
        floor: with the global scope, the least that each layer keeps; without it a layer that would be emptied is an
            error.
        weights: distribution of the frozen random weights; None is the search's own, signed constants for most. "given"
            are those of a checkpoint, which a job names; the search then begins with the largest of them.
        scaled: multiply the frozen weights by 1/sqrt(density); given weights never are.
        score: rank weights by the magnitude of their scores or by the signed scores.
        equalised: draw the first scores of all layers on one scale, so that a global scope starts with no layer empty.
        ramp: optimizer steps over which the density falls from 1 to its value, along a cubic; 0 is at once.
        bias: biases are zero ("none"), random and frozen, or learned. Where weights are given, "none" keeps them too.
        norm: normalisation layers are bypassed ("none"), lose their weight and bias ("affine_off"), keep them as they
            are ("frozen") or learn them. Where weights are given, "affine_off" keeps them too.
        gains: of residual branches, such as a layer scale: as the model has them ("given"), or "one".
        dense: names of parameters that stay random and whole, and do not count as prunable; * and ? match.
        learned: names of parameters that are trained as usual and stored in the ticket.
        include: names of parameters that are masked besides all weights of two or more dimensions.
        packed: keep the frozen weights, which must be signed constants, as bits: less memory, a little more time.

    """

    density: float = 0.3
    scope: Literal["layer", "global", "erk", "smart_ratio"] | None = None
    floor: int | None = None
    weights: (
        Literal[
            "signed_constant",
            "kaiming_normal",
            "kaiming_uniform",
            "xavier_normal",
            "xavier_uniform",
            "uniform",
            "truncated_normal",
            "given",
        ]
        | None
    ) = None
    scaled: bool = True
    score: Literal["magnitude", "signed"] = "magnitude"
    equalised: bool = False
    ramp: int = 0
    bias: BiasPolicy = "none"
    norm: NormPolicy = "affine_off"
    gains: GainPolicy = "given"
    dense: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    packed: bool = False

    def __post_init__(self) -> None:
        checked_density(self.density)
        if self.ramp < 0:
            raise SupermaskError(f"ramp={self.ramp} is negative; give a number of optimizer steps, or 0.")
        if self.floor is not None and self.scope != "global":
            raise SupermaskError(f"floor={self.floor} needs scope=global; give that too, or leave the floor out.")

    def settle(self, rule: Rule | None) -> "SearchOptions":
        """Return the options with what is None as the search has it, where it has that, and by a name."""
        own: dict[str, Any] = self._of_given() if self.weights == GIVEN else {}
        if self.scope is None and isinstance(rule, BudgetedRule):
            scope = rule.budget.scope
            own |= {"scope": scope.name, "floor": scope.floor if isinstance(scope, Global) else None}
        if self.weights is None and rule is not None and isinstance(rule.weights, str):
            own["weights"] = rule.weights
        return replace(self, **own)

    def _of_given(self) -> dict[str, Any]:
        """Return what defaults stand for where weights are given: all else of the checkpoint stays as it is too."""
        kept = {"bias": ("none", "frozen"), "norm": ("affine_off", "frozen"), "scaled": (True, False)}
        return {name: here for name, (drawn, here) in kept.items() if getattr(self, name) == drawn}

    def start(
        self, rule: Rule, model: nn.Module, seed: int, recipe: Recipe, steps: int, given: str | None = None
    ) -> Search:
        """Return a search by a rule, with those of these options that it has, over a freshly built model.

        Args:
            rule: with the options of its own.
            model: freshly built.
            seed: of all that it draws.
            recipe: of the run.
            steps: optimizer steps of the run.
            given: file of the checkpoint that the weights are of; None where they are random.

        """
        schedule: Schedule = CubicRamp(self.ramp) if self.ramp else Constant()
        options = {part.name: getattr(self, part.name) for part in fields(self)}
        options = {name: value for name, value in options.items() if value is not None}
        if given is not None:
            options["weights"] = Given(Path(given).name)
        if self.scope is not None:
            options["scope"] = Global(self.floor) if self.scope == "global" else named_scope(self.scope)
        run = {"steps": max(1, steps), "total_rate": recipe.total_rate(steps)}
        asked = rule.in_run({**options, "schedule": schedule, **run})
        if given is not None:
            load_given(model, given, spared=self.learned)
        return Search.of(model, asked, seed=seed)


def slug_of(name: str) -> str:
    """Return the name of a model or a data set as it stands in the name of a folder: short, and without a slash."""
    plain = re.sub(r"[^\w.]+", "-", name).strip("-")
    # a path may be longer than a file system takes; its end says most, and a hash of 32 bits tells it from others
    return plain if len(plain) <= 60 else f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{plain[-50:]}"


@dataclass(frozen=True)
class Job:
    """What one run does.

    Attributes:
        method: a name in `METHODS`.
        model: a name that `supermask.models.make` takes.
        width: multiplies the model's hidden widths.
        data: a name that `supermask.data.load` takes.
        validation: examples held out of the training set to choose the best step; None is the data set's usual number.
        seed: of the weights, the scores and all that a method draws; of what the next two name, where they are None.
        given: file of the checkpoint that a search is over; None where weights are random.
        loss: what is minimised, as `supermask.training.losses.named_loss` takes it; None is the outputs' own loss, or
            the cross entropy of integer labels.
        split_seed: of the choice of the examples that are held out of the training set.
        order_seed: of the order of the examples, the augmentation and dropout: the noise of SGD.
        recipe: how it is trained.
        search: how the mask is searched for; other methods take the density and the prunable weights from it.
        initial: distribution of the initial weights of networks that are trained.
        options: of the method; None are its defaults.
        setting: how the method is trained where the recipe leaves it open: "short", as it works in few epochs, or
            "published", as its authors trained it, which replaces what it names; see `Algorithm.settings`.
        search_recipe: how the search is trained whose ticket a method then trains; None is what the recipe and the
            search's own setting say.

    """

    method: str = "edge_popup"
    model: str = "lenet_300_100"
    width: float = 1.0
    data: str = "digits"
    validation: int | None = None
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    search: SearchOptions = field(default_factory=SearchOptions)
    initial: str = "kaiming_normal"
    options: Algorithm | None = None
    setting: SettingName = "short"
    search_recipe: Recipe | None = None
    split_seed: int | None = None
    order_seed: int | None = None
    given: str | None = None
    loss: str | None = None

    def __post_init__(self) -> None:
        known = named_method(self.method)
        self._check_given(known)
        if self.setting not in get_args(SettingName):
            raise SupermaskError(f"setting={self.setting!r} is unknown; known are short, published.")
        if self.options is not None and type(self.options) is not type(known):
            raise SupermaskError(f"The options are of {self.options.name}, not of {self.method}.")
        if self.options is not None and self.options != replace(known, **self.options.own_options()):
            raise SupermaskError(f"Give the density of {self.method}, and what else searches share, in search=.")
        named(self.initial)
        for seed in (self.seed, self.split, self.order):
            checked_seed(seed)

    def _check_given(self, known: Algorithm) -> None:
        if self.given is None and self.search.weights == GIVEN:
            raise SupermaskError("weights=given needs a checkpoint; give its file: supermask search --given FILE.")
        if self.given is not None and self.search.weights != GIVEN:
            raise SupermaskError(
                f"weights={self.search.weights} are drawn, and those of {self.given} are given; leave out one of them."
            )
        if self.given is not None and known.rule is not known:
            raise SupermaskError(f"{self.method} is not a search alone, and only a search can be over given weights.")

    @property
    def split(self) -> int:
        """The seed of the validation split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def order(self) -> int:
        """The seed of the order of the examples, the augmentation and dropout."""
        return self.seed if self.order_seed is None else self.order_seed

    @property
    def algorithm(self) -> Algorithm:
        """The method with its options."""
        return self.options or named_method(self.method)

    def settled(self) -> "Job":
        """Return the job with nothing left open: the recipe and the options that its setting stands for.

        Raises:
            SupermaskError: no published setting of the method is known.

        """
        way, search = self.algorithm, self.search
        if self.setting == "published":
            own = {part.name for part in way.own_fields()}
            options = way.published_setting.options
            way = replace(way, **{name: value for name, value in options.items() if name in own})
            search = replace(search, **{name: value for name, value in options.items() if name not in own})
        search = search.settle(way.rule)
        chosen = way if self.options is not None or way != self.algorithm else None
        # the rate of a rule goes with the density, which the run has
        here = {"density": search.density, "scaled": search.scaled}
        recipe = (way.in_run(here) if isinstance(way, Rule) else way).recipe(self.recipe, self.setting)
        inner = self.search_recipe
        if inner is None and way.rule not in (None, way):
            inner = way.rule.in_run(here).recipe(self.recipe)
        return replace(self, recipe=recipe, search=search, options=chosen, search_recipe=inner)

    @property
    def slug(self) -> str:
        """A name for folders: the model, the data and, where it counts, the density."""
        name = f"{slug_of(self.model)}-{slug_of(self.data)}"
        return f"{name}-density{self.search.density:g}" if self.algorithm.by_density else name

    @property
    def seeds(self) -> Mapping[str, int]:
        """The seed, and those of the split and the order where they have their own, by name."""
        own = {"seed": self.seed, "split": self.split_seed, "order": self.order_seed}
        return {name: seed for name, seed in own.items() if seed is not None}

    @property
    def slug_of_seeds(self) -> str:
        """A name for folders, e.g. "seed0", or "seed0-order3" where the order has its own."""
        return "-".join(f"{name}{seed}" for name, seed in self.seeds.items())

    def describe_seeds(self) -> str:
        """Return the seeds as text."""
        return ", ".join(f"{name} {seed}" for name, seed in self.seeds.items())

    @property
    def training(self) -> Recipe:
        """The recipe as the loop takes it: nothing of a random mask is trained."""
        # iterations too, because they override the epochs where they are given
        return self.recipe if self.algorithm.trains else replace(self.recipe, epochs=0, iterations=None, test_at=())

    def describe_training(self) -> str:
        """Return how the network is trained, as text."""
        settled = self.settled()
        if not settled.algorithm.trains:
            return "nothing trained"
        inner, text = settled.search_recipe, settled.training.describe()
        return text if inner in (None, settled.recipe) else f"{text}; its search: {inner.describe()}"

    def config(self) -> dict[str, Any]:
        """Return the job as it comes back from JSON.

        What the method does not use is left out, and so are options that older runs did not have, at what they did.
        """
        settled = self.settled()
        # by way of JSON, so that tuples are lists, as in a file that is compared with it
        config: dict[str, Any] = json.loads(
            json.dumps({**asdict(replace(settled, options=None)), "options": settled.algorithm.recorded_options()})
        )
        if settled.search_recipe == settled.recipe:
            config["search_recipe"] = None  # as in runs that had one recipe for both
        for part, option, older in _LATER:
            section = config[part] if part else config
            if section is not None and section[option] == older:
                del section[option]
        used = _used(self.algorithm)
        config["search"] = {key: value for key, value in config["search"].items() if key in used}
        if not used:
            del config["search"]
        return config


def _used(way: Algorithm) -> set[str]:
    """Return the names of the options of a search that make a difference to a method."""
    if way.rule is None:
        return {"density", "include", "dense"} if way.by_density else set()
    common = way.rule.common_names()
    return {*common} | {option for option, part in (("floor", "scope"), ("ramp", "schedule")) if part in common}


_LATER: tuple[tuple[str, str, Any], ...] = (
    ("recipe", "compile", False),
    ("recipe", "fused", False),
    ("recipe", "graph", False),
    ("search_recipe", "graph", False),
    ("recipe", "warp", 0.0),
    ("search_recipe", "warp", 0.0),
    ("recipe", "iterations", None),
    ("recipe", "drops", [0.5, 0.75]),
    ("recipe", "dropout", 0.0),
    ("recipe", "padding", 4),
    ("recipe", "flips", True),
    ("recipe", "nesterov", False),
    ("recipe", "test_at", []),
    ("search_recipe", "test_at", []),
    ("search", "packed", False),
    ("search", "equalised", False),
    ("search", "gains", "given"),
    ("", "initial", "kaiming_normal"),
    ("", "options", {}),
    ("", "setting", "short"),
    ("", "search_recipe", None),
    ("", "split_seed", None),
    ("", "order_seed", None),
    ("", "given", None),
    ("", "loss", None),
)
"""Options that runs recorded before do not name, and what those did."""
