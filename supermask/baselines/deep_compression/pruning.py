"""The first stage of Deep Compression: rounds of pruning and retraining, of a length that is asked for."""

from dataclasses import dataclass, replace

from supermask.baselines.deep_compression.published import PublishedLadder
from supermask.baselines.method import Work
from supermask.baselines.rounds import Han
from supermask.baselines.rounds.engine import Again, Tensors, Trained
from supermask.masking.ladder import Ladder
from supermask.ticket import Ticket


@dataclass(frozen=True)
class Pruning(Han):
    """The rounds of `Han`, shorter or longer.

    Attributes:
        rate: fraction of the weights left that a round removes.
        slower: the learning rate of retraining over the recipe's.
        threshold: as of `Han`.
        published: whether the layers keep the published fractions, each by magnitude.
        retraining: optimizer steps of each retraining over the recipe's.

    """

    published: bool = False
    retraining: float = 1.0

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        return PublishedLadder(self.rate) if self.published else super().ladder

    def steps(self, work: Work) -> int:
        """Return the optimizer steps of each retraining."""
        return round(self.retraining * work.steps)

    def again(self, work: Work, ticket: Ticket, dense: Trained, final: Tensors) -> Again:
        """Start from where the weights are, at a smaller learning rate and with less dropout."""
        again = super().again(work, ticket, dense, final)
        assert again.recipe is not None
        return replace(again, recipe=replace(again.recipe, iterations=self.steps(work)))
