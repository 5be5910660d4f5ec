"""Small integers that belong to the kept weights (signs, coats, draws), as bytes.

The values are listed, the most frequent first; then a mask says which entries have the first, another which of the
others have the second, and so on. What masks are coded by, rows and columns and the signs that are wanted, holds for
these too.
"""

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError, TicketError
from supermask.ticket.coding.coder_context import SideInformation
from supermask.ticket.coding.masks import Mask, decode_mask, encode_mask
from supermask.ticket.coding.varints import Reader, write

MOST_VALUES = 4096
"""Different values that a weight's symbols may have: each is a mask of its own, which takes a pass over all entries."""


def encode_symbols(
    symbols: NDArray[np.integer], kept: Mask, *, side_information: SideInformation | None = None
) -> bytes:
    """Return the bytes of the symbols; equal arguments give equal bytes.

    Args:
        symbols: integers of 32 bits at most, of the mask's shape; those of pruned entries do not matter.
        kept: bool, the mask.
        side_information: as that of the mask.

    Raises:
        SupermaskError: there are more than 4096 different ones.

    """
    values, counts = np.unique(symbols[kept], return_counts=True)
    if len(values) > MOST_VALUES:
        raise SupermaskError(f"{len(values):,} different symbols were given; at most {MOST_VALUES:,} can be coded.")
    values = values[np.argsort(-counts, kind="stable")]
    parts = [write(len(values), *(_folded(int(value)) for value in values))]
    left = kept.copy()
    for value in values[:-1]:
        chosen = left & (symbols == value)
        coded = encode_mask(chosen, where=left, side_information=side_information)
        parts += [write(len(coded)), coded]
        left &= ~chosen
    return b"".join(parts)


def decode_symbols(data: bytes, kept: Mask, *, side_information: SideInformation | None = None) -> NDArray[np.int32]:
    """Return the symbols that `encode_symbols` coded, int32 of the mask's shape, 0 where it prunes.

    Raises:
        TicketError: no symbols of this mask have these bytes.

    """
    reader = Reader(data, "treatment bytes")
    count = reader.integer()
    if count > min(MOST_VALUES, int(kept.sum())) or (count == 0 and kept.any()):
        raise TicketError(f"its treatment bytes give {count:,} values to {int(kept.sum()):,} weights.")
    values = [_unfolded(reader.integer()) for _ in range(count)]
    if len(set(values)) < count:
        raise TicketError("its treatment bytes list a value twice.")
    symbols, left = np.zeros(kept.shape, np.int32), kept.copy()
    for value in values[:-1]:
        chosen = decode_mask(reader.take(reader.integer()), kept.shape, where=left, side_information=side_information)
        symbols[chosen] = value
        left &= ~chosen
    reader.end()
    symbols[left] = values[-1] if values else 0
    return symbols


def _folded(value: int) -> int:
    """Return 0, 1, 2, 3, ... for 0, -1, 1, -2, ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def _unfolded(number: int) -> int:
    if number >= 1 << 32:
        raise TicketError("its treatment bytes hold a value of more than 32 bits.")
    return number // 2 if number % 2 == 0 else -(number // 2) - 1
