"""What all methods that prune before any training have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor, nn

from supermask.baselines.at_initialisation.examples import ExampleSource, Given
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.masking.budget import Global, Scope, checked_density
from supermask.masking.pruning import prune
from supermask.random.distributions import Distribution
from supermask.ticket import Ticket


@dataclass(frozen=True)
class AtInitialisation(Method):
    """A method that prunes once, before any training.

    What it adds is its `scores`; those that prune step by step have a `choose` of their own.
    """

    scope: ClassVar[Scope] = Global(floor=0)  # a layer may be emptied: that is what the collapse of a layer is

    @abstractmethod
    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return a score for each prunable weight, by parameter name; the largest are kept.

        Args:
            network: at its initialisation, whole; left as it was.
            sample: gives training examples.

        """

    def choose(
        self, network: Sparse, sample: ExampleSource, density: float
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks of this density and the scores that they were chosen by.

        Args:
            network: at its initialisation, whole; left as it was.
            sample: gives training examples.
            density: fraction of the prunable weights that is kept, in [0, 1].

        """
        scores = self.scores(network, sample)
        return self.masks(scores, density), scores

    def masks(self, scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
        """Return the masks of the largest scores."""
        shapes = {name: tuple(score.shape) for name, score in scores.items()}
        return prune(scores, self.scope.pools(shapes, density))

    def run(self, context: RunContext) -> MethodResult:
        """Prune the network at its initialisation, and train it."""
        masks, scores = self.choose(context.sparse(), context.sample, context.density)
        network = context.sparse(masks)
        return MethodResult(network, context.train(network), scores)

    def ticket(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        examples: tuple[Tensor, Tensor] | None = None,
        weights: str | Distribution = "kaiming_normal",
        include: tuple[str, ...] = (),
        dense: tuple[str, ...] = (),
    ) -> Ticket:
        """Return the ticket that this method finds for a model of your own; `Ticket.apply` makes its network.

        Args:
            model: any module that maps images to logits; left as it was; the weights are drawn again.
            density: fraction of the prunable weights that is kept, in [0, 1].
            seed: of the weights, and of random masks.
            examples: images, as the model takes them, and labels, int64 (count,), on the model's device. All of them
                are looked at, whatever number the method would draw from a data set. SynFlow looks at the shape of
                an image only, and magnitude and random masks need none.
            weights: distribution of the initial weights, by name or a `Distribution`.
            include: parameters that can be pruned besides the weights of two or more dimensions.
            dense: weights that are never pruned; they do not count as prunable.

        Raises:
            SupermaskError: the density is out of range, or examples are needed and were not given.

        """
        checked_density(density)
        own = deepcopy(model)
        network = Sparse(own, whole_ticket(own, seed=seed, weights=weights, include=include, dense=dense))
        masks, _ = self.choose(network, Given(seed, examples), density)
        network.set_masks(masks)
        return network.ticket(algorithm=self.name, options=asdict(self), trained=False)
