"""Edge-popup: find a mask by training scores over frozen random weights.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari, "What's hidden in a randomly weighted neural network?", CVPR 2020.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, Unpack

from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, Pool, Scope, checked_density, named_scope
from supermask.masking.parametrization import Masked
from supermask.masking.schedule import Constant, Schedule
from supermask.masking.selection import Selection
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, Fans, KaimingUniform
from supermask.search.base import Choices, Search, drawn
from supermask.versions import describe

Score = Literal["magnitude", "signed"]
# |score| is then uniform on [0, 1/sqrt(fan_in)], as the authors' code has it
SCORES = KaimingUniform(gain=3.0**-0.5)


class PopupChoices(Choices, total=False):
    """What the searches that go by `EdgePopup` take as keywords besides their own options; it says what they mean."""

    scope: str | Scope
    scaled: bool
    score: Score
    scores: Distribution
    equalised: bool
    schedule: Schedule | None
    own_density: Mapping[str, float] | None


class EdgePopup(Search):
    """Edge-popup over any module: the weights are frozen at random, the scores that rank them are trained.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept, in [0, 1].
        seed: of the random weights and of the first scores.
        scope: what competes for the kept weights: "layer", "global", "erk" or a `Scope`.
        scaled: multiply the frozen weights by 1/sqrt(density) (of their layer, where layers differ), so that the pruned
            network keeps the variance of the distribution. Ramanujan et al. 2020, section 4.2 ("scaled").
        score: rank by "magnitude", as in the paper, or by the "signed" score.
        scores: distribution of the first scores; each is drawn from (seed, name), apart from the weights.
        equalised: draw the first scores of all layers on one scale instead of each on that of its fan-in, so that a
            global scope does not begin with the layers of the largest fan-in empty.
        schedule: density over the optimizer steps.
        own_density: parameter name or pattern to a density of its own; `density` then holds for the other layers.
        packed: keep the frozen weights, which must be signed constants, as one bit each; the same numbers in less
            memory and more time.
        weights: distribution of the frozen weights, by name or a `Distribution`; by default "signed_constant".
        include: parameters that are masked besides those of two or more dimensions with "weight" in their name.
        dense: parameters that stay random and whole; they do not count as prunable.
        learned: parameters that are trained as usual and stored in the ticket.
        bias: "none" (zero, as in the paper), "frozen" (random) or "learned".
        norm: "affine_off" (as in the paper), "frozen" (as the model has it), "learned" or "none" (bypassed).

    Attributes:
        model: the module given; call it as usual.
        density: fraction kept.
        budget: how it is shared out.
        schedule: of the density.
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
        scaled: bool = True,
        score: Score = "magnitude",
        scores: Distribution = SCORES,
        equalised: bool = False,
        schedule: Schedule | None = None,
        own_density: Mapping[str, float] | None = None,
        packed: bool = False,
        **choices: Unpack[Choices],
    ) -> None:
        if score not in ("magnitude", "signed"):
            raise SupermaskError(f"score={score!r} is unknown; known are magnitude, signed.")
        self.density = checked_density(density)
        self.schedule = schedule or Constant()
        self.budget = Budget(named_scope(scope), dict(own_density or {}))
        self._signed, self._packed = score == "signed", packed
        self._scores, self._equalised = scores, equalised
        self._made, self._pooled = -1.0, list[Pool]()
        self._selection = Selection(signed=self._signed)
        options = {
            "density": self.density,
            "scope": describe(self.budget.scope),
            "scaled": scaled,
            "score": score,
            "scores": scores.describe(),
            "schedule": describe(self.schedule),
            "own_density": dict(self.budget.own),
        }
        if equalised:
            options["equalised"] = True
        super().__init__(
            model, seed=seed, density=self.density, budget=self.budget, scaled=scaled, options=options, **choices
        )

    @property
    def complete(self) -> bool:
        """Whether the schedule has come to the density that was asked for."""
        return self.schedule.density(self.steps, self.density) == self.density

    def ranking(self) -> Mapping[str, Tensor] | None:
        """Return what ranks the kept weights of a layer above the pruned ones: scores or their magnitudes."""
        return {name: score if self._signed else score.detach().abs() for name, score in self.scores().items()}

    def _first_scores(self, slot: Slot) -> Tensor:
        return drawn(slot, self._scores, self.seed, _mean_fans(self.network.masked) if self._equalised else None)

    def _layer(self, slot: Slot) -> Masked:
        frozen = slot.parameter.detach().clone()
        return Masked(frozen, signed=self._signed, packed=slot.name if self._packed else None)

    def _select(self, scores: Mapping[str, Tensor]) -> None:
        masks = {name: layer.mask for name, layer in self._layers.items()}
        followers = {name: layer.weights for name, layer in self._layers.items()}
        weights = {name: pair for name, pair in followers.items() if pair is not None}
        self._selection.select(self._pools(), scores, masks, weights)
        for name in self._layers.keys() - weights.keys():
            self._layers[name].refresh()

    def _check(self) -> None:
        self._selection.check()

    def _pools(self) -> list[Pool]:
        """Return the pools of the present step; they are made anew only when the density changes."""
        density = self.schedule.density(self.steps, self.density)
        if self._made != density:
            self._made, self._pooled = density, self.budget.pools(self.network.shapes, density)
        return self._pooled

    def _about(self) -> str:
        return f"density={self.density:g}, {self.steps:,} steps"


def _mean_fans(slots: Mapping[str, Slot]) -> Fans:
    """Return the fans at which scores have the variance that they have on average over the network's weights."""
    counts = [slot.parameter.numel() for slot in slots.values()]
    fans = [slot.fans for slot in slots.values()]

    def mean(which: list[int]) -> int:
        return max(1, round(sum(counts) / sum(count / fan for count, fan in zip(counts, which, strict=True))))

    return Fans(mean([each.fan_in for each in fans]), mean([each.fan_out for each in fans]))
