"""Where the bytes of a compressed network are, and what they were before each stage."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from supermask.baselines.deep_compression.file import Compressed
from supermask.baselines.deep_compression.layer import CodedLayer
from supermask.baselines.deep_compression.network import tensors_of


def dense_bytes(model: nn.Module) -> int:
    """Return the bytes of all tensors of a network as they are in memory."""
    return sum(map(_bytes, tensors_of(model).values()))


def pruned_bytes(contents: Compressed, kept: Mapping[str, int]) -> int:
    """Return the bytes of the pruned network in CSR format: 2 kept + rows + 1 numbers of 32 bits a layer (section 2).

    Args:
        contents: of the file.
        kept: weights of each layer, by name.

    """
    rows = {name: layer.shape[0] if layer.shape else 1 for name, layer in contents.layers.items()}
    return _rest(contents) + sum(4 * (2 * kept[name] + rows[name] + 1) for name in rows)


def quantised_bytes(contents: Compressed, bits: Mapping[str, int]) -> int:
    """Return the bytes before Huffman coding: codebooks, and for each entry an index and a difference of fixed length.

    Args:
        contents: of the file.
        bits: of an index, by name.

    """
    layers = contents.layers.items()
    entries = [-(-layer.entries * (bits[name] + layer.gap_bits) // 8) for name, layer in layers]
    return _rest(contents) + sum(_bytes(layer.codebook) for _, layer in layers) + sum(entries)


@dataclass(frozen=True)
class LayerFacts:
    """What the paper's tables 2 to 5 say of a layer.

    Attributes:
        shape: of the weight.
        kept: weights that are not pruned.
        entries: of the code: kept weights and filler zeros.
        clusters: shared values.
        index_bits: of an index, before and after Huffman coding.
        gap_bits: the same of a difference between places.

    """

    shape: tuple[int, ...]
    kept: int
    entries: int
    clusters: int
    index_bits: tuple[int, float]
    gap_bits: tuple[int, float]


def layer_facts(layer: CodedLayer, kept: int, bits: int) -> LayerFacts:
    """Return the facts of a layer.

    Args:
        layer: as its file has it.
        kept: its kept weights.
        bits: of an index before Huffman coding.

    """
    entries = max(1, layer.entries)
    return LayerFacts(
        shape=tuple(layer.shape),
        kept=kept,
        entries=layer.entries,
        clusters=len(layer.codebook),
        index_bits=(bits, 8 * len(layer.indices.data) / entries),
        gap_bits=(layer.gap_bits, 8 * len(layer.gaps.data) / entries),
    )


def _rest(contents: Compressed) -> int:
    return sum(map(_bytes, contents.rest.values()))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
