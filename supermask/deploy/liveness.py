"""Which units have a live path from the network's input and to its output."""

import torch
from torch import Tensor

from supermask.deploy.units import Layer, Ledger


def live_units(ledger: Ledger, spared: Tensor | None = None) -> Tensor:
    """Return which units have to be kept, bool over the roots of `Ledger.roots`.

    A unit is kept if it is needed, or if a row that is kept reads it through a weight that is not 0 and it is not one
    constant number, which the row's bias can hold as well. That is the least such set: units that only read one another
    go. Of each layer at least one unit stays, whose numbers nobody misses.

    Args:
        ledger: of the network.
        spared: units that are kept besides, int64.

    """
    live = ledger.needed()
    if spared is not None:
        live[ledger.roots(spared)] = True
    layers = [_Read(ledger, layer) for layer in reversed(ledger.layers)]
    while any([layer.spread(live) for layer in layers]) or any(layer.revive(live) for layer in layers):
        pass
    return live


class _Read:
    """A layer with the roots of its units."""

    def __init__(self, ledger: Ledger, layer: Layer) -> None:
        self._rows = ledger.roots(layer.rows)
        self._columns = None if layer.columns is None else ledger.roots(layer.columns)
        self._reads = layer.connected & layer.constants.isnan()

    def spread(self, live: Tensor) -> bool:
        """Mark what the live rows read; return whether that is news."""
        if self._columns is None:
            return False
        read = self._columns[self._reads[live[self._rows]].any(0)]
        news = not bool(live[read].all())
        live[read] = True
        return news

    def revive(self, live: Tensor) -> bool:
        """Where no row is live, mark the one that reads least; return whether that was so."""
        if not len(self._rows) or bool(live[self._rows].any()):
            return False
        live[self._rows[torch.argmin(self._reads.sum(1))]] = True
        return True
