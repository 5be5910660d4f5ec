"""The dense baseline: the same architecture, trained as usual."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.parameters.parameters import survey
from supermask.random.distributions import Distribution, named
from supermask.random.weights import RandomWeight


class Dense:
    """A model with initial weights drawn from a seed, all of which are trained.

    Args:
        model: freshly built; its weights are drawn anew, in place. Biases start at 0, normalisation layers at weight 1
            and bias 0, other parameters as the model has them.
        seed: of the initial weights, by the same generator as a ticket's.
        weights: their distribution, by name or a `Distribution`.

    """

    name: ClassVar[str] = "dense"
    capturable: ClassVar[bool] = True

    @torch.no_grad()
    def __init__(self, model: nn.Module, *, seed: int = 0, weights: str | Distribution = "kaiming_normal") -> None:
        self.model = model
        distribution = named(weights)
        for name, slot in survey(model).items():
            if slot.kind == "weight":
                weight = RandomWeight(slot.shape, distribution, slot.fans)
                slot.parameter.copy_(weight.grow(seed, name, device=slot.parameter.device))
            elif slot.kind == "bias":
                slot.parameter.zero_()
            elif slot.kind == "norm":
                slot.parameter.fill_(0.0 if slot.places[0].leaf == "bias" else 1.0)

    @property
    def count(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the model's parameters."""
        return self.model.parameters()

    def step(self) -> None:
        """Nothing follows an optimizer step."""

    def replayed(self) -> None:
        """Do nothing: steps are not counted."""

    def state_dict(self) -> dict[str, Any]:
        """Return the model's tensors."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.model.load_state_dict(state["model"])


@dataclass(frozen=True)
class DenseTraining(Method):
    """The dense network, trained as usual."""

    name: ClassVar[str] = Dense.name
    by_density: ClassVar[bool] = False

    def run(self, context: RunContext) -> MethodResult:
        """Train the dense network."""
        network = Dense(context.build(), seed=context.seed, weights=context.weights)
        return MethodResult(network, context.train(network))
