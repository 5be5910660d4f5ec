"""The mixed model: one probability is made of all that is known of an entry's surroundings, and each entry teaches it.

Context mixing as in lpaq (Mahoney 2007), in integers: a dozen counters, each chosen by one kind of context, give a
probability each; their logits are added with weights, and counters and weights move towards the entry that came. Masks
that were trained are full of such contexts: inputs at the border of an image that nothing keeps, units that lost all
their weights, and neighbouring inputs that a unit wants with one sign, so that a weight of the wrong sign goes.

That last is why side information helps: the random weights are regrown from the seed before the mask is read, so what
is known of them may be used. A weight that is kept, or pruned against its sign, both say which sign is wanted there.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding.coder_context import LEVELS, CoderContext
from supermask.ticket.coding.loops import (
    LOGIT,
    ONE,
    SQUASH,
    check_end,
    finish,
    run_mixed,
)
from supermask.ticket.coding.tiling import Bits, image_width

State = tuple[int, int, int]

_PRIOR_STEP = 24  # logits from one prior to the next, 3/32 nats: 255 of them, a byte, reach over all logits
_TRIED = 1 << 18  # entries that the levels are compared on: more would take long and say the same
_WORTH = 1.01  # a level saves a hundredth or is left alone: the reader must regrow the weights for it
_HOPELESS = 1.03  # where the first rows take so much more than the other model, the rest does not make up for it
_SLACK = 64  # bytes beyond one for each entry: room for any code, so that only its size decides


@dataclass(frozen=True)
class CoderParameters:
    """What the encoder chooses and the decoder has to be given.

    Attributes:
        level: of the side information, from 0 to `coder_context.LEVELS` - 1.
        prior: logit of a fresh counter, in steps of 3/32 nats, from -127 to 127.
        width: of images that the inputs are; 1 where they are none.

    """

    level: int
    prior: int
    width: int

    def encode(self, bits: Bits, context: CoderContext, most: int) -> bytes | None:
        """Return the code of the entries, or None where it takes more than `most` bytes.

        Args:
            bits: uint8 (n,), 0 or 1; 0 wherever an entry is not coded.
            context: of the entries.
            most: bytes.

        """
        if most < 0:
            return None
        out = np.empty(most + 8, np.uint8)  # an entry writes two bytes before its size is looked at, the end two more
        low, span, size = self._run(bits, context, out, most, False)
        if size > most:
            return None
        size = finish(low, span, size, out)
        return out[:size].tobytes() if size <= most else None

    def decode(self, data: bytes, context: CoderContext) -> Bits:
        """Return the entries, uint8 (n,).

        Raises:
            TicketError: no entries have this code.

        """
        bits, stream = np.zeros(context.count, np.uint8), np.array(bytearray(data), np.uint8)
        check_end(self._run(bits, context, stream, 0, True), len(data))
        return bits

    def _run(self, bits: Bits, context: CoderContext, stream: Bits, most: int, decoding: bool) -> State:
        _, columns, kernel = context.matrix
        fresh = int(SQUASH[LOGIT + _PRIOR_STEP * self.prior]) << 16
        # from an entry to that above it: in a kernel, or in an image
        width = context.shape[-1] if kernel > 1 else self.width
        known, places = context.at_level(self.level), context.places
        state: State = run_mixed(bits, places, known, columns, kernel, width, fresh, stream, most, decoding)
        return state


def encode(bits: Bits, context: CoderContext, longest: int) -> tuple[CoderParameters, bytes] | None:
    """Return the parameters that code the first rows shortest, and the code of all entries.

    Args:
        bits: uint8 (n,), 0 or 1; 0 wherever an entry is not coded.
        context: of the entries.
        longest: bytes that another model takes for all of them.

    Returns:
        None where the first rows say that nothing will be saved, or the code is longer than that.

    """
    rows, columns, _ = context.matrix
    few = min(rows, max(1, _TRIED // columns))
    tried, first = context if few == rows else context.of_rows(few), bits[: few * columns]
    choices = _choices(first, tried)
    codes = [choice.encode(first, tried, first.size + _SLACK) for choice in choices]
    sizes = [first.size + _SLACK if code is None else len(code) for code in codes]
    level = 0
    for other in range(1, len(sizes)):
        level = other if sizes[other] * _WORTH < sizes[level] else level
    chosen, code = choices[level], codes[level]
    if few < rows:
        if sizes[level] * rows > _HOPELESS * longest * few:
            return None
        chosen = replace(chosen, prior=_prior(bits, context.places))
        code = chosen.encode(bits, context, longest)
    return None if code is None or len(code) > longest else (chosen, code)


def _choices(bits: Bits, context: CoderContext) -> list[CoderParameters]:
    """Return the parameters for each level of the side information that there is."""
    rows, columns, kernel = context.matrix
    prior = _prior(bits, context.places)
    levels = range(1 if context.known is None else LEVELS)
    if kernel > 1 or rows == 1:
        return [CoderParameters(level, prior, 1) for level in levels]
    signs = [(context.at_level(level) & np.uint16(1)).astype(np.uint8) for level in levels]
    return [CoderParameters(level, prior, image_width(1 - (signs[level] ^ bits), columns)) for level in levels]


def _prior(bits: Bits, where: Bits) -> int:
    """Return the prior nearest to the density."""
    density = int(bits.sum()) * ONE // max(1, int(where.sum()))
    return int(np.abs(_PRIORS - density).argmin()) - 127


_PRIORS: NDArray[np.int64] = SQUASH[LOGIT + _PRIOR_STEP * np.arange(-127, 128)].astype(np.int64)
