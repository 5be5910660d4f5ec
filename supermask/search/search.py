"""The search for a strong ticket: frozen random weights, trained scores, and a rule by which they choose the mask."""

import math
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields
from functools import cached_property
from inspect import Parameter, Signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.parametrization import Masked, attach_scores, baked
from supermask.masking.state_hooks import hook_state, progress_of
from supermask.parameters.unfit import outside
from supermask.random.transform import Preset, Treatment
from supermask.search.account import LOOKED_AT, warn_of_dead, warn_of_outside, warn_of_stored
from supermask.search.attached import FIRST, Attached, refuse_altered
from supermask.search.following import UNSTEPPED, Following
from supermask.search.fused import FusedSGD
from supermask.search.rule import Rule, refuse_infinite
from supermask.search.state import SearchState
from supermask.ticket import Ticket
from supermask.ticket.random_network import RandomNetwork
from supermask.training import Recipe
from supermask.versions import versions


class Search:
    """A search over any module: the weights are frozen at random, scores are trained, and choose the mask by a rule.

    Every search is this class. A subclass such as `EdgePopup` names the rule, so that its options are keywords:
    `EdgePopup(model, density=0.3)` is `Search(model, EdgePopupRule(density=0.3))`.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place. With weights="given"
            it has those of a checkpoint, which stay.
        rule: how masks are searched for; a subclass that names a rule has it already.
        seed: of the random weights and of all that the search draws.
        **options: of the rule, in place of those that it has. They can be read as attributes of the search.

    Attributes:
        model: the module given; call it as usual.
        network: the random network and the roles of its parameters.
        rule: the rule with its options.

    Raises:
        SupermaskError: an option is out of range, a name matches nothing, nothing is left to prune, or a global budget
            empties a layer.

    """

    name: ClassVar[str]
    kind: ClassVar[type[Rule]]
    """The rule that a subclass names."""

    _named: ClassVar[dict[type[Rule], type["Search"]]] = {}

    def __init_subclass__(cls, rule: type[Rule] | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if rule is not None:
            cls.kind, cls.name = rule, rule.name
            cls.__signature__ = _signature(rule)  # type: ignore[attr-defined]
            cls._named[rule] = cls

    def __init__(self, model: nn.Module, rule: Rule | None = None, *, seed: int = 0, **options: Any) -> None:
        self.rule = self.kind(**options) if rule is None else rule.changed(options)
        self.model = model
        self.network = RandomNetwork(
            model,
            seed=seed,
            distribution=None if self.rule.given else self.rule.distribution,
            policy=self.rule,
            fractions=self.rule.fractions,
        )
        about = {"algorithm": self.rule.name, "seed": seed, **self.options}
        self._state = SearchState(self.network, signed=self.rule.signed, about=about)
        self._layers = self._state.layers
        masked = self.network.masked
        self._warn_of_empty_layers()
        warn_of_outside(outside(model))
        if not self.rule.given:  # what stays is then of the checkpoint, and not stored
            warn_of_stored(self.network.account)
        first = {name: self.rule.first_scores(self._state, slot).to(slot.parameter) for name, slot in masked.items()}
        # before anything is attached: a refusal leaves no half-made search behind
        for name, slot in masked.items():
            self._layers[name] = self.rule.layer(self._state, slot)
        self._select(first)
        for name, slot in masked.items():
            attach_scores(slot, self._layers[name], first[name])
        next(iter(self._layers.values())).progress = self._state.progress
        self._state.progress.carried = self.rule.carried(self._state)
        hook_state(model)
        self._attached = Attached(model, masked, self._layers)
        self._followings: list[Following] = []  # the last one, and those that were left for it
        UNSTEPPED.add(self)

    @classmethod
    def by(cls, rule: type[Rule]) -> type["Search"]:
        """Return the search that names this rule: the class of that kind, or a new one called like the rule."""
        return cls._named.get(rule) or type(rule.__name__, (Search,), {"__doc__": rule.__doc__}, rule=rule)

    @classmethod
    def of(cls, model: nn.Module, rule: Rule, *, seed: int = 0) -> "Search":
        """Return a search by a rule, of the class that names the rule."""
        kind = cls.by(type(rule))
        search = kind.__new__(kind)
        Search.__init__(search, model, rule, seed=seed)  # a class may read its keywords in a way of its own
        return search

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "rule":
            raise AttributeError(name)  # a copy in the making has no rule yet
        return getattr(self.rule, name)

    def __getstate__(self) -> dict[str, Any]:
        # a copy of a search, such as one within a LightningModule that an average copies, follows no optimizer
        return {**self.__dict__, "_followings": []}

    def __repr__(self) -> str:
        counts = {role: sum(numbers.values()) for role, numbers in self.network.account.items()}
        prunable = counts.pop("masked")
        rest = "".join(f", {count:,} {role}" for role, count in counts.items() if count)
        about = f"{self.rule.about()}{self.steps:,} steps"
        return f"{type(self).__name__}({prunable:,} weights in {len(self._layers)} layers{rest}, {about})"

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe with what it leaves open as the rule has it for few epochs; `train` asks for it."""
        return self.rule.recipe(recipe)

    def account(self) -> dict[str, dict[str, int]]:
        """Return what becomes of the parameters to how many numbers each of them has, by name.

        "masked" are searched; "dense" are random and whole; "learned" are trained as usual; "constant" have one value;
        "given" are stored as the model has them, and so are "frozen" ones, which the model's maker has set not to be
        trained. Where weights are given, "dense", "given" and "frozen" ones are of the checkpoint, and not stored.
        """
        return {role: dict(numbers) for role, numbers in self.network.account.items()}

    @property
    def identity(self) -> str:
        """The digest of the frozen weights, which processes and states of one search have in common."""
        return self.network.digest

    @property
    def seed(self) -> int:
        """The seed of the random weights and of all that the search draws."""
        return self.network.seed

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options of the rule as plain values."""
        return self.rule.described()

    @property
    def density(self) -> float | None:
        """Fraction of the prunable weights that is kept; None where it is an outcome."""
        return self.rule.kept

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self._state.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._state.progress.steps = steps

    @property
    def complete(self) -> bool:
        """Whether the search has reached the density that was asked for."""
        return self.rule.complete(self.steps)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what an optimizer trains: the scores, then the parameters that are learned as usual."""
        yield from self.scores().values()
        yield from (slot.parameter for slot in self.network.learned.values())

    def scores(self) -> dict[str, nn.Parameter]:
        """Return the scores by parameter name: each has the shape, dtype and device of its weight."""
        return {name: slot.parameter for name, slot in self.network.masked.items()}

    def ranking(self) -> Mapping[str, Tensor] | None:
        """Return what ranks each kept weight of a layer above the pruned ones, or None if the mask is not a ranking."""
        return self.rule.ranking(self._state, self.scores())

    def frozen_weights(self) -> dict[str, Tensor]:
        """Return copies of the unpruned weights, random or given, by parameter name."""
        return {name: layer.frozen.clone() for name, layer in self._layers.items()}

    def masks(self) -> dict[str, Tensor]:
        """Return copies of the masks by parameter name: bool tensors, True = kept.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for, or a part of the model was replaced since
                the search was attached.

        """
        self._check()
        return {name: mask.clone() for name, mask in self._state.masks.items()}

    def treatments(self) -> dict[str, Treatment]:
        """Return what is done to the kept random weights by parameter name; nothing where they stay as they are."""
        made = {name: layer.treatment() for name, layer in self._layers.items()}
        return {name: treatment for name, treatment in made.items() if treatment is not None}

    def presets(self) -> dict[str, Preset]:
        """Return by parameter name what part of its mask the seed fixes; nothing where all of it is searched for."""
        return self.rule.presets(self._state)

    @property
    def fusible(self) -> bool:
        """Whether `fused_sgd` knows of this search: the gradient of a score is its weight's times the frozen weight."""
        plain = all(type(layer).forward is Masked.forward and layer.weights for layer in self._layers.values())
        return plain and type(self.rule).before_step is Rule.before_step

    def fused_sgd(
        self, *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> FusedSGD:
        """Return SGD that makes the gradients of the scores, steps and counts for the selection in one pass.

        On the CPU it is faster than `torch.optim.SGD` and gives the same up to the last bits. While it lives, `grad`
        of a score is the gradient of its masked weight.

        Args:
            lr: the learning rate.
            momentum: of SGD.
            weight_decay: what of a parameter is added to its gradient.
            nesterov: whether steps look ahead along the momentum.

        Raises:
            SupermaskError: the gradients of this search's scores are of another kind.

        """
        if not self.fusible:
            raise SupermaskError(
                f"{self.name} with these options makes the gradients of its scores in its own way, which fused_sgd does"
                " not know; take torch.optim.SGD."
            )
        learned = [slot.parameter for slot in self.network.learned.values()]
        return FusedSGD(
            self.scores(),
            learned,
            self._state,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def follow(self, optimizer: torch.optim.Optimizer) -> Following:
        """Call `step` after each step that an optimizer really takes, so that the loop need not.

        That is right with accumulated gradients, with closures, with a GradScaler's skipped steps, and in loops that
        are not one's own. What the rule does before a step is done too. A further optimizer, as frameworks make one for
        each fit, is followed in place of the one before, which may then not move the scores again.

        Args:
            optimizer: that trains the scores; a wrapper of accelerate or Lightning around it will do.

        Returns:
            What `remove()` ends; `step` is then called by hand again.

        Raises:
            SupermaskError: the optimizer lacks a score, or calls no hooks.

        """
        if self._following and self._following.active and self._following.of(optimizer):
            return self._following
        following = Following(optimizer, self.scores().values(), self.before_step, self._advance)
        self._followings = [former for former in self._followings if former.give_way(optimizer)] + [following]
        return following

    @property
    def _following(self) -> Following | None:
        return self._followings[-1] if self._followings else None

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change the gradients of the scores as the rule says; call it once before each `optimizer.step()`.

        Most rules change nothing, and the call may then be left out.
        """
        self.rule.before_step(self._state, self.scores())

    def step(self) -> None:
        """Advance the search and select the masks; call it once after each `optimizer.step()`.

        On a GPU this does not wait where it need not; what is wrong there is raised by the next call of `masks`,
        `ticket` or `state_dict`.

        A CUDA graph may capture it after a few eager steps. What is captured does not count as a step; call `replayed`
        after each replay.

        Raises:
            SupermaskError: a score is NaN or infinite, or a layer is emptied that must not be; or a CUDA graph captures
                a step while the density still changes; or the search follows an optimizer, which calls this by itself;
                or a part of the model was replaced since the search was attached.

        """
        if self._following and self._following.active:
            raise SupermaskError(
                "The search follows its optimizer, so that search.step() would count this step twice; leave it out."
            )
        self._advance()

    def replayed(self) -> None:
        """Count a step that a CUDA graph has replayed."""
        self.steps += 1

    def _advance(self) -> None:
        captured = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        if captured and not self.complete:
            raise SupermaskError(
                "The density still changes from step to step, and a CUDA graph would replay that of this step; capture"
                " it once search.complete is True, or search without a schedule."
            )
        self._attached.check()
        self.steps += not captured
        if self.steps in (FIRST, LOOKED_AT) and not captured:
            self._attached.refuse_unread()
        scores = self.scores()
        if self._state.handover:
            if self._state.progress.loaded:
                self._state.handover.forget()
            self._state.handover.check(scores.values())
        self._state.progress.loaded = False
        self._select(scores)
        for layer in self._layers.values():
            if layer.copied is not None:  # of a search that was copied with its network: it goes on by itself
                layer.copied = None
        self.rule.after_step(self._state)
        if self.steps == LOOKED_AT:
            warn_of_dead(scores, self._state.masks, self.network.account, self.network.gains)

    def baked(self) -> nn.Module:
        """Return a copy of the model with the present masked weights as plain parameters, pruned ones +0.

        It takes no gradients, shares nothing with the search, and gives the same outputs as the search's model in
        evaluation mode, bit for bit.
        """
        return baked(self.model)

    @torch.no_grad()
    def averaged(self, copy: nn.Module) -> nn.Module:
        """Return the plain network of a copy of the model whose scores are averages, with the masks that they choose.

        For `torch.optim.swa_utils.AveragedModel`, an EMA of timm or Lightning, or a mean over checkpoints. The search
        is left as it is. Statistics of batch norm are those of the copy; estimate them again with
        `supermask.training.reestimate`.

        Args:
            copy: of the search's model, or a wrapper with such a copy as its `module`.

        Raises:
            SupermaskError: the copy lacks a parameter of the model, or a score is NaN or infinite.

        """
        # a wrapper is known by its names: a network of one's own may have a part that is called module
        own = {name for name, _ in self.model.named_parameters()}
        wraps = not own & {name for name, _ in copy.named_parameters()}
        source = getattr(copy, "module", copy) if wraps else copy
        theirs = {**dict(source.named_parameters()), **dict(source.named_buffers())}
        before = deepcopy(self.state_dict())
        try:
            for name, tensor in self.model.named_parameters():
                if name not in theirs or theirs[name].shape != tensor.shape:
                    raise SupermaskError(
                        f"The copy has no {name} of shape {tuple(tensor.shape)}; give a copy of this search's model."
                    )
                tensor.copy_(theirs[name])
            for name, buffer in self.model.named_buffers():
                if ".parametrizations." not in f".{name}" and name in theirs:
                    buffer.copy_(theirs[name])
            self._select(self.scores())
            return self.baked()
        finally:
            self.load_state_dict(before)

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks, statistics and learned tensors.

        Args:
            **provenance: plain values to keep with it, e.g. model="lenet_300_100", data="mnist", metrics={...}.

        Raises:
            SupermaskError: the model was changed since the search was attached: a part was replaced, or what is frozen
                or chosen by the search was written into.

        """
        self._refuse_changed()
        made = {"algorithm": self.name, "options": self.options, "steps": self.steps, "versions": versions()}
        return self.network.ticket(
            self.masks(),
            {**made, **provenance},
            treatments=self.treatments(),
            presets=self.presets(),
            drawn=self.rule.drawn(self._state),
        )

    def _refuse_changed(self) -> None:
        self._attached.check()
        grown = self.network.grown()
        self.network.refuse_changed(grown)
        refuse_altered(self._layers, grown, self.network.checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a search needs to go on, but the optimizer.

        The state of the model alone, `search.model.state_dict()`, is enough too: it holds the step and says what search
        it is of. Libraries that save the model save the search.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for, or a part of the model was replaced since
                the search was attached.

        """
        self._check()
        return {"steps": self.steps, "digest": self.network.digest, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` returned for a search with the same arguments.

        States of older versions, whose model does not say what search it is of, are taken up if they are over the same
        random weights.

        Raises:
            SupermaskError: the state is of a search over other weights, or of another search over the same.

        """
        progress, tensors = self._state.progress, state["model"]
        progress.refuse_other({"digest": state["digest"]})
        older = {name for name, _ in progress_of(self.model)} - tensors.keys()
        carried = progress.carried.state_dict() if progress.carried else {}
        self.model.load_state_dict({**tensors, **{name: progress.packed(state["steps"], carried) for name in older}})

    def _warn_of_empty_layers(self) -> None:
        empty = self.rule.emptied(self._state.shapes)
        if empty:
            sizes = ", ".join(f"{name} ({math.prod(self._state.shapes[name]):,} weights)" for name in empty[:3])
            warnings.warn(
                f"density={self.density} keeps no weight of {sizes}{f' and {len(empty) - 3} more' * (len(empty) > 3)},"
                " so that nothing passes there; raise the density, give such a layer one of its own with own_density=,"
                " or let layers compete with a floor: scope=masking.Global(floor=1).",
                stacklevel=3,
            )

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        if all(score.is_cpu for score in scores.values()):  # a GPU would have to be waited for
            refuse_infinite(scores)
        self.rule.select(self._state, scores)

    def _check(self) -> None:
        """Refuse a model that was changed, and raise what a step on a GPU would have had to wait for."""
        self._attached.check()
        self._state.check()
        refuse_infinite(self.scores())


def _signature(rule: type[Rule]) -> Signature:
    """Return the signature of a search whose keywords are the options of a rule."""
    options = [
        Parameter(part.name, Parameter.KEYWORD_ONLY, default=part.default, annotation=part.type)
        for part in fields(rule)
    ]
    seed = Parameter("seed", Parameter.KEYWORD_ONLY, default=0, annotation=int)
    return Signature([Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, annotation=nn.Module), seed, *options])
