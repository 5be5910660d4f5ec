"""Sparse evolutionary training: the weights next to zero make room for others, drawn at random."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from supermask.baselines.during_training.base import (
    DuringTraining,
    check_at_least,
    check_fractions,
    check_scope,
    interval_of,
)
from supermask.baselines.during_training.dynamic import Rewired, drawn, largest, randomly_pruned
from supermask.baselines.method import RunContext
from supermask.ticket import Ticket


class Evolving(Rewired):
    """A network that drops the weights next to zero and grows others at random.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: where it starts, what is pruned at first, and the seed of what is drawn.
        rewirings: the optimizer steps, counted from 0, whose place a rewiring takes.
        zeta: fraction that is dropped of a layer's positive weights, and of its negative ones.

    """

    name: ClassVar[str] = "set"

    def __init__(self, model: nn.Module, ticket: Ticket, rewirings: range, zeta: float) -> None:
        super().__init__(model, ticket, rewirings)
        self._zeta, self._seed = zeta, ticket.seed

    def staying(self, weight: Tensor, mask: Tensor) -> Tensor:
        """Return the weights that are farthest from zero on either side."""
        return self._farthest(weight, mask & (weight > 0)) | self._farthest(weight, mask & (weight < 0))

    def growing(self, name: str, candidates: Tensor, count: int) -> Tensor:
        """Return candidates drawn at random."""
        return drawn(candidates, count, self._seed, "rewiring", self.steps, name)

    def _farthest(self, weight: Tensor, side: Tensor) -> Tensor:
        there = int(side.sum())
        return largest(weight.abs(), there - int(self._zeta * there), side)


@dataclass(frozen=True)
class SET(DuringTraining):
    """Sparse evolutionary training (SET, Mocanu et al. 2018): drop next to zero, grow at random, after each epoch.

    Each layer drops the fraction zeta of its positive weights that are smallest and the fraction zeta of its negative
    weights that are largest. That is not the fraction zeta of smallest magnitude unless both signs are distributed
    alike: where the positive weights are smaller as a rule, magnitude would drop more of them. What is exactly zero has
    no sign and is dropped too, as in the authors' code. As many weights are then grown at random, where none stayed.

    New weights start at zero, as in the authors' Keras code and in that of Evci et al. 2020. There is no rewiring after
    the last epoch, which would test a network with a third of its weights new; the paper's algorithm, as far as we
    know it, drops weights there and grows none. The authors rewire between two epochs; here a rewiring takes the place
    of the first step of an epoch, as in RigL, so that a step is lost and an evaluation sees what was trained. Their
    first topology is an Erdos-Renyi graph, whose number of weights is random too; here it is exact.

    Attributes:
        scope: how the density is shared: by the layers' shapes (Erdos-Renyi-Kernel, which for fully connected layers
            are the shares of the paper), or the same in each.
        zeta: fraction that is dropped.
        interval: optimizer steps from one rewiring to the next; 0 is an epoch.

    """

    name: ClassVar[str] = Evolving.name
    scope: Literal["erk", "layer"] = "erk"
    zeta: float = 0.3
    interval: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, self.name, interval=self.interval)
        check_scope(self.name, self.scope, ("erk", "layer"))
        check_fractions(self.name, zeta=self.zeta)

    def network(self, context: RunContext) -> Evolving:
        """Return a network with a random mask."""
        ticket = randomly_pruned(context, self.scope)
        interval = interval_of(context, self.interval)
        return Evolving(context.build(), ticket, range(interval, context.steps, interval), self.zeta)
