"""One linear layer, and the gradients of its scores and of its masked weight."""

import torch
from torch import nn

INPUTS = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))


def linear():
    return nn.Linear(12, 8, bias=False)


def gradients(search):
    """Return dL/dscore of a loss, and dL/dweight of the same loss with the masked weight as a parameter."""
    weight = search.model.weight.detach().clone().requires_grad_(True)
    search.model.zero_grad()
    search.model(INPUTS).square().sum().backward()
    (INPUTS @ weight.T).square().sum().backward()
    (score,) = search.scores().values()
    return score.grad, weight.grad


def gain(search):
    """Return what the kept weights of the layer are multiplied by, as its ticket has it."""
    return next((treatment.gain for treatment in search.treatments().values()), 1.0)


def only(mapping):
    (value,) = mapping.values()
    return value
