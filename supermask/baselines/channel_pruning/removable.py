"""Which layers' channels can be removed from a network, whatever their weights are, and why the others' cannot."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.graph import ChannelGraph, channel_graph
from supermask.graph.layers import Dense
from supermask.graph.operation import named
from supermask.graph.removal import Cut, apply_cuts, cuts_of, disagreement, silence


@dataclass(frozen=True)
class RemovableChannels:
    """The layers of a network by what can be done to their channels.

    Attributes:
        graph: of the network.
        example: the input that the network was read with.
        layers: number of channels of those layers whose channels can be removed, by name, in the model's order.
        refused: why the channels of the others cannot be: words that follow "because", by name.

    """

    graph: ChannelGraph
    example: Tensor
    layers: Mapping[str, int]
    refused: Mapping[str, str]

    def readers(self, layer: str) -> list[str]:
        """Return the names of the layers that read the channels of a layer, and so lose weights with them."""
        return self.graph.readers(self.graph.layers[layer].rows)

    def cuts(self, kept: Mapping[str, Tensor]) -> dict[str, Cut]:
        """Return what is left of every layer that the removal of some channels touches.

        Args:
            kept: by name of some of the layers, bool (channels,), True = kept.

        """
        gone = [self.graph.layers[name].rows[~channels.cpu()] for name, channels in kept.items()]
        return cuts_of(self.graph, ~self.graph.marked(torch.cat(gone))) if gone else {}


def removable_channels(model: nn.Module, example: Tensor) -> RemovableChannels:
    """Return what can be removed from a network.

    The channels of a convolutional or linear layer can be removed if everything that reads them is a layer of known
    kind that reads each of them by itself, if a channel of zeros arrives there as zeros, and if the network still runs,
    with the same result, after some were removed from a copy. They cannot if they are added to those of another layer,
    as at the end of a residual block, mixed, e.g. by a layer norm, or reach the output.

    Args:
        model: any module of one input with plain parameters; left as it was.
        example: an input of two examples or more, e.g. float32 (2, C, H, W), on the model's device.

    Raises:
        SupermaskError: the model is parametrized or cannot be written as one graph by `torch.export`.

    """
    graph = channel_graph(model, example)
    names = [name for name, module in model.named_modules() if isinstance(module, Dense)]
    refused = {name: _obstacle(model, graph, name) for name in names}
    layers = {name: len(graph.layers[name].rows) for name in names if refused[name] is None}
    all_of_them = RemovableChannels(graph, example, layers, {})
    halves = {name: _half(count) for name, count in layers.items()}
    if _failure(model, all_of_them, halves) is not None:  # each by itself only where that is needed
        refused |= {name: _failure(model, all_of_them, {name: half}) for name, half in halves.items()}
    return RemovableChannels(
        graph,
        example,
        {name: count for name, count in layers.items() if refused[name] is None},
        {name: reason for name, reason in refused.items() if reason is not None},
    )


def remove_channels(model: nn.Module, kept: Mapping[str, Tensor], removable: RemovableChannels) -> nn.Module:
    """Take channels out of a plain model: what is left are smaller plain layers.

    Each layer named loses the rows of its weight and the entries of its bias, batch norm behind it the parameters and
    the statistics, and the layers that read it the inputs, all pixels of the channel where it was flattened.

    Args:
        model: of the architecture that `removable` is of; smaller, in place, afterwards, or untouched if refused.
        kept: by name of a layer, bool (channels,), True = kept; at least one in each.
        removable: what `removable_channels` says of it.

    Returns:
        The model. In evaluation it gives what it gave with the weights and the biases of these channels, and the
        parameters of batch norm behind them, at zero.

    Raises:
        SupermaskError: a layer is unknown or cannot be made smaller, or nothing of it would be left.

    """
    for name, channels in kept.items():
        _check(name, channels, removable)
    failure = _failure(model, removable, kept)
    if failure is not None:
        raise SupermaskError(f"The channels of {', '.join(kept)} cannot be removed, because {failure}.")
    return apply_cuts(model, removable.cuts(kept))


def cut_masks(cuts: Mapping[str, Cut], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks without what the cuts take away, by parameter name, bool."""
    layers = {name: cuts.get(name.rpartition(".")[0]) for name in masks}
    return {name: mask & cut.of(mask) if (cut := layers[name]) else mask for name, mask in masks.items()}


def _obstacle(model: nn.Module, graph: ChannelGraph, name: str) -> str | None:
    """Return what speaks against removing channels of a layer, in words that follow "because", or None."""
    if name in graph.whole:
        return f"it {graph.whole[name]}"
    if name in graph.followers:
        return "it treats each channel by itself, and goes with those that it reads"
    if name not in graph.layers:
        return "it is called 0 times in a forward pass"
    rows = graph.layers[name].rows
    if len(rows) < 2:
        return "it has only one"
    readers = graph.readers(rows)
    if others := [other for other in graph.producers(rows) if other != name]:
        before = f" before {named(model, readers[0])}" if readers else ""
        return f"they are combined with those of {', '.join(others)}{before}"
    if len(graph.groups(rows).unique()) < len(rows):
        return "they are combined with one another"
    if (reason := graph.reason(rows)) is not None:
        return reason
    if not readers:
        return "they do not reach another convolutional or linear layer"
    return next((reason for reader in readers if (reason := _left_over(model, graph, rows, reader)) is not None), None)


def _left_over(model: nn.Module, graph: ChannelGraph, rows: Tensor, reader: str) -> str | None:
    """Return whether channels of zeros arrive as other numbers at a reader, as behind a sigmoid."""
    layer = graph.layers[reader]
    assert layer.columns is not None
    own = graph.marked(rows)[graph.groups(layer.columns)]
    return None if bool(layer.zeros[own].all()) else f"zeros of it arrive as other numbers at {named(model, reader)}"


def _failure(model: nn.Module, removable: RemovableChannels, kept: Mapping[str, Tensor]) -> str | None:
    """Try a removal on a copy; return what went wrong, or None."""
    cuts = removable.cuts(kept)
    silent = silence(deepcopy(model), cuts)
    return disagreement(silent, lambda: apply_cuts(deepcopy(model), cuts), removable.example)


def _half(channels: int) -> Tensor:
    # every other one, so that a removal that takes the wrong ones is found out
    return torch.arange(channels) % 2 == 0


def _check(name: str, channels: Tensor, removable: RemovableChannels) -> None:
    if name not in removable.layers:
        reason = removable.refused.get(name, f"there is no such layer; there are {', '.join(removable.layers)}")
        raise SupermaskError(f"The channels of {name} cannot be removed, because {reason}.")
    expected = removable.layers[name]
    if channels.dtype is not torch.bool or channels.shape != (expected,):
        raise SupermaskError(
            f"What is kept of {name} is {channels.dtype}, {tuple(channels.shape)}; give a bool tensor of ({expected},)."
        )
    if not bool(channels.any()):
        raise SupermaskError(f"Nothing of {name} would be left; keep at least one of its {expected} channels.")
