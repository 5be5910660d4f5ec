"""One layer as its file has it: a codebook, and coded entries that say where its kept weights lie and which they are.

Han, Mao & Dally 2016, section 2 and figure 2: places are stored as differences. A difference that is larger than `b`
bits can say is bridged by filler zeros, entries of value zero at the largest difference. `b` bits say the differences 1
to 2^b.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.baselines.deep_compression.huffman import CodedSymbols, Integers, decode
from supermask.baselines.deep_compression.shared import Sharing
from supermask.errors import SupermaskError

MOST_BITS = 15
"""Of an index or a difference: a table of codes counts its symbols in two bytes."""


@dataclass(frozen=True)
class Gaps:
    """The entries of one layer in row-major order.

    Attributes:
        steps: int64 (entries,), from 0 to 2^bits - 1: one less than the difference to the entry before. The first is
            counted from before the first weight.
        fillers: bool (entries,), True where the entry is a filler zero.

    """

    steps: Integers
    fillers: NDArray[np.bool_]


def to_gaps(places: Integers, bits: int) -> Gaps:
    """Return the entries of kept weights.

    Args:
        places: flat indices of the kept weights, int64 (n,), rising.
        bits: of a difference.

    """
    steps = np.diff(places, prepend=-1) - 1
    bridges = steps >> bits
    counts = bridges + 1
    last = np.cumsum(counts) - 1
    every = np.full(int(counts.sum()), (1 << bits) - 1, np.int64)
    every[last] = steps - (bridges << bits)
    fillers = np.ones(len(every), bool)
    fillers[last] = False
    return Gaps(every, fillers)


def to_places(gaps: Gaps, size: int) -> Integers:
    """Return the flat indices of the kept weights, int64 (n,).

    Args:
        gaps: the entries of a layer.
        size: weights of the layer.

    Raises:
        SupermaskError: the last entry lies outside the layer.

    """
    places = np.cumsum(gaps.steps + 1) - 1
    if len(places) and places[-1] >= size:
        raise SupermaskError(f"its entries reach to weight {int(places[-1]) + 1:,} of a layer of {size:,}.")
    return places[~gaps.fillers]


@dataclass(frozen=True)
class CodedLayer:
    """The weights of one layer.

    Attributes:
        shape: of the weight.
        gap_bits: of a difference between two entries; larger ones are bridged by filler zeros.
        entries: kept weights and filler zeros.
        codebook: the shared values, (clusters,), in the dtype of the weight.
        indices: of the entries in the codebook; the index after its last is that of a filler zero.
        gaps: differences between the entries, less one.

    """

    shape: tuple[int, ...]
    gap_bits: int
    entries: int
    codebook: Tensor
    indices: CodedSymbols
    gaps: CodedSymbols

    @classmethod
    def of(cls, shape: tuple[int, ...], sharing: Sharing, gap_bits: int) -> "CodedLayer":
        """Return the layer coded."""
        gaps = to_gaps(sharing.places.cpu().numpy(), gap_bits)
        codebook = sharing.centroids.detach().cpu()
        indices = np.full(len(gaps.steps), len(codebook), np.int64)
        indices[~gaps.fillers] = sharing.indices.cpu().numpy()
        coded = CodedSymbols.of(indices, len(codebook) + 1), CodedSymbols.of(gaps.steps, 1 << gap_bits)
        return cls(shape, gap_bits, len(gaps.steps), codebook, *coded)

    def weight(self) -> Tensor:
        """Return the weight decoded; what is pruned is +0.

        Raises:
            SupermaskError: the codes are not those of such a layer.

        """
        size = math.prod(self.shape)
        if self.entries > size:
            raise SupermaskError(f"it has {self.entries:,} entries for a layer of {size:,} weights.")
        indices = decode(self.indices.data, self.indices.lengths, self.entries)
        steps = decode(self.gaps.data, self.gaps.lengths, self.entries)
        fillers = indices == len(self.codebook)
        places = torch.from_numpy(to_places(Gaps(steps, fillers), size))
        weight = self.codebook.new_zeros(size)
        weight[places] = self.codebook[torch.from_numpy(indices[~fillers])]
        return weight.reshape(self.shape)
