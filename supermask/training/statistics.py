"""Running statistics of batch norm, estimated anew under the weights that are evaluated or stored."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

BATCHES = 100
"""Training batches that an estimate takes; the standard error of a mean is then below 1 % at a batch of 128."""


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every normalisation layer by their averages over some training batches.

    A running average lags behind a mask that changes at every step. Only the normalisation layers run in training
    mode, so that dropout and the like do not disturb the estimate. Layers without statistics are left alone, and
    nothing is run when there are none.

    Args:
        model: any module; its training or evaluation mode is the same afterwards.
        batches: inputs of the model, each of two or more examples.

    """
    layers = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    if not layers:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = [layer.momentum for layer in layers]
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's way to ask for the plain average
            layer.train()
        for batch in batches:
            model(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
