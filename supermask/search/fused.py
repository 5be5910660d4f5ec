"""SGD that knows of the search: the gradients of scores, a step and the count for the selection in one pass."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from supermask.masking.kernels.top_k import Sgd, Trained
from supermask.search.state import SearchState


class FusedSGD(torch.optim.SGD):
    """SGD over the scores of a search and what it trains besides, with the numbers of `torch.optim.SGD`.

    `Search.fused_sgd` makes it. On the CPU a step of it and of the search read and write each score once, where
    autograd, SGD and the selection would each do so; sums round in another order in their last bit. Elsewhere it does
    the same in torch's operations.

    While it lives, `grad` of a score is the gradient of the loss by the masked weight, not by the score: what is
    clipped or scaled is that. `release` ends it, and so does the end of its own life.

    Args:
        scores: by parameter name.
        learned: what else is trained.
        state: of the search.
        rate: the learning rate.
        momentum: of SGD.
        weight_decay: what of a parameter is added to its gradient.
        nesterov: whether steps look ahead along the momentum.

    """

    def __init__(
        self,
        scores: Mapping[str, nn.Parameter],
        learned: list[nn.Parameter],
        state: SearchState,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None:
        self._scores, self._state = dict(scores), state
        super().__init__(
            [*scores.values(), *learned], lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )
        handover = state.hand_over()
        # not a method of the optimizer, which would keep it alive
        self.release: Callable[[], Any] = weakref.finalize(self, handover.end)
        self._handover = handover

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; the scores are selected by the search's own `step`, as always."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        numbers = Sgd(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])
        trained = []
        for name, score in self._scores.items():
            if score.grad is not None:
                layer = self._state.layers[name]
                trained.append(Trained(score, score.grad, layer.frozen, self._velocity(score), layer.signed))
        self._state.descend(trained, numbers)
        for group in self.param_groups:
            self._learn(group)
        self._handover.stepped()
        return loss

    def _learn(self, group: Mapping[str, Any]) -> None:
        """Take a step on those of a group that are not scores."""
        scores = {id(score) for score in self._scores.values()}
        trained = [each for each in group["params"] if each.grad is not None and id(each) not in scores]
        if trained:
            names = ("lr", "momentum", "weight_decay", "dampening", "nesterov", "maximize")
            numbers = {name: group[name] for name in names}
            sgd(trained, [each.grad for each in trained], [*map(self._velocity, trained)], **numbers)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
