"""Masks as bytes: the codes that are compared, and what each takes of space and time."""

import lzma
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding import Hints, decode_mask, encode_mask

Mask = NDArray[np.bool_]


class Case(NamedTuple):
    """A mask, and what the seed of its ticket tells of it, if there is one."""

    mask: Mask
    hints: Hints | None = None


class Code(NamedTuple):
    """A way to write a mask as bytes and to read it back."""

    encode: Callable[[Case], bytes]
    decode: Callable[[bytes, Case], Mask]


def _unpacked(data: bytes, case: Case) -> Mask:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=case.mask.size)
    return bits.view(np.bool_).reshape(case.mask.shape)


def _packed(case: Case) -> bytes:
    return np.packbits(case.mask).tobytes()


CODES: Mapping[str, Code] = {
    "ours": Code(lambda case: encode_mask(case.mask), lambda data, case: decode_mask(data, case.mask.shape)),
    "ours, seed known": Code(
        lambda case: encode_mask(case.mask, hints=case.hints),
        lambda data, case: decode_mask(data, case.mask.shape, hints=case.hints),
    ),
    "packed": Code(_packed, _unpacked),
    "zlib": Code(
        lambda case: zlib.compress(_packed(case), 9), lambda data, case: _unpacked(zlib.decompress(data), case)
    ),
    "lzma": Code(
        lambda case: lzma.compress(_packed(case), preset=9), lambda data, case: _unpacked(lzma.decompress(data), case)
    ),
}


def constriction_version() -> str | None:
    """Return the version of the package constriction, None where it is not installed."""
    try:
        return version("constriction")
    except PackageNotFoundError:
        return None


def constriction_code() -> Code:
    """Return the range coder of the package constriction, under independent entries of the mask's density."""
    stream = import_module("constriction").stream

    def model(kept: int, count: int) -> Any:
        # its probabilities must not be 0 or 1
        return stream.model.Bernoulli(min(max(kept / count, 1e-9), 1 - 1e-9), perfect=False)

    def encode(case: Case) -> bytes:
        coder, kept = stream.queue.RangeEncoder(), int(case.mask.sum())
        coder.encode(case.mask.reshape(-1).astype(np.int32), model(kept, case.mask.size))
        return kept.to_bytes(4, "little") + coder.get_compressed().tobytes()

    def decode(data: bytes, case: Case) -> Mask:
        coder = stream.queue.RangeDecoder(np.frombuffer(data[4:], np.uint32))
        kept = int.from_bytes(data[:4], "little")
        bits = coder.decode(model(kept, case.mask.size), case.mask.size)
        return (bits != 0).reshape(case.mask.shape)

    return Code(encode, decode)


def entropy_bytes(mask: Mask) -> float:
    """Return n H(density) / 8."""
    count, kept = mask.size, int(mask.sum())
    return -sum(part * math.log2(part / count) for part in (kept, count - kept) if part) / 8


@dataclass(frozen=True)
class Coded:
    """The bytes of masks in a code, and the processor seconds to write and to read them."""

    bytes: int
    encode_s: float
    decode_s: float


def measured(cases: Sequence[Case], code: Code) -> Coded:
    """Return the bytes of all masks together, and the processor seconds to write and to read them.

    Each must come back. The time of one thread's processor is the same whatever else runs.
    """
    began = time.process_time()
    datas = [code.encode(case) for case in cases]
    coded = time.process_time()
    masks = [code.decode(data, case) for data, case in zip(datas, cases, strict=True)]
    ended = time.process_time()
    for mask, case in zip(masks, cases, strict=True):
        assert np.array_equal(mask, case.mask), "a code did not give its mask back"
    return Coded(sum(map(len, datas)), coded - began, ended - coded)
