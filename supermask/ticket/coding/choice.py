"""What the encoder of the mixed model chooses, and tells the decoder: hints, prior and the width of images."""

from dataclasses import dataclass, replace

import numpy as np

from supermask.ticket.coding import mixing
from supermask.ticket.coding.layout import Layout
from supermask.ticket.coding.logistic import LOGIT, ONE, SQUASH
from supermask.ticket.coding.mixing import PRIOR_STEP
from supermask.ticket.coding.structure import Bits, as_matrix, image_width

_TRIED = 1 << 18  # entries that the hints are tried on
_WORTH = 1.01  # hints save a hundredth or are left alone: the reader must regrow the weights for them
_HOPELESS = 1.03  # a large mask whose first rows take so much more than the other model is left to that


@dataclass(frozen=True)
class Choice:
    """What the decoder has to know.

    Attributes:
        level: of the hints.
        prior: of a fresh counter, from -127 to 127.
        width: of images that the inputs are; 1 where they are none.

    """

    level: int
    prior: int
    width: int

    def encode(self, bits: Bits, layout: Layout, most: int) -> bytes | None:
        """Return the code of the entries, or None where it takes more than `most` bytes."""
        if most < 0:
            return None
        known, geometry = layout.known(self.level), layout.geometry(self.width)
        return mixing.encode(bits, layout.places(), known, geometry, self.prior, most)

    def decode(self, data: bytes, layout: Layout) -> Bits:
        """Return the entries.

        Raises:
            TicketError: no entries have this code.

        """
        known, geometry = layout.known(self.level), layout.geometry(self.width)
        return mixing.decode(data, layout.places(), known, geometry, self.prior)


def best(bits: Bits, layout: Layout, longest: int) -> Choice | None:
    """Return the choice that codes the first rows shortest, or None where they say that nothing will be saved.

    Args:
        bits: uint8 (n,), 0 or 1.
        layout: of the entries.
        longest: bytes that another model takes for all of them.

    """
    rows, columns, _ = as_matrix(layout.shape)
    few = min(rows, max(1, _TRIED // columns))
    tried, first = layout.of_rows(few), bits[: few * columns]
    choices = [_choice(first, tried, level) for level in range(layout.levels)]
    codes = [choice.encode(first, tried, first.size + 64) for choice in choices]
    sizes = [first.size + 64 if code is None else len(code) for code in codes]
    level = 0
    for other in range(1, len(sizes)):
        level = other if sizes[other] * _WORTH < sizes[level] else level
    if few < rows and sizes[level] * rows > _HOPELESS * longest * few:
        return None
    return replace(choices[level], prior=_prior(bits, layout.places()))


def _choice(bits: Bits, layout: Layout, level: int) -> Choice:
    rows, columns, kernel = as_matrix(layout.shape)
    if kernel > 1 or rows == 1:
        return Choice(level, _prior(bits, layout.places()), 1)
    signs = (layout.known(level) & np.uint16(1)).astype(np.uint8)
    return Choice(level, _prior(bits, layout.places()), image_width(1 - (signs ^ bits), columns))


def _prior(bits: Bits, where: Bits) -> int:
    """Return the prior nearest to the density."""
    density = int(bits.sum()) * ONE // max(1, int(where.sum()))
    return int(np.abs(_PRIORS - density).argmin()) - 127


_PRIORS = SQUASH[LOGIT + PRIOR_STEP * np.arange(-127, 128)].astype(np.int64)
