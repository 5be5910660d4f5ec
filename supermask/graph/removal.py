"""Taking units out of a network for good: smaller layers, and a trial whether the network is still the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from supermask.data.batch import arguments, mapped
from supermask.graph.channels import ChannelGraph
from supermask.graph.program import evaluating, first_line, tensors_in

TOLERANCE = 1e-4
"""Largest difference of two networks that are one, over the largest output: sums in another order make 1e-6."""


@dataclass(frozen=True)
class Cut:
    """What is left of one layer.

    Attributes:
        rows: of its outputs, bool (outputs,).
        columns: of its inputs, bool (inputs,); one entry for a depthwise convolution, whose inputs go with its outputs.

    """

    rows: Tensor
    columns: Tensor

    def of(self, parameter: Tensor) -> Tensor:
        """Return which entries of one of the layer's parameters are left, bool."""
        left = self.rows if parameter.ndim == 1 else self.rows[:, None] & self.columns
        return left.reshape(*left.shape, *[1] * (parameter.ndim - left.ndim)).expand(parameter.shape)


def cuts_of(graph: ChannelGraph, live: Tensor) -> dict[str, Cut]:
    """Return what is left of every layer that loses something, by name.

    Args:
        graph: of the network.
        live: as of `live_units`: bool over all units, true at those that name a group that is kept.

    """
    cuts = {
        name: Cut(live[graph.groups(f.rows)], torch.ones(1, dtype=torch.bool)) for name, f in graph.followers.items()
    }
    for name, layer in graph.layers.items():
        columns = torch.ones(layer.connected.shape[1], dtype=torch.bool)
        if layer.columns is not None:
            columns = live[graph.groups(layer.columns)]
        cuts[name] = Cut(live[graph.groups(layer.rows)], columns)
    return {name: cut for name, cut in cuts.items() if not (cut.rows.all() and cut.columns.all())}


@torch.no_grad()
def apply_cuts(model: nn.Module, cuts: Mapping[str, Cut]) -> nn.Module:
    """Make the layers of a model smaller, in place, and return it."""
    for name, cut in cuts.items():
        module = model.get_submodule(name)
        rows, columns = (side.nonzero().squeeze(1) for side in (cut.rows, cut.columns))
        if isinstance(module, _BatchNorm):
            _take(module, ("weight", "bias", "running_mean", "running_var"), rows)
            module.num_features = len(rows)
            continue
        _take(module, ("weight", "bias"), rows)
        _take(module, ("weight",), columns, dimension=1)
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = len(rows), len(columns)
        elif isinstance(module, _ConvNd) and module.groups > 1:
            module.out_channels = module.in_channels = module.groups = len(rows)
        elif isinstance(module, _ConvNd):
            module.out_channels, module.in_channels = len(rows), len(columns)
    return model


@torch.no_grad()
def silence(model: nn.Module, cuts: Mapping[str, Cut]) -> nn.Module:
    """Set the units that cuts take away to zero, in place, and return the model.

    The weights and biases of their layers become 0, and so do the weight, the bias and the mean of batch norm.
    """
    for name, cut in cuts.items():
        module = model.get_submodule(name)
        for leaf in ("weight", "bias", "running_mean"):
            tensor = getattr(module, leaf, None)
            if tensor is not None:
                tensor[~cut.rows.to(tensor.device)] = 0.0
    return model


def disagreement(expected: nn.Module, small: Callable[[], nn.Module], example: Any) -> str | None:
    """Try a network without some units; return what is wrong with it, words that follow "because", or None.

    Args:
        expected: computes what the small network should.
        small: returns the small network.
        example: an input, a tuple of several or a dictionary of them, moved to the network's device.

    """
    try:
        narrowed = small()
        device = next(narrowed.parameters()).device
        args, keywords = arguments(mapped(example, lambda tensor: tensor.to(device)))
        with evaluating(narrowed), evaluating(expected):
            wanted, found = tensors_in(expected(*args, **keywords)), tensors_in(narrowed(*args, **keywords))
    except Exception as error:  # the forward is anyone's code
        return f"the forward pass does not work with fewer of them ({first_line(error)})"
    if any(bool(tensor.isnan().any()) for tensor in wanted):
        return "the network gives NaN on the example by itself"
    equal = len(wanted) == len(found) and all(map(_equal, wanted, found))
    return None if equal else "the network then gives other numbers than with them at zero"


def _equal(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    return not expected.numel() or bool((expected - found).abs().max() <= TOLERANCE * expected.abs().max())


def _take(module: nn.Module, leaves: tuple[str, ...], chosen: Tensor, dimension: int = 0) -> None:
    for leaf in leaves:
        tensor = getattr(module, leaf)
        if tensor is not None:
            taken = tensor.index_select(dimension, chosen.to(tensor.device))
            setattr(module, leaf, nn.Parameter(taken, tensor.requires_grad) if leaf in module._parameters else taken)
