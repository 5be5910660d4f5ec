"""One layer as its file has it: a codebook, two Huffman tables, and the coded entries of its kept weights."""

import math
import struct
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.baselines.deep_compression import huffman
from supermask.baselines.deep_compression.gaps import Gaps, to_gaps, to_places
from supermask.baselines.deep_compression.shared import Sharing
from supermask.errors import SupermaskError

Integers = NDArray[np.int64]
MOST_BITS = 15
"""Of an index or a difference: a table then counts its symbols in two bytes."""

_TABLE = struct.Struct("<BH")  # bits of a length, number of lengths


@dataclass(frozen=True)
class Stream:
    """Symbols of one kind.

    Attributes:
        lengths: of the Huffman codes in bits, by symbol, int64 (symbols,).
        data: the codes.

    """

    lengths: Integers
    data: bytes

    @classmethod
    def of(cls, symbols: Integers, alphabet: int) -> "Stream":
        """Return symbols from 0 to alphabet - 1 in the code that is best for them."""
        lengths = huffman.code_lengths(np.bincount(symbols, minlength=alphabet))
        return cls(lengths, huffman.encode(symbols, lengths))

    @property
    def table(self) -> bytes:
        """The lengths as a file has them: as few bits for each as the longest needs, without the last zeros."""
        count = int(np.flatnonzero(self.lengths)[-1]) + 1 if self.lengths.any() else 0
        width = int(self.lengths.max(initial=0)).bit_length()
        bits = self.lengths[:count, None] >> np.arange(width) & 1
        return _TABLE.pack(width, count) + np.packbits(bits.astype(np.uint8)).tobytes()

    @staticmethod
    def read_table(data: bytes, alphabet: int) -> tuple[Integers, int]:
        """Return the lengths at the beginning of some bytes, and the number of bytes that they take.

        Raises:
            SupermaskError: they are cut short, or are more than the alphabet has.

        """
        width, count = _TABLE.unpack_from(data) if len(data) >= _TABLE.size else (0, alphabet + 1)
        end = _TABLE.size + -(-width * count // 8)
        if count > alphabet or width > 8 or end > len(data):
            raise SupermaskError("a table of its codes is not one.")
        bits = np.unpackbits(np.frombuffer(data[_TABLE.size : end], np.uint8), count=width * count)
        lengths = np.zeros(alphabet, np.int64)
        lengths[:count] = bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width))
        return lengths, end


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
    indices: Stream
    gaps: Stream

    @classmethod
    def of(cls, shape: tuple[int, ...], sharing: Sharing, gap_bits: int) -> "CodedLayer":
        """Return the layer coded."""
        gaps = to_gaps(sharing.places.cpu().numpy(), gap_bits)
        codebook = sharing.centroids.detach().cpu()
        indices = np.full(len(gaps.steps), len(codebook), np.int64)
        indices[~gaps.fillers] = sharing.indices.cpu().numpy()
        streams = Stream.of(indices, len(codebook) + 1), Stream.of(gaps.steps, 1 << gap_bits)
        return cls(shape, gap_bits, len(gaps.steps), codebook, *streams)

    def weight(self) -> Tensor:
        """Return the weight decoded; what is pruned is +0.

        Raises:
            SupermaskError: the streams are not those of such a layer.

        """
        size = math.prod(self.shape)
        if self.entries > size:
            raise SupermaskError(f"it has {self.entries:,} entries for a layer of {size:,} weights.")
        indices = huffman.decode(self.indices.data, self.indices.lengths, self.entries)
        steps = huffman.decode(self.gaps.data, self.gaps.lengths, self.entries)
        fillers = indices == len(self.codebook)
        places = torch.from_numpy(to_places(Gaps(steps, fillers), size))
        weight = self.codebook.new_zeros(size)
        weight[places] = self.codebook[torch.from_numpy(indices[~fillers])]
        return weight.reshape(self.shape)
