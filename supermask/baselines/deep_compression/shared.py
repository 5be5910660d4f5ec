"""The network whose kept weights share a few values per layer, which are trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.deep_compression.clustering import kmeans, linear_centroids
from supermask.baselines.sparse import Sparse
from supermask.ticket import Ticket


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
        """Return what k-means of the kept weights comes to, begun with `clusters` centroids evenly on [min, max].

        Args:
            weight: of one layer.
            mask: its kept weights, bool of its shape.
            clusters: the most centroids that it may have; those without a weight are left out.

        Raises:
            SupermaskError: a kept weight is not finite.

        """
        values = weight.detach()[mask].cpu().double().numpy()
        centroids, indices = kmeans(values, linear_centroids(values, clusters))
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
        """Take up what `state_dict` returned for a network that was made with the same arguments."""
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
