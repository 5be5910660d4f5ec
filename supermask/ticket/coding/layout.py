"""Which entries of a mask are coded, how they lie, and what is known of the weights behind them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding.mixing import NO_HINT, Geometry
from supermask.ticket.coding.structure import Bits, as_matrix

Hints = Callable[[], NDArray[np.uint16]]
"""Returns what is known of each weight; called only where it is made use of."""

_SIGN, _FIRST, _SIZE = 0x001, 0x07E, 0x780
_LEVELS = (0, _SIGN | _SIZE, _SIGN | _FIRST | _SIZE)
LEVELS = len(_LEVELS)
"""How much of the hints is used: nothing, signs and magnitudes, the first scores too."""


def make_hints(weights: NDArray[np.float32], words: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return what is known of each weight before the mask is read, uint16 of the weights' shape.

    Args:
        weights: the random weights; their signs are used, and their magnitudes over the largest in 16 steps.
        words: the words of the stream of the first scores, as many; a score that any search draws from them by its
            distribution function rises with them, and their highest six bits are used.

    """
    magnitudes = np.abs(weights)
    largest = magnitudes.max(initial=np.float32(0))
    # one correctly rounded division of equal numbers on every machine
    steps = np.minimum(magnitudes / largest * np.float32(16), np.float32(15)) if largest > 0 else magnitudes
    first = (words >> np.uint64(58)).reshape(weights.shape)
    known = (weights > 0).astype(np.int64) | first.astype(np.int64) << 1 | steps.astype(np.int64) << 7
    return known.astype(np.uint16)


@dataclass(frozen=True)
class Layout:
    """The entries of a mask.

    Attributes:
        shape: of the mask.
        where: uint8 (n,), 1 at the entries that are coded; None for all of them.
        hints: what is known of the weights; None for nothing.

    """

    shape: tuple[int, ...]
    where: Bits | None = None
    hints: Hints | None = None

    @property
    def count(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def levels(self) -> int:
        """How many levels of hints there are to choose from."""
        return 1 if self.hints is None else LEVELS

    def places(self) -> Bits:
        """Return uint8 (n,), 1 at the entries that are coded."""
        return np.ones(self.count, np.uint8) if self.where is None else self.where

    def known(self, level: int) -> NDArray[np.uint16]:
        """Return the hints as far as a level uses them, uint16 (n,)."""
        if level == 0 or self.hints is None:
            return np.full(self.count, NO_HINT, np.uint16)
        return np.ascontiguousarray(self.hints()).reshape(self.count) & np.uint16(_LEVELS[level])

    def geometry(self, width: int) -> Geometry:
        """Return how the entries lie; `width` is that of images which the inputs are, and for no kernel."""
        _, columns, kernel = as_matrix(self.shape)
        return Geometry(columns, kernel, self.shape[-1] if kernel > 1 else width)

    def of_rows(self, rows: int) -> "Layout":
        """Return the layout of the first rows alone."""
        total, columns, _ = as_matrix(self.shape)
        if rows == total:
            return self
        where, hints = self.where, self.hints
        return Layout(
            (rows, *self.shape[1:]),
            None if where is None else where[: rows * columns],
            None if hints is None else lambda: hints().reshape(-1)[: rows * columns],
        )
