"""What coder and decoder know of a mask before its first entry: its shape, what is free, and what the seed says."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled
from supermask.ticket.coding.tiling import Bits, as_matrix

SideInformation = Callable[[], NDArray[np.uint16]]
"""Returns what the seed says of each weight, uint16 of the mask's shape; called only where it is made use of."""

_SIGN, _FIRST, _SIZE = 0x001, 0x07E, 0x780  # bits of the side information
_LEVELS = (0, _SIGN | _SIZE, _SIGN | _FIRST | _SIZE)
LEVELS = len(_LEVELS)
"""How much of the side information is used: nothing, signs and magnitudes, the first scores too."""
_UNKNOWN = 1  # a positive sign for all, so that what a place wants is whether its entry is kept


def make_side_information(weights: NDArray[np.float32], words: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return what is known of each weight before the mask is read, uint16 of the weights' shape.

    Args:
        weights: float32, the random weights; their signs are used, and their magnitudes over the largest in 16 steps.
        words: uint64 (weights.size,), the words of the stream of the first scores; a score that any search draws from
            them by its distribution function rises with them, and their highest six bits are used.

    """
    flat = np.ascontiguousarray(weights).reshape(-1)
    known = np.empty(flat.size, np.uint16)
    _know(flat, words.reshape(-1), known)
    return known.reshape(weights.shape)


@compiled
def _know(weights: Any, words: Any, known: Any) -> None:
    largest = np.float32(0)
    for i in range(weights.size):
        largest = max(largest, abs(weights[i]))
    for i in range(weights.size):
        step = 0
        if largest > 0:  # one correctly rounded division of equal numbers on every machine
            step = int(min(abs(weights[i]) / largest * np.float32(16), np.float32(15)))
        known[i] = np.int64(weights[i] > 0) | np.int64(words[i] >> np.uint64(58)) << 1 | step << 7


@dataclass(frozen=True, eq=False)
class CoderContext:
    """What is known of the entries of a mask.

    Attributes:
        shape: of the mask.
        where: uint8 (n,), 1 at the entries that are coded; None for all of them.
        known: uint16 (n,), the side information of the weights; None for nothing.

    """

    shape: tuple[int, ...]
    where: Bits | None = None
    known: NDArray[np.uint16] | None = None

    @cached_property
    def matrix(self) -> tuple[int, int, int]:
        """Rows (output units), columns (inputs of each) and entries of a kernel."""
        return as_matrix(self.shape)

    @cached_property
    def count(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @cached_property
    def places(self) -> Bits:
        """The entries that are coded, uint8 (n,)."""
        return np.ones(self.count, np.uint8) if self.where is None else self.where

    def at_level(self, level: int) -> NDArray[np.uint16]:
        """Return the side information as far as a level uses it, uint16 (n,)."""
        if level == 0 or self.known is None:
            return np.full(self.count, _UNKNOWN, np.uint16)
        return self.known & np.uint16(_LEVELS[level])

    def of_rows(self, rows: int) -> "CoderContext":
        """Return the context of the first rows alone."""
        end = rows * self.matrix[1]
        return CoderContext(
            (rows, *self.shape[1:]),
            None if self.where is None else self.where[:end],
            None if self.known is None else self.known[:end],
        )
