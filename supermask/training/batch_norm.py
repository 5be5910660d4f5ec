"""Running statistics of batch norm, estimated again under the weights that are evaluated or stored."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from supermask.training.processes import ALONE, Processes

BATCHES = 100
"""Training batches that an estimate takes; the standard error of a mean is then below 1 % at a batch of 128."""


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor], processes: Processes = ALONE) -> None:
    """Replace the running statistics of every normalisation layer by their averages over some training batches.

    A running average lags behind a mask that changes at every step. Only the normalisation layers run in training
    mode, so that dropout and the like do not disturb the estimate. Layers without statistics are left alone, and
    nothing is run when there are none.

    Args:
        model: any module; its training or evaluation mode is the same afterwards.
        batches: inputs of the model, each of two or more examples; of several processes each gives its share.
        processes: all of them end with the average over all batches, the same bits.

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
        if not processes.alone:
            _average(layers, processes)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            # the attribute, because train() would also set all modules below
            module.training = mode


def _average(layers: list[_NormBase], processes: Processes) -> None:
    """Give each layer the average of all processes' statistics, weighted by the batches that each has seen.

    What a batch adds to the average does not depend on the other batches, so that they can be shared out; with all of
    them on every process, the estimate would not get faster with more processes, and on GPUs not be equal to the bit.
    """
    for layer in layers:
        mean, variance, seen = layer.running_mean, layer.running_var, layer.num_batches_tracked
        assert mean is not None
        assert variance is not None
        assert seen is not None
        # in float64, so that weighting and dividing again cost no digits of float32
        own = torch.cat([mean, variance]).double() * seen
        total = processes.gather(torch.cat([own, seen.double()[None]])).sum(0)
        if total[-1] > 0:  # else no batch has come through here
            averages = (total[:-1] / total[-1]).chunk(2)
            mean.copy_(averages[0])
            variance.copy_(averages[1])
            seen.copy_(total[-1])
