"""A pruned architecture trained from scratch: whether the weights that pruning found matter at all."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from supermask.baselines.method import RunContext
from supermask.baselines.rounds.engine import Again, Rounds, Tensors, TrainedNetwork
from supermask.masking.ladder import Ladder
from supermask.ticket import Ticket
from supermask.training import Recipe


@dataclass(frozen=True)
class ScratchE(Rounds):
    """The pruned architecture trained from other random weights, for as many steps (Liu et al. 2019, "Scratch-E").

    The dense network is trained and pruned in one round over all layers; then weights are drawn again.

    Attributes:
        ranking: one over the whole network ("global", as theirs for unstructured pruning), or by "layer".

    """

    name: ClassVar[str] = "scratch_e"

    ranking: Literal["layer", "global"] = "global"

    @property
    def ladder(self) -> Ladder:
        """How many weights the one round leaves."""
        return Ladder(whole=self.ranking == "global")

    @property
    def one_shot(self) -> bool:
        """All is pruned in one round."""
        return True

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from weights of another seed."""
        return Again(context.drawn_again(ticket), recipe=self.budget(context, ticket))

    def budget(self, context: RunContext, ticket: Ticket) -> Recipe:
        """Return the recipe: the same number of steps."""
        return context.recipe


@dataclass(frozen=True)
class ScratchB(ScratchE):
    """The same for as much computation as the dense network took, at most twice the steps.

    Liu et al. 2019, "Scratch-B". Computation is counted by the weights that are left.
    """

    name: ClassVar[str] = "scratch_b"

    def budget(self, context: RunContext, ticket: Ticket) -> Recipe:
        """Return the recipe with more steps."""
        return replace(context.recipe, iterations=round(context.steps * min(2.0, 1.0 / ticket.density)))
