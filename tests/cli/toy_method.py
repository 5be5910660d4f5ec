"""A method of a test: a class like this one and a line in the registry are all that a new method needs."""

from dataclasses import dataclass
from typing import ClassVar

from supermask import SupermaskError
from supermask.baselines.method import Method, MethodResult
from supermask.masking.budget import PerLayer
from supermask.masking.pruning import prune


@dataclass(frozen=True)
class Toy(Method):
    """Train, prune by magnitude,
    train what is left.

    It is not a method of the literature.

    Attributes:
        rounds: trainings before it prunes.
        smallest: keep the smallest weights.
        scale: of nothing.

    """

    name: ClassVar[str] = "toy_rounds"
    refused: ClassVar[set[float]] = set()
    rounds: int = 1
    smallest: bool = False
    scale: tuple[float, ...] = (1.0,)

    def run(self, context):
        if context.density in self.refused:
            raise SupermaskError(f"The toy refuses density {context.density:g}; give another one.")
        network = context.sparse()
        for number in range(self.rounds):
            context.train(network, stage=f"round{number}")
        weights = {name: weight.abs() for name, weight in network.weights().items()}
        scores = {name: -weight if self.smallest else weight for name, weight in weights.items()}
        pools = PerLayer().pools({name: tuple(score.shape) for name, score in scores.items()}, context.density)
        pruned = context.sparse(prune(scores, pools))
        return MethodResult(pruned, context.train(pruned), scores)
