"""Optimal brain damage: rounds that prune by what a weight's removal adds to the loss, to second order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supermask.baselines.curvature import curvatures
from supermask.baselines.method import RunContext
from supermask.baselines.rounds.engine import Again, GlobalRounds, Tensors, TrainedNetwork
from supermask.baselines.rounds.retraining import slowed
from supermask.errors import SupermaskError
from supermask.ticket import Ticket


@dataclass(frozen=True)
class OptimalBrainDamage(GlobalRounds):
    """Optimal brain damage: prune what the loss rises least without, to second order (LeCun, Denker & Solla 1990).

    Section 2: at a minimum, and if weights are removed one by one, weight k adds h_kk w_k^2 / 2 to the loss, with h_kk
    from the diagonal of the Hessian. The smallest saliencies of the whole network are pruned, and the rest is trained
    on from where it is, again and again (section 4). The diagonal is that of the Gauss-Newton matrix
    (`supermask.baselines.curvature`), which is exact for networks of ReLU without normalisation by the batch.

    The paper chooses by hand how much each round prunes. It computes the diagonal over the training set; here it is
    that of some of its examples.

    Attributes:
        rate: fraction of the weights left that a round removes.
        slower: the learning rate of retraining over the recipe's, constant, as that of `Han`; the paper has none.
        examples: training examples that the diagonal is a mean over; all of them, where there are fewer.

    """

    name: ClassVar[str] = "optimal_brain_damage"

    rate: float = 0.5
    slower: float = 0.1
    examples: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 1 or self.slower <= 0.0:
            raise SupermaskError(
                f"{self.name}: examples={self.examples}, slower={self.slower} do not fit: give 1 example or more, and a"
                " positive fraction of the learning rate."
            )

    def saliencies(self, context: RunContext, state: Tensors, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the saliencies, h_kk w_k^2 / 2."""
        network = context.sparse(masks)
        network.load_weights(state)
        batch = context.sample.up_to(self.examples)
        curved = curvatures(network, batch, context.sample.objective)
        return {name: 0.5 * curved[name] * weight.square() for name, weight in network.weights().items()}

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from where the weights are, at a small constant learning rate."""
        return Again(ticket, final, slowed(context.recipe, self.slower))
