"""ADMM pruning: the weights are drawn towards the nearest sparse ones, and then made sparse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.during_training.base import (
    DuringTraining,
    check_at_least,
    check_fractions,
    interval_of,
    shapes_of,
)
from supermask.baselines.method import RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import PerLayer, Pool
from supermask.masking.pruning import prune
from supermask.ticket import Ticket


class Constrained(Sparse):
    """A network that is whole until it is pruned, with a penalty on what is to be pruned.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: the whole network.
        pools: how many weights are kept in the end.
        rho: of the penalty.
        updates: the optimizer steps, counted from 0, before which Z and U change; the first begins the penalty, and at
            its stop the network is pruned.

    """

    name: ClassVar[str] = "admm"

    def __init__(self, model: nn.Module, ticket: Ticket, *, pools: Sequence[Pool], rho: float, updates: range) -> None:
        super().__init__(model, ticket)
        self._pools, self._rho, self._updates = pools, rho, updates
        self._z: dict[str, Tensor] = {}
        self._u: dict[str, Tensor] = {}
        self.complete = False

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change Z and U where it is time to, and add the gradient of the penalty, rho (W - Z + U)."""
        if not self._updates.start <= self.steps < self._updates.stop:
            return
        if self.steps in self._updates:
            self._update()
        for name, slot in self.prunable.items():
            if slot.parameter.grad is not None:
                slot.parameter.grad.add_(slot.parameter - self._z[name] + self._u[name], alpha=self._rho)

    def step(self) -> None:
        """Prune where it is time to, and set the pruned weights to zero."""
        super().step()
        if self.steps == self._updates.stop:
            self.set_masks(self._nearest(self.weights()))
            self.complete = True

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        return {**super().state_dict(), "z": dict(self._z), "u": dict(self._u)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        super().load_state_dict(state)
        self._z, self._u = (
            {name: tensor.to(self.prunable[name].parameter.device) for name, tensor in state[key].items()}
            for key in ("z", "u")
        )
        self.complete = self.steps >= self._updates.stop

    def _update(self) -> None:
        """Set Z to the sparse weights next to W + U, and add what is left to U, which begins at zero."""
        weights = self.weights()
        sums = {name: weight + self._u[name] for name, weight in weights.items()} if self._u else weights
        kept = self._nearest(sums)
        self._z = {name: torch.where(kept[name], sums[name], 0.0) for name in sums}
        if self._u:
            self._u = {name: sums[name] - self._z[name] for name in sums}
        else:
            self._u = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def _nearest(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of the sparse tensors next to these: of the largest magnitudes."""
        return prune({name: tensor.abs() for name, tensor in tensors.items()}, self._pools)


@dataclass(frozen=True)
class ADMM(DuringTraining):
    """Pruning by the alternating direction method of multipliers (Zhang et al. 2018).

    To minimise the loss L(W) with at most n_l weights in layer l, three steps alternate: some optimizer steps on
    L(W) + rho/2 ||W - Z + U||^2; Z becomes W + U with all but the n_l largest magnitudes of each layer set to zero; U
    grows by W - Z. When the penalty begins, Z is made of W, and U is zero. At the end of that phase all but the n_l
    largest magnitudes of W itself are pruned, and the rest is trained on without a penalty.

    The paper starts from a trained network and sets n_l layer by layer by hand; here one run is shared by the three
    phases, and all layers have the same density. The optimizer is the recipe's; the paper's is Adam. We have not read
    the paper's value of rho: ours is that of a public reimplementation for a LeNet on MNIST (github.com/bzantium/
    pytorch-admm-pruning), others begin at 1e-3.

    Attributes:
        rho: of the penalty.
        interval: optimizer steps between two changes of Z and U; 0 is an epoch.
        warm: fraction of the run's optimizer steps that train the dense network before the penalty begins.
        penalised: fraction of them that have the penalty; what is left trains the pruned network.

    """

    name: ClassVar[str] = Constrained.name
    rho: float = 0.01
    interval: int = 0
    warm: float = 1 / 3
    penalised: float = 1 / 3

    def __post_init__(self) -> None:
        check_at_least(0, self.name, interval=self.interval)
        check_fractions(self.name, warm=self.warm, penalised=self.penalised)
        check_fractions(self.name, **{"warm + penalised": self.warm + self.penalised})
        if not self.rho >= 0.0:  # NaN is not
            raise SupermaskError(f"{self.name}: rho={self.rho} is negative; give a positive weight of the penalty.")

    def network(self, context: RunContext) -> Constrained:
        """Return the whole network."""
        warm, end = round(self.warm * context.steps), round((self.warm + self.penalised) * context.steps)
        updates = range(warm, end, interval_of(context, self.interval))
        pools = PerLayer().pools(shapes_of(context), context.density)
        return Constrained(context.build(), context.whole, pools=pools, rho=self.rho, updates=updates)
