"""The network that every weak lottery ticket is trained as: what is pruned stays zero, all else is trained."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.parameters.parameters import Slot, survey
from supermask.parameters.roles import Policy
from supermask.random.distributions import Distribution, named
from supermask.ticket import Ticket
from supermask.ticket.random_network import RandomNetwork
from supermask.versions import versions


def whole_ticket(
    model: nn.Module,
    *,
    seed: int,
    weights: str | Distribution = "kaiming_normal",
    include: tuple[str, ...] = (),
    dense: tuple[str, ...] = (),
) -> Ticket:
    """Return the ticket of a dense network at its initialisation: every weight is kept.

    Args:
        model: freshly built; its weights are drawn anew, in place. Biases start at 0, normalisation layers at weight 1
            and bias 0, other parameters as the model has them.
        seed: of the weights.
        weights: their distribution, by name or a `Distribution`.
        include: parameters that can be pruned besides the weights of two or more dimensions.
        dense: weights that are never pruned; they do not count as prunable.

    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    network = RandomNetwork(
        model,
        seed=seed,
        distribution=named(weights),
        policy=Policy(include, dense),
    )
    for parameter in trained:
        parameter.requires_grad_(True)
    masks = {name: torch.ones(shape, dtype=torch.bool, device="cpu") for name, shape in network.shapes.items()}
    return network.ticket(masks, {"versions": versions()})


class Sparse:
    """A ticket's network, of which the kept weights, the biases and the normalisation layers are trained.

    Parameters stay plain. Each `step` sets pruned weights to +0 again, so that they are zero in every forward pass, in
    every file and in every copy, whatever momentum or weight decay did to them; their gradients are those that they
    would have if they were let in, which methods that grow weights look at.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: where it starts and what is pruned.

    Attributes:
        model: the module given; call it as usual.
        steps: optimizer steps so far.
        complete: whether the masks are those to end with.

    """

    name: ClassVar[str] = "sparse"
    complete: bool = True

    def __init__(self, model: nn.Module, ticket: Ticket) -> None:
        self.model = ticket.apply(model)
        self.steps = 0
        self._start = ticket
        self._factors: dict[str, Tensor] = {}
        slots = survey(model)
        self.prunable: dict[str, Slot] = {name: slots[name] for name in ticket.masks}
        for name, slot in self.prunable.items():
            mask = ticket.masks[name].to(slot.parameter.device, copy=True)
            # a buffer: it moves with the model, and several processes are checked to hold the same
            slot.places[0].module.register_buffer(_buffer(slot), mask, persistent=False)

    @property
    def count(self) -> int:
        """Number of trained parameters: the kept weights and all that cannot be pruned."""
        every = sum(parameter.numel() for parameter in self.model.parameters())
        return every - self._start.prunable + sum(int(mask.sum()) for mask in self._masks().values())

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that an optimizer trains."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def weights(self) -> dict[str, Tensor]:
        """Return the prunable weights by name, detached; they share memory with the model."""
        return {name: slot.parameter.detach() for name, slot in self.prunable.items()}

    def masks(self) -> dict[str, Tensor]:
        """Return copies of the masks by parameter name: bool tensors, True = kept."""
        return {name: mask.clone() for name, mask in self._masks().items()}

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Take other masks, all of them, and set to zero what they prune."""
        for name, mask in self._masks().items():
            mask.copy_(masks[name])
        self._factors.clear()
        self._silence()

    def step(self) -> None:
        """Set the pruned weights to zero; call it once after each `optimizer.step()`."""
        self.steps += 1
        self._silence()

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the tensors of a model's state dictionary, and set to zero what is pruned here."""
        self.model.load_state_dict(dict(tensors))
        self._silence()

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks: the network as it was before any training.

        Args:
            **provenance: plain values to keep with it.

        """
        masks = {name: mask.cpu() for name, mask in self.masks().items()}
        made = {"algorithm": self.name, "versions": versions(), "trained": True}
        return replace(self._start, masks=masks, provenance={**made, **provenance})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        return {"steps": self.steps, "masks": self.masks(), "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])
        self.set_masks(state["masks"])

    def _masks(self) -> dict[str, Tensor]:
        return {name: slot.places[0].module.get_buffer(_buffer(slot)) for name, slot in self.prunable.items()}

    @torch.no_grad()
    def _silence(self) -> None:
        for name, slot in self.prunable.items():
            # a product of floats takes a twentieth of the time of a choice by bools; + 0 makes -0 to +0
            slot.parameter.mul_(self._factor(name, slot.parameter)).add_(0.0)

    def _factor(self, name: str, weight: Tensor) -> Tensor:
        """Return the mask as 0 and 1 in the weight's dtype and on its device."""
        factor = self._factors.get(name)
        if factor is None or factor.device != weight.device:
            factor = self._factors[name] = self._masks()[name].to(weight.dtype)
        return factor


def _buffer(slot: Slot) -> str:
    return f"{slot.places[0].leaf}_kept"
