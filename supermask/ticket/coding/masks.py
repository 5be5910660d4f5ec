"""Masks as bytes.

The first byte says how a mask is coded: its lowest two bits the model, the next two how much of the hints is used, then
whether it is one of whole blocks, and whether the input channels come last. The encoder takes the shortest.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError, TicketError
from supermask.ticket.coding import counted
from supermask.ticket.coding.choice import Choice, best
from supermask.ticket.coding.layout import LEVELS, Hints, Layout
from supermask.ticket.coding.structure import WIDEST_GROUP, Bits, as_matrix, block, group, turned
from supermask.ticket.coding.varints import Reader, write

Mask = NDArray[np.bool_]

LARGEST = 1 << 31
"""Entries of the largest mask."""

_COUNTED, _GROUPED, _MIXED = range(3)
_BLOCKS, _TURNED = 16, 32


def encode_mask(mask: Mask, *, where: Mask | None = None, hints: Hints | None = None) -> bytes:
    """Return the bytes of a mask; equal arguments give equal bytes.

    Args:
        mask: bool of any shape, first axis output units, second input units, others the kernel.
        where: bool of its shape, the entries that the reader does not know; those elsewhere must be False.
        hints: returns what is known of each weight, uint16 of its shape, as `layout.make_hints` does.

    Raises:
        SupermaskError: it has more than 2**31 entries.

    """
    if mask.size > LARGEST:
        raise SupermaskError(f"A mask has {mask.size:,} entries; at most {LARGEST:,} can be coded.")
    if mask.size == 0:
        return b""
    bits = np.ascontiguousarray(mask).reshape(-1).astype(np.uint8)
    if where is not None:
        free = np.ascontiguousarray(where).reshape(-1).astype(np.uint8)
        return _plain(bits, Layout(mask.shape, free, hints))
    rows, columns, _ = as_matrix(mask.shape)
    high, wide = block(bits.reshape(rows, columns))
    if high * wide == 1:
        return _plain(bits, Layout(mask.shape, None, hints))
    corners = np.ascontiguousarray(bits.reshape(rows, columns)[::high, ::wide])
    inner = _plain(corners.reshape(-1), Layout(corners.shape, None, None))
    return bytes([inner[0] | _BLOCKS]) + write(high, wide) + inner[1:]


def decode_mask(data: bytes, shape: tuple[int, ...], *, where: Mask | None = None, hints: Hints | None = None) -> Mask:
    """Return the mask that `encode_mask` coded: bool of the shape, False outside `where`.

    Raises:
        TicketError: no mask of this shape has these bytes; or they are of one that was coded with hints and there are
            none.

    """
    checked_shape(shape)
    reader = Reader(data, "mask bytes")
    if math.prod(shape) == 0:
        reader.end()
        return np.zeros(shape, np.bool_)
    (head,) = reader.take(1)
    if not head & _BLOCKS:
        free = None if where is None else np.ascontiguousarray(where).reshape(-1).astype(np.uint8)
        return _read(head, reader, Layout(shape, free, hints)).view(np.bool_).reshape(shape)
    rows, columns, _ = as_matrix(shape)
    high, wide = reader.integer(), reader.integer()
    if where is not None or high * wide < 2 or rows % high or columns % wide:
        raise TicketError(f"its mask bytes speak of blocks of {high} x {wide}, which do not tile the mask.")
    inner = (rows // high, columns // wide)
    corners = _read(head & ~_BLOCKS, reader, Layout(inner, None, None)).view(np.bool_).reshape(inner)
    return np.repeat(np.repeat(corners, high, 0), wide, 1).reshape(shape)


def checked_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape as a tuple.

    Raises:
        TicketError: no mask that can be coded has it.

    """
    shape = tuple(shape)
    if any(size < 0 for size in shape) or math.prod(shape) > LARGEST:
        raise TicketError(f"a mask of shape {shape} is none that can be read.")
    return shape


def _plain(bits: Bits, layout: Layout) -> bytes:
    """Return the shortest code of entries that no blocks are made of."""
    shortest = _counted(bits, layout)
    if layout.where is None:
        shortest = min([shortest, *_grouped(bits, layout)], key=len)
    return _mixed(bits, layout, len(shortest)) or shortest


def _counted(bits: Bits, layout: Layout) -> bytes:
    free = bits if layout.where is None else bits[layout.where != 0]
    kept = counted.urns(free, counted.URN)
    return bytes([_COUNTED]) + write(*kept.tolist()) + counted.encode(free, counted.URN, kept)


def _grouped(bits: Bits, layout: Layout) -> list[bytes]:
    """Return the codes of a mask whose groups keep as many each, in either order of its entries; none of another."""
    _, columns, kernel = as_matrix(layout.shape)
    orders = {_GROUPED: bits} if kernel == 1 else {_GROUPED: bits, _GROUPED | _TURNED: turned(bits, kernel, columns)}
    found = {head: group(order) for head, order in orders.items()}
    return [
        bytes([head]) + write(*pair) + counted.encode(orders[head], pair[0], counted.urns(orders[head], pair[0]))
        for head, pair in found.items()
        if pair is not None
    ]


def _mixed(bits: Bits, layout: Layout, longest: int) -> bytes | None:
    """Return the mixed code if it takes fewer than so many bytes."""
    chosen = best(bits, layout, longest)
    if chosen is None:
        return None
    head = bytes([_MIXED | chosen.level << 2, chosen.prior & 255]) + write(chosen.width)
    code = chosen.encode(bits, layout, longest - 1 - len(head))
    return None if code is None else head + code


def _read(head: int, reader: Reader, layout: Layout) -> Bits:
    """Return the entries that follow the first byte."""
    if head in (_GROUPED, _GROUPED | _TURNED) and layout.where is None:
        return _read_groups(head == _GROUPED | _TURNED, reader, layout)
    if head == _COUNTED:
        return _read_counted(reader, layout)
    level = head >> 2
    if head & 3 != _MIXED or level >= LEVELS:
        raise TicketError(f"its mask bytes begin with {head}, which is no way of coding a mask.")
    if level and layout.hints is None:
        raise TicketError("its mask bytes can only be read with the random weights at hand.")
    prior, width = int.from_bytes(reader.take(1), signed=True), reader.integer()
    if prior == -128 or width > max(1, layout.count):
        raise TicketError("its mask bytes speak of a model that does not exist.")
    return Choice(level, prior, width).decode(reader.rest(), layout)


def _read_counted(reader: Reader, layout: Layout) -> Bits:
    count = layout.count if layout.where is None else int(layout.where.sum())
    sizes = [min(counted.URN, count - start) for start in range(0, count, counted.URN)]
    kept = [reader.integer() for _ in sizes]
    if any(ones > size for ones, size in zip(kept, sizes, strict=True)):
        raise TicketError("its mask bytes keep more entries than there are.")
    free = counted.decode(reader.rest(), count, counted.URN, np.array(kept, np.int64))
    if layout.where is None:
        return free
    bits = np.zeros(layout.count, np.uint8)
    bits[layout.where != 0] = free
    return bits


def _read_groups(is_turned: bool, reader: Reader, layout: Layout) -> Bits:
    size, ones = reader.integer(), reader.integer()
    if not 1 < size <= WIDEST_GROUP or layout.count % size or ones > size:
        raise TicketError(f"its mask bytes keep {ones} of each {size} entries, which cannot be.")
    kept = np.full(layout.count // size, ones, np.int64)
    bits = counted.decode(reader.rest(), layout.count, size, kept)
    _, columns, kernel = as_matrix(layout.shape)
    # turning back is turning with the two axes exchanged
    return turned(bits, columns // kernel, columns) if is_turned else bits
