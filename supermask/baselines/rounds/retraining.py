"""Rounds after which the weights stay and are trained on."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from supermask.baselines.method import RunContext
from supermask.baselines.rounds.engine import Again, GlobalRounds, Rounds, Tensors, TrainedNetwork
from supermask.masking.ladder import Ladder
from supermask.ticket import Ticket
from supermask.training import Recipe


@dataclass(frozen=True)
class LearningRateRewind(GlobalRounds):
    """Iterative magnitude pruning in which weights stay, and the learning rate goes back.

    Renda, Frankle & Carbin 2020, section 3.

    Attributes:
        rate: fraction of the weights left that a round removes.
        rewind_to: optimizer step of the schedule; the authors recommend 0, to repeat all of it.

    """

    name: ClassVar[str] = "learning_rate_rewind"

    rewind_to: int = 0

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from where the weights are, with the recipe from that step on."""
        return Again(ticket, final, start=self.rewind_to)


@dataclass(frozen=True)
class FineTune(GlobalRounds):
    """Iterative magnitude pruning in which weights stay and are fine-tuned at one small learning rate.

    Renda et al. 2020, section 3, take the last learning rate of the training. A cosine ends at zero, so it is given
    here as a fraction of the recipe's.

    Attributes:
        rate: fraction of the weights left that a round removes.
        slower: the learning rate of fine-tuning over the recipe's; 0.01 is where two drops to a tenth end.

    """

    name: ClassVar[str] = "fine_tune"

    slower: float = 0.01

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from where the weights are, at a small constant learning rate."""
        return Again(ticket, final, slowed(context.recipe, self.slower))


@dataclass(frozen=True)
class Han(Rounds):
    """Prune what is below a multiple of its layer's standard deviation, and retrain the rest from where it is.

    Han, Pool, Tran & Dally 2015, section 3: the threshold of a layer is a quality parameter times the standard
    deviation of its weights, one parameter for all layers. Here it is the one that leaves the density asked for, so
    that all weights are ranked by |w| / std(layer). LeNet is retrained at a tenth of the learning rate (section 4.1);
    a dropout fraction D becomes D sqrt(density) (section 3.2, eq. 2, for layers of equal density).

    Attributes:
        rate: fraction of the weights left that a round removes; the paper's are not stated.
        slower: the learning rate of retraining over the recipe's.
        threshold: "deviation", or "layer" for the same fraction of each layer.

    """

    name: ClassVar[str] = "han"

    rate: float = 0.5
    slower: float = 0.1
    threshold: Literal["deviation", "layer"] = "deviation"

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        return Ladder(self.rate, whole=self.threshold == "deviation")

    def scores(self, weights: Tensors) -> dict[str, Tensor]:
        """Return the magnitudes, in standard deviations of the weights of their layer that are not zero."""
        if self.threshold == "layer":
            return super().scores(weights)
        return {name: weight.abs() / _deviation(weight) for name, weight in weights.items()}

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from where the weights are, at a smaller learning rate and with less dropout."""
        recipe = slowed(context.recipe, self.slower)
        return Again(ticket, final, replace(recipe, dropout=recipe.dropout * math.sqrt(ticket.density)))


def slowed(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe at a fraction of its peak learning rate, constant from the first step on."""
    return replace(recipe, learning_rate=recipe.peak * factor, decay="constant", warm_up=0)


def _deviation(weight: Tensor) -> Tensor:
    """Return the standard deviation of the weights that are not zero; 1 where there is no other."""
    left = weight[weight != 0]
    deviation = left.std(correction=0) if left.numel() else weight.new_ones(())
    return deviation if deviation > 0 else weight.new_ones(())
