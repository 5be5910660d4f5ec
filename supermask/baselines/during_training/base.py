"""Methods that change the mask while the network is trained: one training, with the steps of the recipe."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes


@dataclass(frozen=True)
class CutDetails:
    """What a method adds to a result whose own rule leaves the density open.

    Attributes:
        found: fraction of the prunable weights that the method would have kept by itself, before the density that was
            asked for was cut out.

    """

    found: float | None

    @property
    def cost(self) -> float:
        """Optimizer steps as a multiple of one whole dense training: the one training has them all."""
        return 1.0


@dataclass(frozen=True)
class DuringTraining(Method):
    """A method that trains one network, which prunes itself as it is trained.

    What it adds is that network: a `Sparse` with a `step` or a `before_step` of its own.
    """

    @abstractmethod
    def network(self, context: RunContext) -> Sparse:
        """Return the network at its initialisation, with the masks that it starts from."""

    def run(self, context: RunContext) -> MethodResult:
        """Train the network."""
        network = self.network(context)
        return MethodResult(network, context.train(network))


def shapes_of(context: RunContext) -> Shapes:
    """Return the shapes of the prunable weights by parameter name, in the model's order."""
    return {name: tuple(mask.shape) for name, mask in context.whole.masks.items()}


def interval_of(context: RunContext, interval: int) -> int:
    """Return an interval in optimizer steps, where 0 stands for an epoch."""
    return interval or context.recipe.steps_per_epoch(len(context.data.train))


def check_at_least(least: int, method: str, **options: int) -> None:
    """Refuse a smaller option.

    Raises:
        SupermaskError: there is one.

    """
    for name, value in options.items():
        if value < least:
            raise SupermaskError(f"{method}: {name}={value} is too small; it must be at least {least}.")


def check_fractions(method: str, **options: float) -> None:
    """Refuse an option that is not in [0, 1].

    Raises:
        SupermaskError: there is one.

    """
    for name, value in options.items():
        if not 0.0 <= value <= 1.0:
            raise SupermaskError(f"{method}: {name}={value} is out of range; it is a fraction, from 0 to 1.")


def check_scope(method: str, scope: str, known: Collection[str]) -> None:
    """Refuse a scope that a method does not have.

    Raises:
        SupermaskError: it is not known.

    """
    if scope not in known:
        raise SupermaskError(f"{method}: unknown scope {scope!r}; known are {', '.join(known)}.")
