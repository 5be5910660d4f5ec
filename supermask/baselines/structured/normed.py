"""Which convolution feeds which batch norm, and nothing else."""

import torch
from torch import Tensor, nn

from supermask.baselines.structured.flow import flows_of
from supermask.baselines.structured.sites import sharers, sites_of
from supermask.errors import SupermaskError

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def scaled_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return the batch-norm layers that have a scale for each channel, by name.

    Raises:
        SupermaskError: there is none.

    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None
    }
    if not found:
        raise SupermaskError(
            "The network has no batch norm with scales, by which channels are chosen; choose one that has, such as"
            " resnet20, or another method."
        )
    return found


def feeders(model: nn.Module, example: Tensor) -> dict[str, tuple[str, Tensor]]:
    """Return, by name of a batch norm, the layer that feeds it and where in it each of that layer's channels arrives.

    Only layers count that nothing but this batch norm reads, each channel to one channel and nothing added: a channel
    that the batch norm makes zero is then of no use in the layer either.

    Args:
        model: left as it was.
        example: an input of the model.

    """
    sites = sites_of(model)
    flows = flows_of(model, sites, example, through_norms=False)
    found: dict[str, tuple[str, Tensor]] = {}
    for name, readers in flows.origins.items():
        reader = next(iter(readers), None)
        if reader is None or len(readers) > 1 or sites[reader].kind != "norm":
            continue
        shared = sharers(model, sites[name]) or sharers(model, sites[reader])
        if not shared and torch.equal(readers[reader].sort().values, torch.arange(sites[name].outputs)):
            found[reader] = (name, readers[reader].argsort())
    return found
