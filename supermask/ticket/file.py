"""What a ticket's file holds, in as few bytes as are needed: `container` says how they are sealed.

The header is JSON, deflated with a dictionary of what headers have in common. Masks are coded by `coding`, with what
the seed says of the weights behind them, or as the bits that draw them; entries that the seed fixes are not stored.
Learned tensors are one safetensors file, deflated, so that many small ones share their header.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.files import tensor_bytes
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import checked_seed
from supermask.shown import shortened
from supermask.ticket.coding import decode_mask, decode_symbols, encode_mask, encode_symbols
from supermask.ticket.coding.drawn import Drawn
from supermask.ticket.coding.masks import DRAWN, checked_shape, memory_of
from supermask.ticket.coding.varints import Reader, write
from supermask.ticket.container import PREFIX, Sections, seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated
from supermask.ticket.header import OWN, Own, check_plain, read_header
from supermask.ticket.in_threads import in_threads, threads_for
from supermask.ticket.limits import Limits, check_memory
from supermask.ticket.side_information import RegrownWeights

WeightOf = Callable[[str], str]
"""Returns the name of the weight that a mask is of."""


@dataclass(frozen=True)
class Contents:
    """What a ticket's file holds.

    Attributes:
        header: plain values; with `seed`, `weights`, `distributions` and `digest` of a ticket, what is known of the
            weights helps to code the masks.
        masks: bool tensors by name.
        learned: stored tensors by name.
        treatments: by the name of their mask.
        presets: by the name of their mask; they need a `seed` in the header, and so do those that are drawn.
        drawn: by the name of their mask, the bits that draw it.

    """

    header: Mapping[str, Any]
    masks: Mapping[str, Tensor]
    learned: Mapping[str, Tensor]
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    drawn: Mapping[str, Drawn] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerSize:
    """Bytes of one mask.

    Attributes:
        mask: that its code takes.
        bound: n H(density) / 8, with the n entries that no preset fixes and their density.
        treatment: that the factors and the redraws of its kept weights take.

    """

    mask: int
    bound: float
    treatment: int


@dataclass(frozen=True)
class Sizes:
    """Where the bytes of a file are; `layers` by the name of their mask."""

    prefix: int
    header: int
    layers: Mapping[str, LayerSize]
    learned: int
    total: int


_SYMBOLS = ("factors", "redraws")


def encode(contents: Contents, weight_of: WeightOf = str) -> bytes:
    """Return the bytes of the file; equal contents give equal bytes.

    Args:
        contents: of the file.
        weight_of: of a mask, whose name is that of its weight unless this says otherwise.

    Raises:
        TicketError: the header holds what is not a plain, finite value.

    """
    text = header_text(contents)
    regrown = RegrownWeights(contents.header, checked=False)

    def coded(name: str) -> bytes:
        parts = _coded(contents, name, regrown, weight_of(name))
        return b"".join(write(len(part)) + part for part in parts)

    threads = threads_for(sum(mask.numel() for mask in contents.masks.values()))
    codes = b"".join(in_threads(coded, contents.masks, threads))
    return seal(Sections(deflated(text), codes, _stored(contents.learned)))


def header_text(contents: Contents) -> bytes:
    """Return the header as it is deflated.

    Raises:
        TicketError: it holds what is not a plain, finite value.

    """
    own = {
        "masks": {name: list(mask.shape) for name, mask in contents.masks.items()},
        "treatments": {name: _described(each) for name, each in contents.treatments.items()},
        "presets": {name: [each.pruned, each.locked] for name, each in contents.presets.items()},
    }
    header = {**contents.header, OWN: {key: value for key, value in own.items() if value}}
    check_plain(header)
    try:
        return json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise TicketError(f"The ticket holds what is not a plain, finite value, as JSON keeps: {error}.") from None


def decode(data: bytes, weight_of: WeightOf = str, *, memory: int | None = None) -> Contents:
    """Return what the bytes of a file hold.

    Args:
        data: the bytes.
        weight_of: as the file was encoded with.
        memory: bytes that reading may take, where the file is trusted with more than `limits` gives one of its size.

    Raises:
        TicketError: the bytes are cut short, damaged, of another format, or not a ticket, or would take more memory;
            the message says which.

    """
    sections = unseal(data)
    limits = Limits.of(len(data), len(sections.header), len(sections.learned), memory)
    header, own = read_header(inflated(sections.header, limits.header))
    with _sound():
        parts = list(_parts(own, sections.coded))
        check_memory("masks", _memory(own, header, parts, weight_of), limits.masks)
        regrown = RegrownWeights(header, checked=True)
        drawn = {name: _drawn(own, name, codes[0]) for name, codes in parts if codes[0][:1] == bytes([DRAWN])}
        contents = Contents(header, {}, {}, {}, _presets(own), drawn)

        def decoded(part: tuple[str, list[bytes]]) -> tuple[str, Tensor, Treatment | None]:
            name, codes = part
            return name, *_decoded(contents, own, name, codes, regrown, weight_of(name))

        threads = threads_for(8 * len(sections.coded))  # a byte holds eight entries at least
        layers = in_threads(decoded, parts, threads)
        masks = {name: mask for name, mask, _ in layers}
        treatments = {name: treatment for name, _, treatment in layers if treatment is not None}
        return replace(contents, masks=masks, learned=_loaded(sections.learned, limits), treatments=treatments)


def _memory(own: Own, header: Mapping[str, Any], parts: list[tuple[str, list[bytes]]], weight_of: WeightOf) -> int:
    """Return the bytes of memory that masks take while they are read, and random weights that have no mask in use."""
    masked = {weight_of(name) for name in own.masks}
    whole = [shape for name, (shape, *_) in header.get("weights", {}).items() if name not in masked]
    needed = 4 * sum(map(math.prod, whole))
    for name, (code, *_) in parts:
        changed = name in own.treatments or name in own.presets
        needed += memory_of(code, own.masks[name]) + changed * _CHANGED * math.prod(own.masks[name])
    return needed


_CHANGED = 40  # bytes for each entry of a mask with a treatment or a preset: an order that is drawn and sorted


def fingerprint(contents: Contents) -> bytes:
    """Return a SHA-256 of all that is encoded, in about a hundredth of the time that encoding takes.

    Raises:
        TicketError: the header holds what is not a plain, finite value.

    """
    total = hashlib.sha256(header_text(contents))
    symbols = {f"{name} {part}": getattr(each, part) for name, each in contents.treatments.items() for part in _SYMBOLS}
    for name, bits in contents.drawn.items():
        total.update(repr((name, bits.to_bytes())).encode())
    # sorted, because the order of stored tensors is not a part of the file
    for name, tensor in [*contents.masks.items(), *sorted(contents.learned.items()), *symbols.items()]:
        if tensor is not None:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            total.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.digest()


T = TypeVar("T")
_LONGEST = 600  # characters of a reason, which may quote names of a file


def read_sound(file: str | Path | BinaryIO, what: str, parse: Callable[[bytes], T]) -> T:
    """Return what the bytes of a file are parsed to; a refusal names the file.

    Args:
        file: its path, or the open file itself.
        what: the file is, for refusals.
        parse: of its bytes.

    Raises:
        TicketError: the file cannot be read, or `parse` refuses it.

    """
    path = file if isinstance(file, str | Path) else getattr(file, "name", "that was given")
    try:
        data = Path(file).read_bytes() if isinstance(file, str | Path) else file.read()
    except OSError as error:
        raise TicketError(f"Cannot read the {what} {path}: {error.strerror or error}.") from None
    if not isinstance(data, bytes):
        raise TicketError(f"The {what} {path} is open as text; open it in binary mode, as in open(path, 'rb').")
    try:
        return parse(data)
    except SupermaskError as error:
        raise TicketError(f"{path} is not a sound {what}: {shortened(str(error), _LONGEST)}") from None


def sizes(data: bytes, weight_of: WeightOf = str) -> Sizes:
    """Return where the bytes of a file are.

    Args:
        data: the bytes.
        weight_of: as the file was encoded with.

    Raises:
        TicketError: as `decode`.

    """
    contents = decode(data, weight_of)
    sections = unseal(data)
    layers = {}
    own = read_header(inflated(sections.header))[1]
    for name, (code, *codes) in _parts(own, sections.coded):
        mask = contents.masks[name]
        free, _ = _fixed(contents, name, tuple(mask.shape))
        chosen = mask if free is None else mask[torch.from_numpy(free)]
        layers[name] = LayerSize(_framed(code), _entropy(chosen), sum(map(_framed, codes)))
    return Sizes(PREFIX, len(sections.header), layers, len(sections.learned), len(data))


@contextmanager
def _sound() -> Iterator[None]:
    """Refuse in one sentence whatever goes wrong within: a sealed file may still hold anything."""
    try:
        yield
    except TicketError:
        raise
    except SupermaskError as error:
        raise TicketError(str(error)) from None
    except _STRANGE as error:
        raise TicketError(f"its parts are not those of a ticket ({error!r}).") from None


_STRANGE = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError, RecursionError),
    *(MemoryError, StopIteration, SafetensorError),
)


def _coded(contents: Contents, name: str, regrown: RegrownWeights, weight: str) -> Iterator[bytes]:
    """Yield the code of a mask, then those of its treatment."""
    mask, shape = contents.masks[name].detach().cpu().numpy(), tuple(contents.masks[name].shape)
    free, _ = _fixed(contents, name, shape)
    side = regrown.side_information(weight, shape)
    if name in contents.drawn:
        yield bytes([DRAWN]) + contents.drawn[name].to_bytes()
    else:
        yield encode_mask(mask if free is None else mask & free, where=free, side_information=side)
    if name in contents.treatments:
        for part in _SYMBOLS:
            symbols = getattr(contents.treatments[name], part)
            if symbols is not None:
                yield encode_symbols(symbols.cpu().numpy(), mask, side_information=side)


def _decoded(
    contents: Contents, own: Own, name: str, codes: list[bytes], regrown: RegrownWeights, weight: str
) -> tuple[Tensor, Treatment | None]:
    """Return a mask, and its treatment if it has one."""
    code, *others = codes
    shape = checked_shape(own.masks[name])
    free, locked = _fixed(contents, name, shape)
    side = regrown.side_information(weight, shape)
    if name in contents.drawn:
        mask = contents.drawn[name].grow(checked_seed(contents.header["seed"]), name, shape).numpy()
    else:
        bits = decode_mask(code, shape, where=free, side_information=side)
        mask = bits if locked is None else bits | locked
    if name not in own.treatments:
        return torch.from_numpy(mask), None
    symbols = [decode_symbols(other, mask, side_information=side) for other in others]
    return torch.from_numpy(mask), _treatment(own.treatments[name], symbols)


def _drawn(own: Own, name: str, code: bytes) -> Drawn:
    if name in own.presets:
        raise TicketError(f"the mask of {name} is both drawn and fixed in part.")
    return Drawn.from_bytes(code[1:], math.prod(checked_shape(own.masks[name])))


def _fixed(contents: Contents, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return which entries of a mask are free and which are locked, bool arrays; None where no preset says so."""
    if name not in contents.presets:
        return None, None
    free, locked = contents.presets[name].grow(checked_seed(contents.header["seed"]), name, shape)
    return free.numpy(), locked.numpy()


def _parts(own: Own, coded: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name of each mask and its codes: its own, then those of its treatment.

    Raises:
        TicketError: the codes end too early or too late.

    """
    reader = Reader(coded, "coded masks")
    for name in own.masks:
        count = 1 + sum(own.treatments.get(name, [])[2:])
        yield name, [reader.take(reader.integer()) for _ in range(count)]
    reader.end()


def _described(treatment: Treatment) -> list[Any]:
    return [treatment.gain, treatment.reshuffled, *(getattr(treatment, part) is not None for part in _SYMBOLS)]


def _treatment(described: list[Any], symbols: list[NDArray[np.int32]]) -> Treatment:
    gain, reshuffled, *there = described
    tensors = map(torch.from_numpy, symbols)
    factors, redraws = (next(tensors) if is_there else None for is_there in there)
    if factors is not None and bool((factors.abs() > 127).any()):
        raise TicketError("its treatments hold factors of more than eight bits.")
    return Treatment(gain, None if factors is None else factors.to(torch.int8), redraws, reshuffled)


def _presets(own: Own) -> dict[str, Preset]:
    return {name: Preset(*numbers) for name, numbers in own.presets.items()}


def _entropy(mask: Tensor) -> float:
    """Return n H(density) / 8 bytes."""
    count, kept = mask.numel(), int(mask.sum())
    return -sum(part * math.log2(part / count) for part in (kept, count - kept) if part) / 8


def _framed(code: bytes) -> int:
    return len(write(len(code))) + len(code)


def _stored(learned: Mapping[str, Tensor]) -> bytes:
    return deflated(tensor_bytes(learned)) if learned else b""


def _loaded(section: bytes, limits: Limits) -> dict[str, Tensor]:
    if not section:
        return {}
    data = inflated(section, limits.learned)
    described = int.from_bytes(data[:8], "little")
    if described > limits.header:  # a tensor without entries is described in fifty bytes, and takes a thousand
        raise TicketError(f"its learned tensors are described in {described:,} bytes, more than it is given.")
    return safetensors.torch.load(data)
