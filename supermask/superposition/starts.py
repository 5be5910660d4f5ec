"""The scores that the search for a new task's mask starts from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supermask.random.distributions import Distribution
from supermask.random.stream import philox
from supermask.random.weights import RandomWeight
from supermask.search.edge_popup import SCORES
from supermask.ticket import Ticket


class Start(ABC):
    """How the first scores of a task are made; they are positive or negative, and ranked by magnitude or sign alike."""

    @abstractmethod
    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores by parameter name, float32 on the CPU.

        Args:
            weights: the random weights that have scores, by parameter name.
            learned: the tickets of the tasks so far; the new one comes after them.
            seed: of the random network.

        """


@dataclass(frozen=True)
class Fresh(Start):
    """Drawn for each task anew, from (seed, task, parameter name) (Wortsman et al. 2020, section 3.2).

    Attributes:
        distribution: of the scores; the default is that of edge-popup.

    """

    distribution: Distribution = SCORES

    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores."""
        own = int(philox(seed, "scores of task", len(learned)).random_raw()) >> 1  # a seed has 63 bits
        return {
            name: RandomWeight(weight.shape, self.distribution, weight.fans).grow(own, name, "scores")
            for name, weight in weights.items()
        }


@dataclass(frozen=True)
class RunningMean(Start):
    """The mean of all masks so far, "transfer" (Wortsman et al. 2020, section 3.2); fresh scores for the first task.

    Weights that equally many tasks keep are told apart by fresh scores: a score of 0 would have no gradient, and ties
    would fall to the first weights of the tensor. Scaled to the root mean square of fresh scores, so that a learning
    rate means the same for every task.

    Attributes:
        fresh: of the fresh scores.

    """

    fresh: Fresh = Fresh()

    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores."""
        fresh = self.fresh.scores(weights, learned, seed)
        if not learned:
            return fresh
        return {name: _mean([ticket.masks[name] for ticket in learned], fresh[name]) for name in weights}


def _mean(masks: Sequence[Tensor], fresh: Tensor) -> Tensor:
    if not fresh.numel():
        return fresh
    kept = torch.stack(list(masks)).sum(0).to(torch.float32)
    size = fresh.abs()
    ranked = kept + (size + size.mean()) / (4.0 * size.max())  # adds less than one task would
    return ranked * (fresh.square().mean() / ranked.square().mean()).sqrt()
