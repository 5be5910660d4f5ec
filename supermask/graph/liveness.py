"""Which units have a live path from the network's input and to its output."""

import torch
from torch import Tensor

from supermask.graph.channels import ChannelGraph, Layer


def live_units(graph: ChannelGraph, spared: Tensor | None = None) -> Tensor:
    """Return which units have to be kept, bool over all units, true at those that name a live group.

    A unit is kept if it is required, or if a row that is kept reads it through a weight that is not 0 and it is not one
    constant number, which the row's bias can hold as well. That is the least such set: units that only read one another
    go. Each layer keeps at least one unit; a dead unit that is kept has no effect.

    Args:
        graph: of the network.
        spared: units that are kept besides, int64.

    """
    live = graph.required()
    if spared is not None:
        live |= graph.marked(spared)
    layers = [_Read(graph, layer) for layer in reversed(graph.layers.values())]
    # lists, not generators: every layer is looked at in every round, so that few rounds are needed
    while any([layer.spread(live) for layer in layers]) or any(layer.revive(live) for layer in layers):
        pass
    return live


class _Read:
    """A layer with the groups of its units."""

    def __init__(self, graph: ChannelGraph, layer: Layer) -> None:
        self._rows = graph.groups(layer.rows)
        self._columns = None if layer.columns is None else graph.groups(layer.columns)
        self._reads = layer.connected & layer.constants.isnan()

    def spread(self, live: Tensor) -> bool:
        """Mark what the live rows read; return whether that is new."""
        if self._columns is None:
            return False
        read = self._columns[self._reads[live[self._rows]].any(0)]
        new = not bool(live[read].all())
        live[read] = True
        return new

    def revive(self, live: Tensor) -> bool:
        """Where no row is live, mark the one that reads least; return whether that was so."""
        if not len(self._rows) or bool(live[self._rows].any()):
            return False
        live[self._rows[torch.argmin(self._reads.sum(1))]] = True
        return True
