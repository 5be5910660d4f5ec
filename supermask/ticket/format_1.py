"""Tickets of the first format, a safetensors file with a bit per prunable weight: read, but not written any more."""

import hashlib
import json
import math
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from supermask.errors import TicketError

_KEY = "supermask.ticket"
_BITS = ".mask bits"


def is_format_1(data: bytes) -> bool:
    """Return whether the bytes begin as such a file does."""
    return data[8:9] == b"{" and _KEY.encode() in data[8:64]


def decode_1(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Return the header, the masks and the learned tensors, once a checksum has vouched for every byte.

    Raises:
        TicketError: the bytes are not those that were written.

    """
    try:
        entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        header: dict[str, Any] = json.loads(entries["__metadata__"][_KEY])
        total = header["sha256"].encode()
        sound = hashlib.sha256(data.replace(total, b"s" * 64, 1)).hexdigest().encode() == total
        if not sound or header["format"] != 1:
            raise ValueError("the checksum does not fit")
        tensors = safetensors.torch.load(data)
        return header, _unpacked(tensors.pop(_BITS), header["masked"]), tensors
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError):
        raise TicketError("it is of format 1, and cut short or damaged; fetch it again.") from None


def _unpacked(packed: Tensor, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    sizes = [math.prod(shape) for shape in shapes.values()]
    bits = torch.from_numpy(np.unpackbits(packed.numpy(), count=sum(sizes))).bool()
    parts = bits.split(sizes)
    return {name: part.reshape(shape).clone() for (name, shape), part in zip(shapes.items(), parts, strict=True)}
