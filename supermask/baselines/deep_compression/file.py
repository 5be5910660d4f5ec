"""The file of a compressed network, into it and out of it: all but the code that builds it, under one checksum.

In order: 4 bytes that name the format and one with its number, 8 bytes of BLAKE2b over all others, the length of the
header, and the header, a deflated JSON text that gives every tensor its name, shape and dtype. For each pruned layer
follow its codebook, its two Huffman tables, the coded indices and the coded gaps; then all other parameters and buffers
as they lie in memory, little end first.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supermask.baselines.deep_compression.huffman import CodedSymbols
from supermask.baselines.deep_compression.layer import MOST_BITS, CodedLayer
from supermask.baselines.deep_compression.shared import Shared
from supermask.errors import SupermaskError
from supermask.parameters.parameters import saved_tensors

_MAGIC = b"dcnn\x01"
_LENGTH = struct.Struct("<I")
_SUM = 8  # bytes: damage by accident stays unnoticed once in 2^64 times
_START = len(_MAGIC) + _SUM + _LENGTH.size
_KNOWN = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool)
_DTYPES = {str(kind): kind for kind in (*_KNOWN, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}


@dataclass(frozen=True)
class Compressed:
    """What a file holds: the coded layers and all other tensors, by name."""

    layers: Mapping[str, CodedLayer]
    rest: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: Shared, gap_bits: Mapping[str, int]) -> "Compressed":
        """Return a network with shared weights as its file holds it.

        Args:
            network: in the state to keep.
            gap_bits: of the differences between kept weights, by parameter name.

        """
        layers = {
            name: CodedLayer.of(network.prunable[name].shape, sharing, gap_bits[name])
            for name, sharing in network.sharing.items()
        }
        saved = saved_tensors(network.model)
        return cls(layers, {name: tensor.detach() for name, tensor in saved.items() if name not in layers})


def encode(contents: Compressed) -> bytes:
    """Return the bytes of the file; equal contents give equal bytes."""
    header = _header(contents)
    length = _LENGTH.pack(len(header))
    body = [piece for layer in contents.layers.values() for piece in _pieces(layer).values()]
    body += [_raw(tensor) for tensor in contents.rest.values()]
    sealed = b"".join([length, header, *body])
    return _MAGIC + _digest(sealed) + sealed


def parts(contents: Compressed) -> dict[str, int]:
    """Return the size of each part of the file in bytes; they add up to its size."""
    pieces = [_pieces(layer) for layer in contents.layers.values()]
    sizes = {part: sum(len(piece[part]) for piece in pieces) for part in ("codebooks", "tables", "indices", "gaps")}
    rest = sum(len(_raw(tensor)) for tensor in contents.rest.values())
    return {"header": _START + len(_header(contents)), **sizes, "biases_and_others": rest}


def decode(data: bytes) -> Compressed:
    """Return what the bytes of a file hold.

    Raises:
        SupermaskError: they are cut short, damaged, of a newer format, or something else; the message says which.

    """
    if data[: len(_MAGIC) - 1] != _MAGIC[:-1]:
        raise SupermaskError("it does not begin as a compressed network does; it is another kind of file, or damaged.")
    if data[: len(_MAGIC)] != _MAGIC:
        raise SupermaskError(f"it is damaged, or of a newer format; this version reads format {_MAGIC[-1]}.")
    sealed = data[len(_MAGIC) + _SUM :]
    if _digest(sealed) != data[len(_MAGIC) : len(_MAGIC) + _SUM]:
        raise SupermaskError("it is damaged: the checksum does not fit its contents; fetch it again.")
    try:
        (length,) = _LENGTH.unpack_from(sealed)
        header = json.loads(zlib.decompress(sealed[_LENGTH.size : _LENGTH.size + length]))
        return _read_body(header, _Reader(sealed, _LENGTH.size + length))
    except SupermaskError:
        raise
    except (
        struct.error,
        zlib.error,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise SupermaskError(f"its header does not describe a compressed network ({error!r}).") from None


def load(path: str | Path, model: nn.Module) -> nn.Module:
    """Return the model as the network of a file, in place: the same numbers, bit for bit, and +0 where it was pruned.

    Args:
        path: of a file that the method deep_compression wrote.
        model: of the architecture that it was made from, on any device; its tensors are overwritten.

    Raises:
        SupermaskError: the file is missing, cut short, changed in any byte or not a compressed network, or the model
            has another architecture; the model is then left as it was.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SupermaskError(f"Cannot read the compressed network {path}: {error.strerror}.") from None
    try:
        return restored(decode(data), model)
    except SupermaskError as error:
        raise SupermaskError(f"Cannot load {path}: {error}") from None


@torch.no_grad()
def restored(contents: Compressed, model: nn.Module) -> nn.Module:
    """Return the model with the tensors of a file, in place; `load` says more."""
    own = saved_tensors(model)
    stored = {name: (layer.shape, layer.codebook.dtype) for name, layer in contents.layers.items()}
    _refuse_differences(_kinds(own), stored | _kinds(contents.rest))
    tensors = {name: layer.weight() for name, layer in contents.layers.items()} | dict(contents.rest)
    for name, tensor in own.items():
        tensor.copy_(tensors[name])
    return model


Kinds = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _refuse_differences(own: Kinds, stored: Kinds) -> None:
    def words(kinds: Kinds, name: str) -> str:
        shape, dtype = kinds[name]
        return f"{str(dtype).removeprefix('torch.')} {shape}"

    found = [f"it lacks {name}" for name in stored if name not in own]
    found += [f"the file lacks {name}" for name in own if name not in stored]
    found += [
        f"{name} is {words(own, name)} in the model and {words(stored, name)} in the file"
        for name in own
        if name in stored and own[name] != stored[name]
    ]
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise SupermaskError(
            f"the model is of another architecture than the file: {'; '.join(found[:3])}{more}; build the one that was"
            " compressed."
        )


def _header(contents: Compressed) -> bytes:
    layers = {
        name: [list(layer.shape), str(layer.codebook.dtype), *_numbers(layer)]
        for name, layer in contents.layers.items()
    }
    rest = {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in contents.rest.items()}
    text = json.dumps({"layers": layers, "rest": rest}, separators=(",", ":"))
    return zlib.compress(text.encode(), 9)


def _numbers(layer: CodedLayer) -> tuple[int, ...]:
    """Return what a reader has to know of a layer besides its shape and dtype; `_read_layer` takes it."""
    sizes = len(layer.indices.data), len(layer.gaps.data)
    return layer.gap_bits, layer.entries, len(layer.codebook), *sizes


def _pieces(layer: CodedLayer) -> dict[str, bytes]:
    """Return the bytes of a layer by part, in the order of the file."""
    return {
        "codebooks": _raw(layer.codebook),
        "tables": layer.indices.table + layer.gaps.table,
        "indices": layer.indices.data,
        "gaps": layer.gaps.data,
    }


def _read_body(header: Any, reader: "_Reader") -> Compressed:
    layers = {name: _read_layer(reader, *entry) for name, entry in header["layers"].items()}
    rest = {name: reader.tensor(shape, _DTYPES[dtype]) for name, (shape, dtype) in header["rest"].items()}
    if reader.left:
        raise SupermaskError(f"{reader.left:,} bytes follow its end.")
    return Compressed(layers, rest)


def _read_layer(reader: "_Reader", shape: list[int], dtype: str, *numbers: int) -> CodedLayer:
    gap_bits, entries, clusters, indices, gaps = numbers
    if not all(type(number) is int and number >= 0 for number in (*shape, *numbers)) or gap_bits > MOST_BITS:
        raise SupermaskError(f"its header describes a layer of shape {shape} by {numbers}, which are not counts.")
    codebook = reader.tensor([clusters], _DTYPES[dtype])
    index_lengths, gap_lengths = reader.table(clusters + 1), reader.table(1 << gap_bits)
    coded = CodedSymbols(index_lengths, reader.take(indices)), CodedSymbols(gap_lengths, reader.take(gaps))
    return CodedLayer(tuple(shape), gap_bits, entries, codebook, *coded)


class _Reader:
    """Bytes that are taken one piece after the other, from a place on."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    @property
    def left(self) -> int:
        """Number of bytes that were not taken."""
        return len(self._data) - self._place

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= count <= self.left:
            raise SupermaskError(f"it lacks bytes: {count:,} were announced where {self.left:,} are left.")
        self._place += count
        return self._data[self._place - count : self._place]

    def tensor(self, shape: list[int], dtype: torch.dtype) -> Tensor:
        """Return the next tensor."""
        data = self.take(math.prod(shape) * dtype.itemsize)
        return (torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(shape)

    def table(self, alphabet: int) -> Any:
        """Return the next table of code lengths."""
        lengths, taken = CodedSymbols.read_table(self._data[self._place :], alphabet)
        self._place += taken
        return lengths


def _raw(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""  # an empty one has no stride to view


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM, key=_MAGIC).digest()
