"""Looking into a network without touching it: outputs as a function of its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from supermask.baselines.sparse import Sparse
from supermask.data.batch import Batch
from supermask.training.objective import Objective


def leaves(network: Sparse) -> dict[str, Tensor]:
    """Return the prunable weights, by name, as the variables that `loss` can be differentiated by."""
    return {name: weight.clone().requires_grad_() for name, weight in network.weights().items()}


def loss(
    network: Sparse, weights: Mapping[str, Tensor], batch: Batch, objective: Objective, temperature: float = 1.0
) -> Tensor:
    """Return the mean loss of a batch as a function of the prunable weights.

    Args:
        network: as in `outputs`.
        weights: by name.
        batch: inputs and targets.
        objective: how outputs become a loss.
        temperature: that the logits of a cross entropy are divided by.

    """
    return objective.cost(outputs(network, weights, batch, objective), batch.targets, temperature=temperature)


def outputs(network: Sparse, weights: Mapping[str, Tensor], batch: Batch, objective: Objective) -> Any:
    """Return what the network returns for a batch as a function of the prunable weights.

    Normalisation layers take the statistics of the batch, as at the first step of a training, and their running
    statistics are left alone. All else is in evaluation mode, so that dropout draws nothing.

    Args:
        network: whose other parameters and buffers are taken as they are.
        weights: by name.
        batch: inputs and targets.
        objective: how the network is called.

    """
    model = network.model
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # running statistics change in place

    def forward(*args: Any, **keywords: Any) -> Any:
        return functional_call(model, {**fixed, **buffers, **weights}, args, keywords)

    with evaluating(model, but=_NormBase):
        return objective.call(forward, model, batch)


def gradients(of: Tensor, by: Mapping[str, Tensor], *, again: bool = False) -> dict[str, Tensor]:
    """Return the derivatives by name, 0 where nothing depends on a weight.

    Args:
        of: a scalar.
        by: the variables.
        again: whether the derivatives are to be differentiated themselves.

    """
    found = torch.autograd.grad(of, list(by.values()), create_graph=again, allow_unused=True, materialize_grads=True)
    return dict(zip(by, found, strict=True))


@contextmanager
def evaluating(model: nn.Module, *, but: type[nn.Module] | tuple[()] = ()) -> Iterator[None]:
    """Put a model in evaluation mode for a while, and modules of one kind in training mode."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = isinstance(module, but)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
