"""The two networks of a heuristic supermask: as it is, and trained with what is pruned held where it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.sparse import Sparse
from supermask.ticket import Ticket
from supermask.versions import versions


class Untrained(Sparse):
    """A ticket's network without training: only the statistics of batch norm are estimated.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: the network.

    """

    name: ClassVar[str] = "heuristic"

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the network as it is now, with its statistics.

        Args:
            **provenance: plain values to keep with it.

        """
        made = super().ticket(**{"trained": False, **provenance})
        state = self.model.state_dict()
        return replace(made, learned={name: state[name].detach().cpu().clone() for name in made.learned})


class PartlyFrozen(Sparse):
    """A ticket's network whose chosen weights are trained while the others stay where they are.

    The others are zero or frozen at a value; each `step` puts them back there, whatever momentum or weight decay did.
    Where the chosen weights are those that the ticket keeps, it is trained as a `Sparse` is. Its masks are of the
    weights that may differ from zero after the training; its ticket is the network before it, in which chosen weights
    may be zero. Biases and normalisation layers are trained.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: where it starts.
        chosen: masks of the weights that are trained, by parameter name.

    """

    name: ClassVar[str] = "heuristic_trained"

    @torch.no_grad()
    def __init__(self, model: nn.Module, ticket: Ticket, chosen: Mapping[str, Tensor]) -> None:
        super().__init__(model, ticket)
        self._chosen = {name: chosen[name].to(weight.device) for name, weight in self.weights().items()}
        self._frozen = {name: weight * ~self._chosen[name] for name, weight in self.weights().items()}
        for name, mask in self._masks().items():
            mask |= self._chosen[name]

    @property
    def count(self) -> int:
        """Number of trained parameters: the chosen weights and all that cannot be pruned."""
        every = sum(parameter.numel() for parameter in self.model.parameters())
        return every - self._start.prunable + sum(int(mask.sum()) for mask in self._chosen.values())

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the network as it was before any training.

        Args:
            **provenance: plain values to keep with it.

        """
        made = {"algorithm": self.name, "versions": versions(), "trained": True}
        return replace(self._start, provenance={**made, **provenance})

    @torch.no_grad()
    def _silence(self) -> None:
        super()._silence()  # to +0, to which a frozen value adds without rounding
        for name, slot in self.prunable.items():
            if self._frozen[name].device != slot.parameter.device:
                self._frozen[name] = self._frozen[name].to(slot.parameter.device)
            slot.parameter.add_(self._frozen[name])

    def _factor(self, name: str, weight: Tensor) -> Tensor:
        """Return the chosen weights as 1, and the others as 0, in the weight's dtype and on its device."""
        factor = self._factors.get(name)
        if factor is None or factor.device != weight.device:
            factor = self._factors[name] = self._chosen[name].to(weight.device, weight.dtype)
        return factor
