"""What a ticket's file holds, in as few bytes as are needed: `ticket_container` says how they are sealed.

The header is JSON, deflated against words that headers have in common. Masks are coded by `coding`, with what the seed
tells of the weights behind them; entries that the seed fixes are not stored. Learned tensors are one safetensors file,
deflated, so that many small ones share their header.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import checked_seed
from supermask.ticket.coding import decode_mask, decode_symbols, encode_mask, encode_symbols
from supermask.ticket.coding.masks import checked_shape
from supermask.ticket.coding.varints import Reader, write
from supermask.ticket.container import PREFIX, Sections, seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated
from supermask.ticket.format_1 import decode_1, is_format_1
from supermask.ticket.side_information import Known


@dataclass(frozen=True)
class Contents:
    """What a ticket's file holds.

    Attributes:
        header: plain values; with `seed`, `weights`, `distributions` and `digest` of a ticket, what is known of the
            weights helps to code the masks.
        masks: bool tensors by the name of their weight, which a number and a slash may precede.
        learned: stored tensors by name.
        treatments: by the name of their mask.
        presets: by the name of their mask; they need a `seed` in the header.

    """

    header: Mapping[str, Any]
    masks: Mapping[str, Tensor]
    learned: Mapping[str, Tensor]
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)


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


_OWN = "file"  # the part of the header that says how the coded section is read
_SYMBOLS = ("factors", "redraws")


def encode(contents: Contents) -> bytes:
    """Return the bytes of the file; equal contents give equal bytes.

    Raises:
        TicketError: the header holds what is no plain, finite value.

    """
    known = Known(contents.header, checked=False)
    own = {
        "masks": {name: list(mask.shape) for name, mask in contents.masks.items()},
        "treatments": {name: _described(each) for name, each in contents.treatments.items()},
        "presets": {name: [each.pruned, each.locked] for name, each in contents.presets.items()},
    }
    header = {**contents.header, _OWN: {key: value for key, value in own.items() if value}}
    try:
        text = json.dumps(header, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TicketError(
            f"The ticket holds what is no plain, finite value, and JSON cannot keep it: {error}."
        ) from None
    coded = b"".join(write(len(part)) + part for name in contents.masks for part in _coded(contents, name, known))
    return seal(Sections(deflated(text.encode()), coded, _stored(contents.learned)))


def decode(data: bytes) -> Contents:
    """Return what the bytes of a file hold.

    Raises:
        TicketError: the bytes are cut short, damaged, of a newer format, or no ticket; the message says which.

    """
    if is_format_1(data):
        return Contents(*decode_1(data))
    sections = unseal(data)
    header, own = _header(sections.header)
    with _sound():
        known = Known(header, checked=True)
        contents = Contents(header, {}, {}, {}, _presets(own))
        masks, treatments = dict[str, Tensor](), dict[str, Treatment]()
        for name, (code, *codes) in _parts(own, sections.coded):
            shape = checked_shape(own["masks"][name])
            free, locked = _fixed(contents, name, shape)
            hints = known.hints(name, shape)
            bits = decode_mask(code, shape, where=free, hints=hints)
            masks[name] = torch.from_numpy(bits if locked is None else bits | locked)
            if name in own.get("treatments", {}):
                symbols = [decode_symbols(code, masks[name].numpy(), hints=hints) for code in codes]
                treatments[name] = _treatment(own["treatments"][name], symbols)
        return replace(contents, masks=masks, learned=_loaded(sections.learned), treatments=treatments)


def sizes(data: bytes) -> Sizes:
    """Return where the bytes of a file are.

    Raises:
        TicketError: as `decode`; or the file is of format 1, whose masks take an eighth of a byte for each entry.

    """
    contents = decode(data)
    if is_format_1(data):
        raise TicketError("it is of format 1, which does not code its masks; save it again to see what they take.")
    sections = unseal(data)
    layers = {}
    for name, (code, *codes) in _parts(_header(sections.header)[1], sections.coded):
        mask = contents.masks[name]
        free, _ = _fixed(contents, name, tuple(mask.shape))
        chosen = mask if free is None else mask[torch.from_numpy(free)]
        layers[name] = LayerSize(_framed(code), _entropy(chosen), sum(map(_framed, codes)))
    return Sizes(PREFIX, len(sections.header), layers, len(sections.learned), len(data))


@contextmanager
def _sound() -> Iterator[None]:
    """Refuse whatever goes wrong within, in one sentence: a sealed file may still hold anything."""
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


def _coded(contents: Contents, name: str, known: Known) -> Iterator[bytes]:
    """Yield the code of a mask, then those of its treatment."""
    mask, shape = contents.masks[name].detach().cpu().numpy(), tuple(contents.masks[name].shape)
    free, _ = _fixed(contents, name, shape)
    hints = known.hints(name, shape)
    yield encode_mask(mask if free is None else mask & free, where=free, hints=hints)
    if name in contents.treatments:
        for part in _SYMBOLS:
            symbols = getattr(contents.treatments[name], part)
            if symbols is not None:
                yield encode_symbols(symbols.cpu().numpy(), mask, hints=hints)


def _fixed(contents: Contents, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return which entries of a mask are free and which are locked, bool arrays; None where no preset says so."""
    if name not in contents.presets:
        return None, None
    free, locked = contents.presets[name].grow(checked_seed(contents.header["seed"]), name, shape)
    return free.numpy(), locked.numpy()


def _parts(own: Mapping[str, Any], coded: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name of each mask and its codes: its own, then those of its treatment.

    Raises:
        TicketError: the codes end too early or too late.

    """
    reader = Reader(coded, "coded masks")
    for name in own.get("masks", {}):
        count = 1 + sum(own.get("treatments", {}).get(name, [])[2:])
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


def _presets(own: Mapping[str, Any]) -> dict[str, Preset]:
    return {name: Preset(*numbers) for name, numbers in own.get("presets", {}).items()}


def _header(section: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and our own part of it."""
    with _sound():
        header: dict[str, Any] = json.loads(inflated(section))
        return header, header.pop(_OWN)


def _entropy(mask: Tensor) -> float:
    """Return n H(density) / 8 bytes."""
    count, kept = mask.numel(), int(mask.sum())
    return -sum(part * math.log2(part / count) for part in (kept, count - kept) if part) / 8


def _framed(code: bytes) -> int:
    return len(write(len(code))) + len(code)


def _stored(learned: Mapping[str, Tensor]) -> bytes:
    # a copy of each, because safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in learned.items()}
    return deflated(safetensors.torch.save(tensors)) if tensors else b""


def _loaded(section: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(inflated(section)) if section else {}
