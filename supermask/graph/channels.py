"""The channel graph of a network: which of its units go together, who reads them, and which must stay."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear or convolutional layer.

    Attributes:
        rows: units that it gives out, int64 (outputs,).
        columns: units that it reads, int64 (inputs,); None where it reads something else, such as the network's input.
        connected: whether some weight of a row and a column is not 0, bool (outputs, inputs).
        constants: the number that each input always is, float64 (inputs,); NaN where it is not always one number, or
            where its part of the output is not the same everywhere, as at a border padded with zeros.
        zeros: whether an input is 0 everywhere when the unit that it comes from gives out zeros, bool (inputs,).

    """

    rows: Tensor
    columns: Tensor | None
    connected: Tensor
    constants: Tensor
    zeros: Tensor


@dataclass(frozen=True, eq=False)
class Follower:
    """A module that treats each unit by itself, a batch norm or a depthwise convolution, and goes with its units.

    Attributes:
        rows: units that it gives out, int64 (channels,), each in the group of the unit that it reads.
        columns: units that it reads, int64 (channels,).

    """

    rows: Tensor
    columns: Tensor


@dataclass
class ChannelGraph:
    """All units of a network, neurons or channels, numbered as they appear in the forward pass.

    Units that have to be removed together or not at all are a group. A group is named by one of its units.

    Attributes:
        layers: by name of the module, in the order of the forward pass.
        followers: by name of the module, in the same order.
        whole: why a layer cannot be made smaller, by name of its module; words that follow "it" or "which".

    """

    layers: dict[str, Layer] = field(default_factory=dict)
    followers: dict[str, Follower] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    _parents: list[int] = field(default_factory=list)
    _tied: set[int] = field(default_factory=set)
    _required: dict[int, str] = field(default_factory=dict)
    _counted: dict[int, str] = field(default_factory=dict)

    def new(self, count: int) -> Tensor:
        """Return units that were not there before, int64 (count,)."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def following(self, columns: Tensor) -> Tensor:
        """Return new units, each in the group of one of these, int64 of the same shape."""
        rows = self.new(len(columns))
        self._join(rows, columns)
        return rows

    def tie(self, one: Tensor, other: Tensor) -> None:
        """Put units into one group, pair by pair, because their numbers are combined, e.g. added."""
        apart = one != other  # a unit that meets itself, as in y * y.sigmoid(), stays alone
        self._join(one[apart], other[apart])
        self._tied.update(one[apart].tolist(), other[apart].tolist())

    def require(self, units: Tensor, reason: str) -> None:
        """Keep units: they reach the output, or something that is not known to treat each by itself.

        Args:
            units: int64.
            reason: words that follow "because".

        """
        for unit in units.tolist():
            self._required.setdefault(unit, reason)

    def count(self, units: Tensor, reason: str) -> None:
        """Keep units whose number or order is fixed, though each is still treated by itself; arguments of `require`."""
        for unit in units.tolist():
            self._counted.setdefault(unit, reason)

    def groups(self, units: Tensor) -> Tensor:
        """Return the group of each unit, int64 of the same shape."""
        return torch.tensor([self._group(unit) for unit in units.tolist()], dtype=torch.int64)

    def required(self) -> Tensor:
        """Return which groups have to be kept, bool over all units, true at those that name such a group."""
        return self.marked(torch.tensor([*self._required, *self._counted], dtype=torch.int64))

    def marked(self, units: Tensor) -> Tensor:
        """Return the groups of some units in the form of `required`."""
        marks = torch.zeros(len(self._parents), dtype=torch.bool)
        marks[self.groups(units)] = True
        return marks

    def reason(self, units: Tensor) -> str | None:
        """Return why a group of one of these units has to be kept, or None."""
        groups = self.marked(units)
        found = (
            why for known in (self._required, self._counted) for unit, why in known.items() if groups[self._group(unit)]
        )
        return next(found, None)

    def readers(self, units: Tensor) -> list[str]:
        """Return the layers that read a unit of the groups of these, by name."""
        groups = self.marked(units)
        return [
            name
            for name, layer in self.layers.items()
            if layer.columns is not None and self._any(groups, layer.columns)
        ]

    def producers(self, units: Tensor) -> list[str]:
        """Return the layers that give out a unit of the groups of these, by name."""
        groups = self.marked(units)
        return [name for name, layer in self.layers.items() if self._any(groups, layer.rows)]

    def read_by_alone(self, units: Tensor, reader: str) -> bool:
        """Return whether these units, apart from their groups, are read by one module and used for nothing else."""
        own = set(units.tolist())
        reading: dict[str, Layer | Follower] = {**self.layers, **self.followers}
        columns = {name: set(m.columns.tolist()) for name, m in reading.items() if m.columns is not None}
        used = own & (self._tied | self._required.keys())
        return not used and [name for name, theirs in columns.items() if own & theirs] == [reader]

    def _any(self, groups: Tensor, units: Tensor) -> bool:
        return bool(groups[self.groups(units)].any())

    def _join(self, one: Tensor, other: Tensor) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            self._parents[self._group(a)] = self._group(b)

    def _group(self, unit: int) -> int:
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit
