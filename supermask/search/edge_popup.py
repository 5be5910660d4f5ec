"""Edge-popup: find a mask by training scores over frozen random weights.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari, "What's hidden in a randomly weighted neural network?", CVPR 2020.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from supermask.distributions import Distribution, KaimingUniform, named
from supermask.errors import SupermaskError
from supermask.masking.anatomy import Slot
from supermask.masking.budget import Budget, Pool, Scope, checked_density, named_scope
from supermask.masking.competition import Competition
from supermask.masking.parametrization import Masked, attach, baked
from supermask.masking.roles import BiasPolicy, NormPolicy, Policy
from supermask.masking.schedule import Constant, Schedule
from supermask.random_network import RandomNetwork
from supermask.random_weights import RandomWeight
from supermask.ticket import Ticket
from supermask.versions import describe, versions

Score = Literal["magnitude", "signed"]
# |score| is then uniform on [0, 1/sqrt(fan_in)], as the authors' code has it
SCORES = KaimingUniform(gain=3.0**-0.5)


class EdgePopup:
    """Edge-popup over any module: the weights are frozen at random, the scores that rank them are trained.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept, in [0, 1].
        seed: of the random weights and of the first scores.
        scope: what competes for the kept weights: "layer", "global", "erk" or a `Scope`.
        weights: distribution of the frozen weights, by name or a `Distribution`.
        scaled: multiply the frozen weights by 1/sqrt(density) (of their layer, where layers differ), so that the pruned
            network keeps the variance of the distribution. Ramanujan et al. 2020, section 4.2 ("scaled").
        score: rank by "magnitude", as in the paper, or by the "signed" score.
        scores: distribution of the first scores; each is drawn from (seed, name), apart from the weights.
        schedule: density over the optimizer steps.
        own_density: parameter name or pattern to a density of its own; `density` then holds for the other layers.
        include: parameters that are masked besides those of two or more dimensions with "weight" in their name.
        dense: parameters that stay random and whole; they do not count as prunable.
        learned: parameters that are trained as usual and stored in the ticket.
        bias: "none" (zero, as in the paper), "frozen" (random) or "learned".
        norm: "affine_off" (as in the paper), "frozen" (as the model has it), "learned" or "none" (bypassed).
        packed: keep the frozen weights, which must be signed constants, as one bit each; the same numbers in less
            memory and more time.

    Attributes:
        model: the module given; call it as usual.
        options: the choices above as plain values.
        steps: optimizer steps so far.

    Raises:
        SupermaskError: an option is out of range, a name matches nothing, nothing is left to prune, or a global budget
            empties a layer.

    """

    name: ClassVar[str] = "edge_popup"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        scope: str | Scope = "layer",
        weights: str | Distribution = "signed_constant",
        scaled: bool = True,
        score: Score = "magnitude",
        scores: Distribution = SCORES,
        schedule: Schedule | None = None,
        own_density: Mapping[str, float] | None = None,
        include: tuple[str, ...] = (),
        dense: tuple[str, ...] = (),
        learned: tuple[str, ...] = (),
        bias: BiasPolicy = "none",
        norm: NormPolicy = "affine_off",
        packed: bool = False,
    ) -> None:
        if score not in ("magnitude", "signed"):
            raise SupermaskError(f"score={score!r} is unknown; known are magnitude, signed.")
        self.model = model
        self.density = checked_density(density)
        self.schedule = schedule or Constant()
        self.steps = 0
        policy = Policy(include, dense, learned, bias, norm)
        self.budget = Budget(named_scope(scope), dict(own_density or {}))
        self.network = RandomNetwork(
            model,
            seed=seed,
            distribution=named(weights),
            policy=policy,
            budget=self.budget,
            density=self.density,
            scaled=scaled,
        )
        self.options = {
            "density": self.density,
            "scope": describe(self.budget.scope),
            "scaled": scaled,
            "score": score,
            "scores": scores.describe(),
            "schedule": describe(self.schedule),
            "own_density": dict(self.budget.own),
            **asdict(policy),
        }
        self._made, self._pooled = -1.0, list[Pool]()
        self._competition = Competition(signed=score == "signed")
        first = {name: self._first_scores(name, scores) for name in self.network.masked}
        masks = {name: torch.empty_like(tensor, dtype=torch.bool) for name, tensor in first.items()}
        # before anything is attached: a refusal leaves no half-made search behind
        self._competition.select(self._pools(), first, masks)
        self._layers = {name: self._masked(slot, packed) for name, slot in self.network.masked.items()}
        for name, slot in self.network.masked.items():
            _attach(self._layers[name], slot, first[name], masks[name])

    def __repr__(self) -> str:
        prunable = sum(score.numel() for score in self.scores().values())
        layers, steps = len(self._layers), f"{self.steps:,} steps"
        return f"{type(self).__name__}({prunable:,} weights in {layers} layers, density={self.density:g}, {steps})"

    @property
    def seed(self) -> int:
        """The seed of the random weights and of the first scores."""
        return self.network.seed

    @property
    def complete(self) -> bool:
        """Whether the schedule has come to the density that was asked for."""
        return self.schedule.density(self.steps, self.density) == self.density

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what an optimizer trains: the scores, then the parameters that are learned as usual."""
        yield from self.scores().values()
        yield from (slot.parameter for slot in self.network.learned.values())

    def scores(self) -> dict[str, nn.Parameter]:
        """Return the scores by parameter name: each has the shape, dtype and device of its weight."""
        return {name: slot.parameter for name, slot in self.network.masked.items()}

    def frozen_weights(self) -> dict[str, Tensor]:
        """Return copies of the unpruned random weights by parameter name."""
        return {name: layer.frozen.clone() for name, layer in self._layers.items()}

    def masks(self) -> dict[str, Tensor]:
        """Return copies of the masks by parameter name: bool tensors, True = kept.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for; see there.

        """
        self._competition.check()
        return {name: layer.mask.clone() for name, layer in self._layers.items()}

    def step(self) -> None:
        """Advance the schedule and select the masks anew; call it once after each `optimizer.step()`.

        On a GPU this waits for nothing; what is wrong there is raised by the next call of `masks`, `ticket` or
        `state_dict`.

        Raises:
            SupermaskError: a score is NaN, or a global budget empties a layer.

        """
        self.steps += 1
        masks = {name: layer.mask for name, layer in self._layers.items()}
        followers = {name: layer.weights for name, layer in self._layers.items()}
        weights = {name: pair for name, pair in followers.items() if pair is not None}
        self._competition.select(self._pools(), self.scores(), masks, weights)
        for name in self._layers.keys() - weights.keys():
            self._layers[name].refresh()

    def baked(self) -> nn.Module:
        """Return a copy of the model with the present masked weights as plain parameters, pruned ones +0.

        It takes no gradients, shares nothing with the search, and gives the same outputs bit for bit.
        """
        return baked(self.model)

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks, statistics and learned tensors.

        Args:
            **provenance: plain values to keep with it, e.g. model="lenet_300_100", data="mnist", metrics={...}.

        """
        made = {"algorithm": self.name, "options": self.options, "steps": self.steps, "versions": versions()}
        return self.network.ticket(self.masks(), {**made, **provenance})

    def state_dict(self) -> dict[str, Any]:
        """Return all that a search needs to go on, but the optimizer.

        Raises:
            SupermaskError: what a `step` on a GPU would have had to wait for; see there.

        """
        self._competition.check()
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

    def _first_scores(self, name: str, distribution: Distribution) -> Tensor:
        slot = self.network.masked[name]
        first = RandomWeight(slot.shape, distribution, slot.fans).grow(self.seed, name, "scores")
        return first.to(slot.parameter.dtype)

    def _pools(self) -> list[Pool]:
        """Return the pools of the present step; they are made anew only when the density changes."""
        density = self.schedule.density(self.steps, self.density)
        if self._made != density:
            self._made, self._pooled = density, self.budget.pools(self.network.shapes, density)
        return self._pooled

    def _masked(self, slot: Slot, packed: bool) -> Masked:
        frozen = slot.parameter.detach().clone()
        return Masked(frozen, signed=self.options["score"] == "signed", packed=slot.name if packed else None)


@torch.no_grad()
def _attach(layer: Masked, slot: Slot, first: Tensor, mask: Tensor) -> None:
    """Let a parameter that held a random weight hold its scores, and its modules read the masked weight."""
    slot.parameter.copy_(first)
    attach(slot.places, layer)
    layer.set_mask(mask)
