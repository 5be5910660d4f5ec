"""The file of a ticket: safetensors, one bit per prunable weight, and a checksum over every byte.

The safetensors header carries one entry of ours, a JSON text. In it stand the SHA-256 of the whole file and a CRC-32 of
the header alone, each taken with their own digits blanked: the file stays an ordinary safetensors file, no byte is left
out, and a sound header tells a file that was cut from one that was changed.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from supermask.errors import TicketError

FORMAT = 1
_KEY = "supermask.ticket"
_BITS = ".mask bits"  # names the tensor that holds all masks; no name in a module begins with a dot
_SUM = b"s" * 64  # blanks for the two checksums; no digits, so that neither is found in the other's blank
_CRC = b"z" * 8


@dataclass(frozen=True)
class Contents:
    """What a ticket's file holds: plain values, masks by parameter name, stored tensors by name."""

    header: Mapping[str, Any]
    masks: Mapping[str, Tensor]
    learned: Mapping[str, Tensor]


def encode(contents: Contents) -> bytes:
    """Return the bytes of the file; equal contents give equal bytes."""
    masked = {name: list(mask.shape) for name, mask in contents.masks.items()}
    header = {"format": FORMAT, "sha256": _SUM.decode(), "header_crc32": _CRC.decode(), "masked": masked}
    # a copy of each, because safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in contents.learned.items()}
    tensors[_BITS] = torch.from_numpy(_pack(contents.masks))
    try:
        text = json.dumps({**header, **contents.header}, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TicketError(
            f"The ticket holds what is no plain, finite value, and JSON cannot keep it: {error}."
        ) from None
    blank = safetensors.torch.save(tensors, {_KEY: text})
    head = 8 + int.from_bytes(blank[:8], "little")
    sealed = blank.replace(_CRC, _crc(blank[:head]), 1)
    return sealed.replace(_SUM, hashlib.sha256(sealed).hexdigest().encode(), 1)


def decode(data: bytes) -> Contents:
    """Return what the bytes of a file hold.

    Raises:
        TicketError: the bytes are cut short, damaged, of a newer format, or no ticket; the message says which.

    """
    header = _checked_header(data)
    if header.get("format") != FORMAT:
        raise TicketError(f"it is of format {header.get('format')}; this version reads format {FORMAT}.")
    try:
        tensors = safetensors.torch.load(data)
        masks = _unpack(tensors.pop(_BITS), header["masked"])
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise TicketError(f"its tensors are not those of a ticket ({error!r}).") from None
    return Contents(header, masks, tensors)


def _checked_header(data: bytes) -> dict[str, Any]:
    """Return our part of the header once every byte of the file has been vouched for."""
    head, entries = _head(data)
    try:
        header: dict[str, Any] = json.loads(entries["__metadata__"][_KEY])
        total, crc = header["sha256"].encode(), header["header_crc32"].encode()
        end = len(head) + max(entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        raise TicketError("its header holds no ticket; it is another kind of file, or damaged.") from None
    if (len(total), len(crc)) != (64, 8) or _crc(head.replace(total, _SUM, 1).replace(crc, _CRC, 1)) != crc:
        raise TicketError(_DAMAGED.format("header"))
    if len(data) < end:
        raise TicketError(f"it is cut short: {len(data):,} of {end:,} bytes are there; fetch it again.")
    if len(data) > end:
        raise TicketError(f"it is damaged: {len(data) - end:,} bytes follow its end; fetch it again.")
    if hashlib.sha256(data.replace(total, _SUM, 1)).hexdigest().encode() != total:
        raise TicketError(_DAMAGED.format("contents"))
    return header


_DAMAGED = "it is damaged: the checksum does not fit its {}; fetch it again."


def _head(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the file up to the end of its safetensors header, and that header parsed.

    The JSON is read for itself and only then held against the length that precedes it, so that a damaged length is
    not taken for a file that was cut.
    """
    if not data:
        raise TicketError("it is empty; fetch it again.")
    if len(data) <= 8:
        raise TicketError(f"it is cut short: only {len(data)} bytes are there; fetch it again.")
    if data[8:9] != b"{":
        raise TicketError("it does not begin as a ticket does; it is another kind of file, or damaged.")
    length = int.from_bytes(data[:8], "little")
    try:
        # one character a byte, whatever the encoding, so that places in the text are places in the file
        _, end = json.JSONDecoder().raw_decode(data[8:].decode("latin-1"))
        entries = json.loads(data[8 : 8 + end])
    except (ValueError, RecursionError):
        if len(data) < 8 + length:
            raise TicketError(f"it is cut short: of its header of {length:,} bytes a part is missing.") from None
        raise TicketError(_DAMAGED.format("header")) from None
    if length != -(-end // 8) * 8:
        raise TicketError("it is damaged: the length of its header is wrong; fetch it again.")
    if len(data) < 8 + length:
        raise TicketError(f"it is cut short: {len(data):,} bytes are there; fetch it again.")
    return data[: 8 + length], entries


def _crc(head: bytes) -> bytes:
    return f"{zlib.crc32(head):08x}".encode()


def _pack(masks: Mapping[str, Tensor]) -> NDArray[np.uint8]:
    bits = [mask.detach().cpu().reshape(-1).numpy() for mask in masks.values()]
    return np.packbits(np.concatenate(bits)) if bits else np.empty(0, np.uint8)


def _unpack(packed: Tensor, shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    sizes = [math.prod(shape) for shape in shapes.values()]
    if packed.shape != (-(-sum(sizes) // 8),):
        raise ValueError(f"{sum(sizes):,} mask bits in {packed.numel():,} bytes")
    bits = torch.from_numpy(np.unpackbits(packed.numpy(), count=sum(sizes))).bool()
    parts = bits.split(sizes)
    return {name: part.reshape(shape).clone() for (name, shape), part in zip(shapes.items(), parts, strict=True)}
