"""RigL: weights of small magnitude make room for weights of large gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from supermask.baselines.during_training.base import DuringTraining, check_at_least, check_fractions, check_scope
from supermask.baselines.during_training.dynamic import Rewired, largest, randomly_pruned
from supermask.baselines.method import RunContext
from supermask.ticket import Ticket


class Rigged(Rewired):
    """A network that drops its smallest weights and grows those of the largest gradients.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: where it starts and what is pruned at first.
        rewirings: the optimizer steps, counted from 0, whose place a rewiring takes.
        alpha: fraction of a layer's weights that the first of them drops.

    """

    name: ClassVar[str] = "rigl"

    def __init__(self, model: nn.Module, ticket: Ticket, rewirings: range, alpha: float) -> None:
        super().__init__(model, ticket, rewirings)
        self._alpha = alpha

    @property
    def fraction(self) -> float:
        """The fraction of a layer's weights that a rewiring drops now: alpha / 2 (1 + cos(pi t / T_end))."""
        return self._alpha / 2 * (1 + math.cos(math.pi * self.steps / self._rewirings.stop))

    def staying(self, weight: Tensor, mask: Tensor) -> Tensor:
        """Return the weights that are largest in magnitude; how many are dropped is rounded down."""
        kept = int(mask.sum())
        return largest(weight.abs(), kept - int(self.fraction * kept), mask)

    def growing(self, name: str, candidates: Tensor, count: int) -> Tensor:
        """Return the candidates whose gradients are largest in magnitude."""
        parameter = self.prunable[name].parameter
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        return largest(gradient.abs(), count, candidates)


@dataclass(frozen=True)
class RigL(DuringTraining):
    """RigL (Evci et al. 2020, section 3 and algorithm 1): drop by magnitude, grow by gradient, count for count.

    At step t = 0, dt, 2 dt, ... before T_end each layer drops the fraction alpha / 2 (1 + cos(pi t / T_end)) of its
    weights, those smallest in magnitude, and grows as many of the others, those just dropped among them, whose
    gradients are largest in magnitude. New weights start at zero. In algorithm 1 and in the authors' code this takes
    the place of the gradient step. Their code does not count it as a step, and so looks at a batch more than it takes
    steps; here it counts, so that no method sees more batches than another. Their code also adds noise of 1e-5 to the
    magnitudes, which decides ties; here they go to the lowest index.

    T_end is 75,000 of 97,656 steps in their code for CIFAR-10 and 25,000 of 32,000 in that for ImageNet, whose
    flags have a constant fraction by default where the paper has the cosine. The first mask is drawn at random,
    over the weights of the dense network at its initialisation.

    Attributes:
        scope: how the density is shared: by the layers' shapes (Erdos-Renyi-Kernel), or the same in each.
        interval: dt, in optimizer steps.
        alpha: fraction of a layer's weights that the first rewiring drops.
        end: T_end, as a fraction of the run's optimizer steps.

    """

    name: ClassVar[str] = Rigged.name
    scope: Literal["erk", "layer"] = "erk"
    interval: int = 100
    alpha: float = 0.3
    end: float = 0.75

    def __post_init__(self) -> None:
        check_at_least(1, self.name, interval=self.interval)
        check_scope(self.name, self.scope, ("erk", "layer"))
        check_fractions(self.name, alpha=self.alpha, end=self.end)

    def network(self, context: RunContext) -> Rigged:
        """Return a network with a random mask."""
        ticket = randomly_pruned(context, self.scope)
        return Rigged(context.build(), ticket, range(0, round(self.end * context.steps), self.interval), self.alpha)
