"""Dynamic sparse training: now and then a layer drops some of its weights and grows as many others."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from supermask.baselines.at_initialisation import RandomERK, RandomUniform
from supermask.baselines.method import RunContext
from supermask.baselines.sparse import Sparse
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.random.keyed import keyed_permutation
from supermask.ticket import Ticket


class Rewired(Sparse, ABC):
    """A sparse network whose layers are rewired at some of its steps, each keeping its number of weights.

    What it adds is which of the weights stay and which are grown. Grown are weights that did not stay, so a weight can
    be dropped and grown in one go: it has then never left, and keeps its value and its state in the optimizer. All
    others that are grown start at zero, with their state in the optimizer (momentum, Adam's moments) at zero. A layer
    that is kept whole is therefore left as it was. So does the code of Evci et al. 2020 (github.com/google-research/
    rigl, `reinit_when_same=False`) for both RigL and SET.

    A rewiring takes the place of an optimizer step, of all parameters: the gradients of the batch choose, if anything,
    the weights that grow, and are not followed.

    Args:
        model: freshly built, of the ticket's architecture; becomes the ticket's network, in place.
        ticket: where it starts and what is pruned at first.
        rewirings: the optimizer steps, counted from 0, whose place a rewiring takes.

    """

    def __init__(self, model: nn.Module, ticket: Ticket, rewirings: range) -> None:
        super().__init__(model, ticket)
        self._rewirings = rewirings

    @abstractmethod
    def staying(self, weight: Tensor, mask: Tensor) -> Tensor:
        """Return which weights of a layer stay, a bool tensor: some of those that the mask keeps."""

    @abstractmethod
    def growing(self, name: str, candidates: Tensor, count: int) -> Tensor:
        """Return which `count` of a layer's candidates are grown, a bool tensor."""

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Rewire all layers, where it is time to."""
        if self.steps not in self._rewirings:
            return
        before = self.masks()
        after = {name: self._rewired(name, slot.parameter, before[name]) for name, slot in self.prunable.items()}
        self.set_masks(after)
        for name, slot in self.prunable.items():
            _forget(optimizer, slot.parameter, after[name] & ~before[name])
        for parameter in self.parameters():
            parameter.grad = None  # the optimizer then leaves it alone

    def _rewired(self, name: str, weight: Tensor, mask: Tensor) -> Tensor:
        stay = self.staying(weight, mask)
        return stay | self.growing(name, ~stay, int(mask.sum()) - int(stay.sum()))


def largest(scores: Tensor, count: int, among: Tensor) -> Tensor:
    """Return the mask of the `count` largest scores of one layer among some; ties go to the lowest index."""
    return prune({"": scores}, [Pool(("",), count)], {"": among})[""]


def _forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, grown: Tensor) -> None:
    """Set the optimizer's state of grown weights to zero."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:  # Adam's count of steps is the layer's
            value.masked_fill_(grown, 0.0)


def randomly_pruned(context: RunContext, scope: str) -> Ticket:
    """Return the network at its initialisation, with masks drawn at random by the run's seed.

    Args:
        context: names the network and the density.
        scope: how the layers share it: "erk" or "layer".

    """
    method = RandomERK() if scope == "erk" else RandomUniform()  # the mask that static sparse training starts from
    masks, _ = method.choose(context.sparse(), context.sample, context.density)
    return replace(context.whole, masks={name: mask.cpu() for name, mask in masks.items()})


def drawn(candidates: Tensor, count: int, seed: int, *purpose: str | int) -> Tensor:
    """Return the mask of `count` candidates drawn at random by (seed, purpose), the same on every device."""
    places = candidates.reshape(-1).nonzero().squeeze(1)
    order = torch.from_numpy(keyed_permutation(len(places), seed, *purpose)[:count])
    mask = torch.zeros(candidates.numel(), dtype=torch.bool, device=candidates.device)
    mask[places[order.to(places.device)]] = True
    return mask.view(candidates.shape)
