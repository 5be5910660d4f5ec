"""Masks as bytes.

The first byte says how a mask is coded: its lowest two bits the model, the next two how much of the side information is
used, then whether it is one of whole blocks, and whether the input channels come last. The encoder takes the shortest.
A first byte of `DRAWN` says that bits draw the mask, which is not read here (see `drawn`).
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError, TicketError
from supermask.ticket.coding import counted, mixed
from supermask.ticket.coding.coder_context import LEVELS, CoderContext, SideInformation
from supermask.ticket.coding.tiling import WIDEST_GROUP, Bits, as_matrix, block, group, turned
from supermask.ticket.coding.varints import Reader, write

Mask = NDArray[np.bool_]

LARGEST = 1 << 31
"""Entries of the largest mask: a damaged shape is refused before memory is taken for it."""

_COUNTED, _GROUPED, _MIXED, DRAWN = range(4)
_BLOCKS, _TURNED = 16, 32


def encode_mask(mask: Mask, *, where: Mask | None = None, side_information: SideInformation | None = None) -> bytes:
    """Return the bytes of a mask; equal arguments give equal bytes.

    Args:
        mask: bool of any shape, first axis output units, second input units, others the kernel.
        where: bool of its shape, the entries that the reader does not know; those elsewhere must be False.
        side_information: returns what is known of each weight, uint16 of its shape, as `make_side_information` does.

    Raises:
        SupermaskError: it has more than 2**31 entries.

    """
    if mask.size > LARGEST:
        raise SupermaskError(f"A mask has {mask.size:,} entries; at most {LARGEST:,} can be coded.")
    if mask.size == 0:
        return b""
    bits, free = _flat(mask), None if where is None else _flat(where)
    rows, columns, _ = as_matrix(mask.shape)
    high, wide = block(bits.reshape(rows, columns)) if free is None else (1, 1)
    if high * wide > 1:
        corners = np.ascontiguousarray(bits.reshape(rows, columns)[::high, ::wide])
        inner = _shortest(corners.reshape(-1), CoderContext(corners.shape))
        return bytes([inner[0] | _BLOCKS]) + write(high, wide) + inner[1:]
    known = None if side_information is None else _known(side_information)
    return _shortest(bits, CoderContext(mask.shape, free, known))


def decode_mask(
    data: bytes,
    shape: tuple[int, ...],
    *,
    where: Mask | None = None,
    side_information: SideInformation | None = None,
) -> Mask:
    """Return the mask that `encode_mask` coded: bool of the shape, False outside `where`.

    Raises:
        TicketError: no mask of this shape has these bytes; or they are of one that was coded with side information
            and there is none.

    """
    checked_shape(shape)
    reader = Reader(data, "mask bytes")
    if math.prod(shape) == 0:
        reader.end()
        return np.zeros(shape, np.bool_)
    (head,) = reader.take(1)
    if not head & _BLOCKS:
        known = _known(side_information) if _level(head) and side_information is not None else None
        context = CoderContext(shape, None if where is None else _flat(where), known)
        return _read(head, reader, context).view(np.bool_).reshape(shape)
    rows, columns, _ = as_matrix(shape)
    high, wide = reader.integer(), reader.integer()
    if where is not None or high * wide < 2 or rows % high or columns % wide:
        raise TicketError(f"its mask bytes give blocks of {high} x {wide}, which do not tile the mask.")
    inner = (rows // high, columns // wide)
    corners = _read(head & ~_BLOCKS, reader, CoderContext(inner)).view(np.bool_).reshape(inner)
    return np.repeat(np.repeat(corners, high, 0), wide, 1).reshape(shape)


def checked_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape as a tuple.

    Raises:
        TicketError: no mask that can be coded has it.

    """
    shape = tuple(shape)
    if any(size < 0 for size in shape) or math.prod(shape) > LARGEST:
        raise TicketError(f"a mask of shape {shape} cannot be read.")
    return shape


def memory_of(code: bytes, shape: tuple[int, ...]) -> int:
    """Return how many bytes of memory a mask takes while it is read, by the first byte of its code and its shape."""
    head, (_, columns, _) = code[0] if code else _COUNTED, as_matrix(shape)
    if head & _BLOCKS or head & 3 == _GROUPED:
        return 2 * math.prod(shape)  # the entries, and once more in another order
    if head & 3 == _COUNTED:
        return math.prod(shape)
    if head == DRAWN:
        return 32 * math.prod(shape)  # words, their order, and what is taken of it for each block
    # for each entry which are coded and their signs, or words and weights that are grown; for each column its counters
    return (32 if _level(head) else 5) * math.prod(shape) + 28 * columns


def _flat(mask: Mask) -> Bits:
    return np.ascontiguousarray(mask).reshape(-1).astype(np.uint8)


def _known(side_information: SideInformation) -> NDArray[np.uint16]:
    return np.ascontiguousarray(side_information()).reshape(-1)


def _shortest(bits: Bits, context: CoderContext) -> bytes:
    """Return the shortest code of entries that are not coded by blocks."""
    shortest = _counted(bits, context)
    if context.where is None:
        shortest = min([shortest, *_grouped(bits, context)], key=len)
    return _mixed(bits, context, len(shortest)) or shortest


def _counted(bits: Bits, context: CoderContext) -> bytes:
    free = bits if context.where is None else bits[context.where != 0]
    kept = counted.urns(free, counted.URN)
    return bytes([_COUNTED]) + write(*kept.tolist()) + counted.encode(free, counted.URN, kept)


def _grouped(bits: Bits, context: CoderContext) -> list[bytes]:
    """Return the codes of a mask whose groups all keep the same number, in either order of its entries; else none."""
    _, columns, kernel = context.matrix
    orders = {_GROUPED: bits} if kernel == 1 else {_GROUPED: bits, _GROUPED | _TURNED: turned(bits, kernel, columns)}
    found = {head: group(order) for head, order in orders.items()}
    return [
        bytes([head]) + write(*pair) + counted.encode(orders[head], pair[0], counted.urns(orders[head], pair[0]))
        for head, pair in found.items()
        if pair is not None
    ]


def _mixed(bits: Bits, context: CoderContext, longest: int) -> bytes | None:
    """Return the mixed code if it takes fewer than so many bytes."""
    found = mixed.encode(bits, context, longest)
    if found is None:
        return None
    chosen, code = found
    data = bytes([_MIXED | chosen.level << 2, chosen.prior & 255]) + write(chosen.width) + code
    return data if len(data) < longest else None


def _read(head: int, reader: Reader, context: CoderContext) -> Bits:
    """Return the entries that follow the first byte."""
    if head in (_GROUPED, _GROUPED | _TURNED) and context.where is None:
        return _read_groups(head == _GROUPED | _TURNED, reader, context)
    if head == _COUNTED:
        return _read_counted(reader, context)
    level = _level(head)
    if level is None:
        raise TicketError(f"its mask bytes begin with {head}, an unknown mask encoding.")
    if level and context.known is None:
        raise TicketError("its mask bytes can only be read with the random weights at hand.")
    prior, width = int.from_bytes(reader.take(1), signed=True), reader.integer()
    if prior == -128 or width > max(1, context.count):
        raise TicketError("its mask bytes give model parameters that do not exist.")
    return mixed.CoderParameters(level, prior, width).decode(reader.rest(), context)


def _level(head: int) -> int | None:
    """Return how much of the side information a mixed code uses, None of any other first byte."""
    level = head >> 2
    return level if head & 3 == _MIXED and level < LEVELS else None


def _read_counted(reader: Reader, context: CoderContext) -> Bits:
    count = context.count if context.where is None else int(context.where.sum())
    sizes = [min(counted.URN, count - start) for start in range(0, count, counted.URN)]
    kept = [reader.integer() for _ in sizes]
    if any(ones > size for ones, size in zip(kept, sizes, strict=True)):
        raise TicketError("its mask bytes keep more entries than there are.")
    free = counted.decode(reader.rest(), count, counted.URN, np.array(kept, np.int64))
    if context.where is None:
        return free
    bits = np.zeros(context.count, np.uint8)
    bits[context.where != 0] = free
    return bits


def _read_groups(is_turned: bool, reader: Reader, context: CoderContext) -> Bits:
    size, ones = reader.integer(), reader.integer()
    if not 1 < size <= WIDEST_GROUP or context.count % size or ones > size:
        raise TicketError(f"its mask bytes keep {ones} of each {size} entries, which is impossible.")
    kept = np.full(context.count // size, ones, np.int64)
    bits = counted.decode(reader.rest(), context.count, size, kept)
    _, columns, kernel = context.matrix
    # turning back is turning with the two axes exchanged
    return turned(bits, columns // kernel, columns) if is_turned else bits
