"""Gradual magnitude pruning: the density falls along a cubic while the network is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from supermask.baselines.during_training.base import DuringTraining, check_at_least, check_fractions, check_scope
from supermask.baselines.method import RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Global, PerLayer, Scope
from supermask.masking.pruning import prune
from supermask.masking.schedule import CubicRamp
from supermask.ticket import Ticket


class GraduallySparse(Sparse):
    """A network that is pruned by magnitude again and again; what was pruned does not come back.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: the whole network.
        density: fraction of the prunable weights that is kept in the end.
        scope: what competes for the kept weights.
        begin: optimizer steps before the density begins to fall.
        end: optimizer steps after which it is reached.
        interval: optimizer steps from one pruning to the next; the last interval may be shorter.

    """

    name: ClassVar[str] = "gradual"

    def __init__(
        self, model: nn.Module, ticket: Ticket, *, density: float, scope: Scope, begin: int, end: int, interval: int
    ) -> None:
        super().__init__(model, ticket)
        self._density, self._scope, self._begin, self._end = density, scope, begin, end
        self._ramp = CubicRamp(max(1, end - begin))
        self._prunings = {*range(begin + interval, end, interval), end}
        self.complete = False

    def step(self) -> None:
        """Prune where it is time to, and set the pruned weights to zero."""
        super().step()
        if self.steps in self._prunings:
            self._prune(self._ramp.density(self.steps - self._begin, self._density))
        self.complete = self.steps >= self._end

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        super().load_state_dict(state)
        self.complete = self.steps >= self._end

    def _prune(self, density: float) -> None:
        shapes = {name: slot.shape for name, slot in self.prunable.items()}
        magnitudes = {name: weight.abs() for name, weight in self.weights().items()}
        self.set_masks(prune(magnitudes, self._scope.pools(shapes, density), self.masks()))


@dataclass(frozen=True)
class Gradual(DuringTraining):
    """Gradual magnitude pruning (Zhu & Gupta 2018): the sparsity is s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3.

    That is equation 1, with s_i = 0 and in terms of sparsity, 1 - density. After t optimizer steps, for t = t0 + dt,
    t0 + 2 dt, ..., the weights that are smallest by magnitude are pruned, in each layer by itself as published. The
    paper finds an interval dt from 100 to 1000 steps to make little difference, and gives no fixed t0 and end. Those
    here are near the ones for CIFAR-10 in the code of Evci et al. 2020, who compare with this method: steps 20,000 to
    75,000 of 97,656. As far as we know, a pruned weight keeps its value in the authors' code and may come back; here it
    does not.

    Attributes:
        scope: each layer has the density by itself, or the weights of the whole network compete.
        interval: dt, in optimizer steps.
        begin: t0, as a fraction of the run's optimizer steps.
        end: when the density is reached, as a fraction of the run's optimizer steps.

    """

    name: ClassVar[str] = GraduallySparse.name
    scope: Literal["layer", "global"] = "layer"
    interval: int = 100
    begin: float = 0.2
    end: float = 0.75

    def __post_init__(self) -> None:
        check_at_least(1, self.name, interval=self.interval)
        check_fractions(self.name, begin=self.begin, end=self.end)
        if self.begin >= self.end:
            raise SupermaskError(f"{self.name}: begin={self.begin} must be smaller than end={self.end}.")
        check_scope(self.name, self.scope, ("layer", "global"))

    def network(self, context: RunContext) -> GraduallySparse:
        """Return the whole network."""
        return GraduallySparse(
            context.build(),
            context.whole,
            density=context.density,
            scope=Global(floor=0) if self.scope == "global" else PerLayer(),
            begin=round(self.begin * context.steps),
            end=round(self.end * context.steps),
            interval=self.interval,
        )
