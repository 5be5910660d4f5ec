"""What every search for a strong ticket is: frozen random weights, trained scores, and four verbs."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, TypedDict, get_args

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, PerLayer
from supermask.masking.parametrization import Masked, attach, baked
from supermask.parameters.parameters import Slot
from supermask.parameters.roles import BiasPolicy, NormPolicy, Policy
from supermask.random.distributions import Distribution, Fans, named
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight
from supermask.ticket import Ticket
from supermask.ticket.random_network import RandomNetwork
from supermask.versions import versions


class Choices(TypedDict, total=False):
    """What every search takes as keywords besides its own options; `EdgePopup` says what they mean."""

    weights: str | Distribution
    include: tuple[str, ...]
    dense: tuple[str, ...]
    learned: tuple[str, ...]
    bias: BiasPolicy
    norm: NormPolicy


class Search(ABC):
    """A search over any module: the weights are frozen at random, scores are trained, and choose the mask.

    A search of its own kind gives the first scores, says how scores become masks (`_select`), and, where the kept
    weights are not simply the random ones, what is done to them (`treatments`).

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        seed: of the random weights and of all that the search draws.
        density: fraction of the prunable weights that the layers are expected to keep, by which `scaled` scales.
        budget: how the density is shared out.
        scaled: multiply the frozen weights of each layer by 1/sqrt(its density).
        options: of the search's own, as plain values for the ticket's provenance.
        weights: distribution of the frozen weights, by name or a `Distribution`.
        include: parameters that are masked besides those of two or more dimensions with "weight" in their name.
        dense: parameters that stay random and whole; they do not count as prunable.
        learned: parameters that are trained as usual and stored in the ticket.
        bias: "none" (zero), "frozen" (random) or "learned".
        norm: "affine_off", "frozen", "learned" or "none" (bypassed).

    Attributes:
        model: the module given; call it as usual.
        network: the random network and the roles of its parameters.
        options: the choices as plain values.
        steps: optimizer steps so far.

    Raises:
        SupermaskError: an option is out of range, a name matches nothing, or nothing is left to prune.

    """

    name: ClassVar[str]

    def __init__(
        self,
        model: nn.Module,
        *,
        seed: int,
        density: float = 1.0,
        budget: Budget | None = None,
        scaled: bool = False,
        options: Mapping[str, Any],
        weights: str | Distribution = "signed_constant",
        include: tuple[str, ...] = (),
        dense: tuple[str, ...] = (),
        learned: tuple[str, ...] = (),
        bias: BiasPolicy = "none",
        norm: NormPolicy = "affine_off",
    ) -> None:
        self.model = model
        self.steps = 0
        policy = Policy(include, dense, learned, bias, norm)
        self.network = RandomNetwork(
            model,
            seed=seed,
            distribution=named(weights),
            policy=policy,
            budget=budget or Budget(PerLayer()),
            density=density,
            scaled=scaled,
        )
        self.options: dict[str, Any] = {**options, **asdict(policy)}
        first = {name: self._first_scores(slot).to(slot.parameter) for name, slot in self.network.masked.items()}
        # before anything is attached: a refusal leaves no half-made search behind
        self._layers = {name: self._layer(slot) for name, slot in self.network.masked.items()}
        self._select(first)
        for name, slot in self.network.masked.items():
            _attach(self._layers[name], slot, first[name])

    def __repr__(self) -> str:
        prunable = sum(score.numel() for score in self.scores().values())
        return f"{type(self).__name__}({prunable:,} weights in {len(self._layers)} layers, {self._about()})"

    @classmethod
    def takes(cls) -> frozenset[str]:
        """Return the names of the keywords that the search takes."""
        taken: set[str] = set()
        for parameter in inspect.signature(cls).parameters.values():
            spread = parameter.kind is inspect.Parameter.VAR_KEYWORD  # **choices: Unpack[Choices]
            taken |= set(get_args(parameter.annotation)[0].__annotations__) if spread else {parameter.name}
        return frozenset(taken - {"model"})

    @property
    def seed(self) -> int:
        """The seed of the random weights and of all that the search draws."""
        return self.network.seed

    @property
    def complete(self) -> bool:
        """Whether the search has come to the density that was asked for."""
        return True

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what an optimizer trains: the scores, then the parameters that are learned as usual."""
        yield from self.scores().values()
        yield from (slot.parameter for slot in self.network.learned.values())

    def scores(self) -> dict[str, nn.Parameter]:
        """Return the scores by parameter name: each has the shape, dtype and device of its weight."""
        return {name: slot.parameter for name, slot in self.network.masked.items()}

    def ranking(self) -> Mapping[str, Tensor] | None:
        """Return what ranks each kept weight of a layer above the pruned ones, if there is such a thing."""
        return self.scores()

    def frozen_weights(self) -> dict[str, Tensor]:
        """Return copies of the unpruned random weights by parameter name."""
        return {name: layer.frozen.clone() for name, layer in self._layers.items()}

    def masks(self) -> dict[str, Tensor]:
        """Return copies of the masks by parameter name: bool tensors, True = kept.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for.

        """
        self._check()
        return {name: layer.mask.clone() for name, layer in self._layers.items()}

    def treatments(self) -> dict[str, Treatment]:
        """Return what is done to the kept random weights by parameter name; nothing where they stay as they are."""
        return {}

    def presets(self) -> dict[str, Preset]:
        """Return by parameter name what of its mask the seed fixes; nothing where all is searched for."""
        return {}

    def step(self) -> None:
        """Advance the search and choose the masks anew; call it once after each `optimizer.step()`.

        On a GPU this waits for nothing where it can be helped; what is wrong there is raised by the next call of
        `masks`, `ticket` or `state_dict`.

        Raises:
            SupermaskError: a score is NaN, or a layer is emptied that must not be.

        """
        self.steps += 1
        self._select(self.scores())

    def baked(self) -> nn.Module:
        """Return a copy of the model with the present masked weights as plain parameters, pruned ones +0.

        It takes no gradients, shares nothing with the search, and gives the same outputs as the search's model in
        evaluation mode, bit for bit.
        """
        return baked(self.model)

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks, statistics and learned tensors.

        Args:
            **provenance: plain values to keep with it, e.g. model="lenet_300_100", data="mnist", metrics={...}.

        """
        made = {"algorithm": self.name, "options": self.options, "steps": self.steps, "versions": versions()}
        return self.network.ticket(
            self.masks(), {**made, **provenance}, treatments=self.treatments(), presets=self.presets()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a search needs to go on, but the optimizer.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for.

        """
        self._check()
        return {"steps": self.steps, "digest": self.network.digest, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` returned for a search with the same arguments.

        Raises:
            SupermaskError: the state is of a search over other random weights.

        """
        if state["digest"] != self.network.digest:
            raise SupermaskError(
                "The state is of a search over other random weights; make this one with the same seed, weights, density"
                " and scope."
            )
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])

    @abstractmethod
    def _first_scores(self, slot: Slot) -> Tensor:
        """Return the scores to start from, of the parameter's shape."""

    @abstractmethod
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        """Let every layer take the mask that the present scores choose."""

    def _layer(self, slot: Slot) -> Masked:
        """Return the layer of a parameter that still holds its random weight."""
        return Masked(slot.parameter.detach().clone(), signed=True)

    def _check(self) -> None:  # noqa: B027  most searches have nothing to wait for
        """Raise what a selection on a GPU could not wait for."""

    def _about(self) -> str:
        return f"{self.steps:,} steps"


def drawn(slot: Slot, distribution: Distribution, seed: int, fans: Fans | None = None) -> Tensor:
    """Return first scores of a parameter from (seed, name), independent of its weights; float32 on the CPU."""
    return RandomWeight(slot.shape, distribution, fans or slot.fans).grow(seed, slot.name, "scores")


def refuse_nan(scores: Mapping[str, Tensor]) -> None:
    """Raise SupermaskError if a score is NaN, by which nothing can be ranked or compared."""
    for name, score in scores.items():
        if bool(score.isnan().any()):
            raise SupermaskError(f"A score of {name} is NaN; the training diverged: lower the learning rate.")


@torch.no_grad()
def _attach(layer: Masked, slot: Slot, first: Tensor) -> None:
    """Let a parameter that held a random weight hold its scores, and its modules read the masked weight."""
    slot.parameter.copy_(first)
    attach(slot.places, layer)
