"""Structured sparsity learning: a group lasso draws whole filters and channels to zero while the network is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.channel_pruning.filter_pruning import FilterPruning, Narrow
from supermask.baselines.dense import Dense
from supermask.baselines.method import RunContext
from supermask.errors import SupermaskError
from supermask.random.distributions import Distribution


def group_lasso(weight: Tensor) -> Tensor:
    """Return the sum of the L2 norms of a weight's filters and of its input channels, Wen et al. 2016, equation 2."""
    return weight.flatten(1).norm(dim=1).sum() + weight.transpose(0, 1).flatten(1).norm(dim=1).sum()


@torch.no_grad()
def group_lasso_slope(weight: Tensor) -> Tensor:
    """Return the derivative of `group_lasso`, in which a group of zeros has the slope 0."""
    filters = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
    channels = weight.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.ndim - 2))
    return sum((torch.where(norms > 0, weight / norms, 0.0) for norms in (filters, channels)), torch.zeros_like(weight))


class Grouped(Dense):
    """The dense network with a group lasso on some of its layers.

    Args:
        model: freshly built; its weights are drawn anew, in place.
        layers: names of the layers.
        strength: of the group lasso in the loss.
        seed: of the initial weights.
        weights: their distribution.

    """

    name: ClassVar[str] = "structured_sparsity"

    def __init__(
        self, model: nn.Module, *, layers: Sequence[str], strength: float, seed: int, weights: str | Distribution
    ) -> None:
        super().__init__(model, seed=seed, weights=weights)
        self._grouped = [model.get_submodule(name).get_parameter("weight") for name in layers]
        self._strength = strength

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradient of the group lasso."""
        for weight in self._grouped:
            if weight.grad is not None:
                weight.grad.add_(group_lasso_slope(weight), alpha=self._strength)


class NarrowAfterLasso(Narrow):
    """What is left of a network that was trained with a group lasso."""

    name: ClassVar[str] = Grouped.name


@dataclass(frozen=True)
class StructuredSparsity(FilterPruning):
    """Structured sparsity learning: filters and channels by a group lasso (Wen, Wu, Wang, Chen & Li 2016, section 3.2).

    While the dense network is trained, its loss has lambda times the L2 norms of all filters and of all input channels
    of the layers that can be made smaller (equations 1 and 2, with one lambda for both). Then the filters with the
    smallest L2 norms are removed, and what is left is retrained without it; density, layers and retraining are those
    of `FilterPruning`.

    The paper's other structures, shapes of filters and depth, are not here. It lets the lasso alone decide how many
    filters go, and its lambdas are not printed; here the density says how many.

    Attributes:
        retrain: steps of the retraining, over those of the recipe.
        rate: its learning rate, which is constant, over the recipe's peak rate.
        strength: lambda.

    """

    name: ClassVar[str] = Grouped.name
    kind: ClassVar[type[Narrow]] = NarrowAfterLasso
    order: ClassVar[int] = 2

    strength: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.strength <= 1e3:
            raise SupermaskError(f"{self.name}: strength={self.strength} is out of range; give lambda, from 0 to 1000.")

    def dense(self, context: RunContext, layers: Sequence[str]) -> Dense:
        """Return the dense network with the group lasso."""
        return Grouped(
            context.build(), layers=layers, strength=self.strength, seed=context.seed, weights=context.weights
        )
