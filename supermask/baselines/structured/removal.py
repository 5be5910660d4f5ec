"""Taking channels out of a network for good: smaller layers that compute what the masked network does."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from supermask.baselines.structured.flow import NONE


@dataclass(frozen=True)
class Removable:
    """A layer whose channels can be removed.

    Attributes:
        channels: their number.
        readers: by name of a layer with weights that reads them, or of a batch norm on the way: the channel that each
            of its features comes from, int64 (features,), or `NONE`.

    """

    channels: int
    readers: Mapping[str, Tensor]


@dataclass(frozen=True)
class Cut:
    """What is left of one layer: bool (outputs,) and bool (inputs,), which of a batch norm are the same."""

    rows: Tensor
    columns: Tensor

    def of(self, parameter: Tensor) -> Tensor:
        """Return which entries of one of the layer's parameters are left, bool."""
        left = self.rows if parameter.ndim == 1 else self.rows[:, None] & self.columns
        return left.reshape(*left.shape, *[1] * (parameter.ndim - left.ndim)).expand(parameter.shape)


def cuts_of(model: nn.Module, layers: Mapping[str, Removable], kept: Mapping[str, Tensor]) -> dict[str, Cut]:
    """Return what is left of every layer that the removal of some channels touches.

    Args:
        model: the whole network.
        layers: those whose channels can be removed.
        kept: by name of some of them, bool (channels,), True = kept.

    """
    touched = {reader for name in kept for reader in layers[name].readers} | set(kept)
    cuts = {name: _whole(model.get_submodule(name)) for name in touched}
    for name, channels in kept.items():
        cuts[name].rows.copy_(channels)
        for reader, origin in layers[name].readers.items():
            cuts[reader].columns.logical_and_((origin == NONE) | channels.cpu()[origin.clamp(min=0)])
    return cuts


@torch.no_grad()
def apply_cuts(model: nn.Module, cuts: Mapping[str, Cut]) -> nn.Module:
    """Make the layers of a model smaller, in place, and return it."""
    for name, cut in cuts.items():
        module = model.get_submodule(name)
        rows, columns = (side.nonzero().squeeze(1) for side in (cut.rows, cut.columns))
        if isinstance(module, _BatchNorm):
            _take(module, ("weight", "bias", "running_mean", "running_var"), columns)
            module.num_features = len(columns)
            continue
        _take(module, ("weight", "bias"), rows)
        if isinstance(module, _ConvNd) and module.groups > 1:  # depthwise: its inputs are its rows
            module.out_channels = module.in_channels = module.groups = len(rows)
            continue
        _take(module, ("weight",), columns, dimension=1)
        if isinstance(module, _ConvNd):
            module.out_channels, module.in_channels = len(rows), len(columns)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = len(rows), len(columns)
    return model


@torch.no_grad()
def silence(model: nn.Module, layers: Mapping[str, Removable], kept: Mapping[str, Tensor]) -> nn.Module:
    """Set to zero the channels of a model that are not kept, in place, and return it.

    Their weights and biases become 0, and so do the weight, the bias and the mean of batch norm behind them.
    """
    for name, channels in kept.items():
        _zero(model.get_submodule(name), ("weight", "bias"), ~channels)
        for reader, origin in layers[name].readers.items():
            module = model.get_submodule(reader)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                gone = (origin != NONE) & ~channels.cpu()[origin.clamp(min=0)]
                _zero(module, ("weight", "bias", "running_mean"), gone)
    return model


def _whole(module: nn.Module) -> Cut:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        channels = torch.ones(module.num_features, dtype=torch.bool)
        return Cut(channels, channels)  # one tensor: what changes one changes the other
    outputs, inputs = module.get_parameter("weight").shape[:2]
    return Cut(torch.ones(outputs, dtype=torch.bool), torch.ones(inputs, dtype=torch.bool))


def _take(module: nn.Module, leaves: tuple[str, ...], chosen: Tensor, dimension: int = 0) -> None:
    for leaf in leaves:
        tensor = getattr(module, leaf)
        if tensor is not None:
            taken = tensor.index_select(dimension, chosen.to(tensor.device))
            setattr(module, leaf, nn.Parameter(taken, tensor.requires_grad) if leaf in module._parameters else taken)


def _zero(module: nn.Module, leaves: tuple[str, ...], gone: Tensor) -> None:
    for leaf in leaves:
        tensor = getattr(module, leaf)
        if tensor is not None:
            tensor[gone.to(tensor.device)] = 0.0
