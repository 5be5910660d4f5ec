"""Units without a live path from the input or to the output are removed, exactly."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supermask.graph import ChannelGraph, Cost, Layer, channel_graph, cost_of, live_units
from supermask.graph.removal import apply_cuts, cuts_of, disagreement
from supermask.parameters.copies import copy_of


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A network without its dead units.

    Attributes:
        network: a copy of the network, smaller, in evaluation mode.
        units: by name of a layer: outputs that are left, and that there were.
        before: what the network cost.
        after: what it costs now.

    """

    network: nn.Module
    units: Mapping[str, tuple[int, int]]
    before: Cost
    after: Cost

    @property
    def removed(self) -> int:
        """Number of units that were removed."""
        return sum(count - left for left, count in self.units.values())


def narrow(model: nn.Module, example: Any) -> Narrowed:
    """Remove the units, neurons or channels, that have no live path from the input or none to the output.

    A unit goes if all that reads it reads it through weights of 0, or is itself removed, or if it is the same constant
    number for every input and all that reads it can have that number in its bias: a linear layer always, a convolution
    unless it pads zeros around a number that is not 0. With it go its weights, bias and batch norm, its statistics and
    the weights that read it. Units that are added to one another go together or stay. What an operation does with each
    unit must be known (`supermask.graph.rules`), and a layer's weight must be a parameter that nothing else reads; else
    its units stay: those of recurrent layers, attention and shared weights, for instance. Each layer keeps at least one
    unit.

    What it computes in evaluation mode is equal up to the rounding of sums: the terms that they lose are 0 or constant,
    but a library may add the others in another order. Where it does not, and no constant goes into a bias, results are
    equal bit for bit. Numbers are presumed to be finite.

    The ticket of filter pruning prunes whole channels, so this builds the small network that filter pruning trained:
    `narrow(ticket.apply(model), example).network.load_state_dict(...)` takes its `network.safetensors`.

    Args:
        model: any module with plain parameters; left as it was.
        example: an input, of two examples or more, e.g. float32 (2, C, H, W), on the model's device; a tuple of several
            inputs, or a dictionary of them by name. What is found holds for inputs of its shape, with any number of
            examples.

    Raises:
        SupermaskError: the model is parametrized or cannot be written as one graph by `torch.export`.

    """
    network = copy_of(model).eval()
    graph = channel_graph(network, example)
    live = live_units(graph, _stuck(network, graph, example))
    layers = {name: layer for name, layer in graph.layers.items() if name not in graph.whole}
    units = {name: (int(live[graph.groups(layer.rows)].sum()), len(layer.rows)) for name, layer in layers.items()}
    before, narrowed = cost_of(network, example), _without(network, graph, live)
    return Narrowed(narrowed, units, before, cost_of(narrowed, example))


def _stuck(network: nn.Module, graph: ChannelGraph, example: Any) -> Tensor | None:
    """Return units that must stay although the graph allows removing them, or None.

    Without them the network does not run, or gives something else, because its forward pass depends on their number,
    e.g. divides by it, which stands in the graph as a plain constant.
    """
    if _runs(network, graph, None, example):
        return None
    everything = torch.cat([layer.rows for layer in graph.layers.values()])
    stuck: list[Tensor] = []
    for layer in graph.layers.values():
        own = graph.marked(layer.rows)[graph.groups(everything)]
        if not _runs(network, graph, everything[~own], example):
            stuck.append(layer.rows)
    spared = torch.cat(stuck) if stuck else everything
    return spared if _runs(network, graph, spared, example) else everything


def _runs(network: nn.Module, graph: ChannelGraph, spared: Tensor | None, example: Any) -> bool:
    def small() -> nn.Module:
        return _without(deepcopy(network), graph, live_units(graph, spared))

    return disagreement(network, small, example) is None


def _without(network: nn.Module, graph: ChannelGraph, live: Tensor) -> nn.Module:
    """Take all units that are not live out of a network, in place, and return it."""
    cuts = cuts_of(graph, live)
    for name, layer in graph.layers.items():
        if name in cuts:
            _fold(network.get_submodule(name), layer, ~cuts[name].columns)
    return apply_cuts(network, cuts)


@torch.no_grad()
def _fold(module: nn.Module, layer: Layer, gone: Tensor) -> None:
    """Add to a layer's bias what its constant inputs that go have put there."""
    gone = gone & (layer.constants != 0) & ~layer.constants.isnan() & layer.connected.any(0)
    if not bool(gone.any()):
        return
    weight = module.get_parameter("weight")
    constants = layer.constants[gone].to(weight.device)
    share = (
        weight[:, gone.to(weight.device)].double().flatten(2).sum(2) if weight.ndim > 2 else weight[:, gone].double()
    )
    added = share @ constants
    bias = module._parameters.get("bias")
    if bias is None:
        module.bias = nn.Parameter(added.to(weight.dtype), requires_grad=weight.requires_grad)
    else:
        bias.copy_(bias.double() + added)
