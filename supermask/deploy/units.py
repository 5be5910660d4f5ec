"""Units of a network: which places of its tensors belong together, and who reads them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of a tensor that a network computes.

    Attributes:
        axis: the dimension that counts units.
        units: the unit of each place along it, int64.
        fixed: whether the numbers at that place are the same whatever the network's input is, bool.

    """

    axis: int
    units: Tensor
    fixed: Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear or convolutional layer that can be made smaller.

    Attributes:
        name: of its module.
        rows: units that it gives out, int64 (outputs,).
        columns: units that it reads, int64 (inputs,); None where it reads something else, such as the network's input.
        connected: whether some weight of a row and a column is not 0, bool (outputs, inputs).
        constants: the number that each input always is, float64 (inputs,); NaN where it is not always one number, or
            where its part of the output is not the same everywhere, as at a border padded with zeros.

    """

    name: str
    rows: Tensor
    columns: Tensor | None
    connected: Tensor
    constants: Tensor


@dataclass
class Ledger:
    """All units of a network.

    Attributes:
        layers: that give out and read units.
        followers: by name of a module that treats each unit by itself, a batch norm or a depthwise convolution: its
            units.

    """

    layers: list[Layer] = field(default_factory=list)
    followers: dict[str, Tensor] = field(default_factory=dict)
    _same: list[int] = field(default_factory=list)
    _needed: list[int] = field(default_factory=list)

    def new(self, count: int) -> Tensor:
        """Return units that were not there before, int64 (count,)."""
        first = len(self._same)
        self._same.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def unite(self, one: Tensor, other: Tensor) -> Tensor:
        """Let units be removed together or not at all, in pairs, because their numbers are added; return the first."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            self._same[self._first(a)] = self._first(b)
        return one

    def need(self, units: Tensor) -> None:
        """Keep units: they reach the output, or something of which is not known what it does with each."""
        self._needed.extend(units.tolist())

    def roots(self, units: Tensor) -> Tensor:
        """Return one unit for each set of united ones, int64 of the same shape."""
        return torch.tensor([self._first(unit) for unit in units.tolist()], dtype=torch.int64)

    def needed(self) -> Tensor:
        """Return which roots have to be kept, bool (units,)."""
        needed = torch.zeros(len(self._same), dtype=torch.bool)
        needed[self.roots(torch.tensor(self._needed, dtype=torch.int64))] = True
        return needed

    def _first(self, unit: int) -> int:
        while self._same[unit] != unit:
            self._same[unit] = self._same[self._same[unit]]
            unit = self._same[unit]
        return unit
