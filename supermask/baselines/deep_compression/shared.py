"""The network whose kept weights share a few values per layer, which are trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.ticket import Ticket

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 10_000  # far more than Lloyd's iterations take; sums that round could go in circles


def kmeans(values: Reals, count: int) -> tuple[Reals, Integers]:
    """Return the centroids that Lloyd's iterations end with, and the index of each value's centroid.

    Centroids begin evenly from the least to the largest value: of the three ways of Han, Mao & Dally 2016, section 3.2,
    it served best, because it keeps the few large weights apart. A value goes to its nearest centroid, the lower one of
    two; a cluster without values stays where it is until it gets some, and is left out in the end. (scikit-learn moves
    it to the value farthest from any centroid instead, which would fill all `count`.)

    Args:
        values: float64 (n,), finite.
        count: the most clusters, at least 1.

    Returns:
        Centroids float64 (clusters,), rising, each the mean of its values; indices int64 (n,).

    Raises:
        SupermaskError: a value is not finite.

    """
    if not np.isfinite(values).all():
        raise SupermaskError("A weight that is to share its value is not finite; lower the learning rate.")
    if not len(values):
        return np.empty(0), np.empty(0, np.int64)
    centroids = np.linspace(values.min(), values.max(), count)
    for _ in range(_ROUNDS):
        nearest = np.searchsorted(centroids[:-1] + 0.5 * np.diff(centroids), values)
        counts, sums = np.bincount(nearest, minlength=count), np.bincount(nearest, values, count)
        before, centroids = centroids, np.where(counts > 0, sums / np.maximum(counts, 1), centroids)
        if np.array_equal(before, centroids):
            break
    used, indices = np.unique(nearest, return_inverse=True)
    return centroids[used], indices


@dataclass(frozen=True)
class Sharing:
    """The weights of one layer: which are kept, and which value each of those has.

    Attributes:
        centroids: the values that are shared, in the dtype of the weight: (clusters,).
        indices: of the kept weights' centroids in row-major order: int64 (kept,).
        places: flat indices of the kept weights in row-major order: int64 (kept,).

    """

    centroids: Tensor
    indices: Tensor
    places: Tensor

    @cached_property
    def counts(self) -> Tensor:
        """Number of weights of each centroid, int64 (clusters,)."""
        return torch.bincount(self.indices, minlength=len(self.centroids))

    @classmethod
    def of(cls, weight: Tensor, mask: Tensor, clusters: int) -> "Sharing":
        """Return the clusters that k-means finds among the kept weights of one layer.

        Args:
            weight: of one layer.
            mask: its kept weights, bool of its shape.
            clusters: the most centroids that it may have; those without a weight are left out.

        Raises:
            SupermaskError: a kept weight is not finite.

        """
        values = weight.detach()[mask].cpu().double().numpy()
        centroids, indices = kmeans(values, clusters)
        shared = torch.from_numpy(centroids).to(weight.dtype).to(weight.device)
        return cls(shared, torch.from_numpy(indices).to(weight.device), mask.reshape(-1).nonzero().reshape(-1))

    def gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradients of the centroids (clusters,): sums of those of their weights (section 3.3, equation 3).

        Args:
            gradient: of the layer's weight.

        """
        sums = torch.zeros_like(self.centroids)
        return sums.index_add_(0, self.indices, gradient.reshape(-1)[self.places])


class Shared(Sparse):
    """A pruned network whose kept weights share their values within each layer, and are trained together.

    Parameters stay plain. Before each optimizer step the gradients of a layer's weights are summed over each cluster,
    the optimizer moves the centroids, and the weights are set to them again; biases and normalisation layers are
    trained as usual. Weight decay is that of the weights, so that what it adds is summed too.

    Han, Mao & Dally 2016, section 3.

    Args:
        model: freshly built, of the ticket's architecture, on the device to compute on; becomes the network, in place.
        ticket: whose masks say what is pruned.
        trained: the state dictionary of the pruned network, trained.
        clusters: the most values that each layer may have, by parameter name.

    Raises:
        SupermaskError: a kept weight is not finite.

    """

    name: ClassVar[str] = "deep_compression"

    def __init__(
        self, model: nn.Module, ticket: Ticket, trained: Mapping[str, Tensor], clusters: Mapping[str, int]
    ) -> None:
        super().__init__(model, ticket)
        self.load_weights(trained)
        masks = self.masks()
        self._found = {name: Sharing.of(weight, masks[name], clusters[name]) for name, weight in self.weights().items()}
        self._centroids = {name: nn.Parameter(found.centroids) for name, found in self._found.items()}
        self._share()

    @property
    def sharing(self) -> dict[str, Sharing]:
        """How each layer's weights share their values now, by parameter name; the centroids are copies."""
        centroids = {name: parameter.detach().clone() for name, parameter in self._centroids.items()}
        return {name: replace(found, centroids=centroids[name]) for name, found in self._found.items()}

    def parameters(self) -> Iterable[nn.Parameter]:
        """Yield what an optimizer trains: the centroids, and all that cannot be pruned."""
        shared = {id(slot.parameter) for slot in self.prunable.values()}
        yield from self._centroids.values()
        yield from (parameter for parameter in super().parameters() if id(parameter) not in shared)

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Sum the gradients of the weights over their clusters, and what weight decay adds to them."""
        decay = optimizer.param_groups[0].get("weight_decay", 0.0)
        for name, slot in self.prunable.items():
            found, centroids, gradient = self._found[name], self._centroids[name], slot.parameter.grad
            slot.parameter.grad = None  # the optimizer does not know the weights, and would not clear it
            if gradient is not None:
                # once more the optimizer adds by itself
                centroids.grad = found.gradient(gradient).add_(centroids * (found.counts - 1), alpha=decay)

    def step(self) -> None:
        """Set the weights to their centroids; call it once after each `optimizer.step()`."""
        super().step()
        self._share()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        return {**super().state_dict(), "centroids": {name: c.detach() for name, c in self._centroids.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned for a network that was made with the same arguments."""
        super().load_state_dict(state)
        for name, centroids in state["centroids"].items():
            self._centroids[name].copy_(centroids)
        self._share()

    @torch.no_grad()
    def _share(self) -> None:
        """Set each kept weight to its centroid."""
        masks = self._masks()
        for name, slot in self.prunable.items():
            values = self._centroids[name][self._found[name].indices]
            slot.parameter.masked_scatter_(masks[name], values)
