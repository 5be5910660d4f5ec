"""The mixed model: one probability is made of all that is known of an entry's surroundings, and each entry teaches it.

Context mixing as in lpaq (Mahoney 2007), in integers: a dozen counters, each chosen by one kind of surroundings, give a
probability each; their logits are added with weights, and counters and weights move towards the entry that came. Masks
that were trained are full of such surroundings: inputs at the border of an image that nothing keeps, units that lost
all their weights, and neighbouring inputs that a unit wants with one sign, so that a weight of the wrong sign goes.

That last is why `hints` help: the random weights are regrown from the seed before the mask is read, so what is known of
them may be used. A weight that is kept, or pruned against its sign, both say which sign is wanted at its place.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supermask.ticket.coding.logistic import LOGIT, SQUASH
from supermask.ticket.coding.range_coder import check_end, finish
from supermask.ticket.coding.surroundings import FIRST_WEIGHT, KINDS, run, sizes

NO_HINT = 1
"""The hint of a weight of which nothing is known."""
PRIOR_STEP = 24
"""Logits from one prior to the next: 3/32 nats."""


class Geometry(NamedTuple):
    """How the entries lie.

    Attributes:
        columns: entries of a row, which is one output unit.
        kernel: entries of a kernel, 1 in a fully connected layer; it divides `columns`.
        width: entries from one to that above it: of a kernel's row, or of the image whose pixels the inputs are.

    """

    columns: int
    kernel: int
    width: int


def encode(
    bits: NDArray[np.uint8],
    where: NDArray[np.uint8],
    hints: NDArray[np.uint16],
    geometry: Geometry,
    prior: int,
    most: int,
) -> bytes | None:
    """Return the code of the entries, or None where it takes more than `most` bytes.

    Args:
        bits: uint8 (n,), 0 or 1; 0 wherever `where` is 0.
        where: uint8 (n,), 1 at the entries that are coded.
        hints: uint16 (n,), what is known of each weight; all `NO_HINT` if nothing is.
        geometry: n is a multiple of its columns.
        prior: logit of a fresh counter's probability, in steps of `PRIOR_STEP`, from -127 to 127.
        most: bytes.

    """
    out = np.empty(most + 8, np.uint8)
    low, span, size = run(bits, where, hints, *geometry, *_fresh(bits.size, geometry, prior), out, most, False)
    if size > most:
        return None
    size = finish(low, span, size, out)
    return out[:size].tobytes() if size <= most else None


def decode(
    data: bytes, where: NDArray[np.uint8], hints: NDArray[np.uint16], geometry: Geometry, prior: int
) -> NDArray[np.uint8]:
    """Return the entries that `encode` coded with the same arguments.

    Raises:
        TicketError: no entries have this code.

    """
    bits, stream = np.zeros(where.size, np.uint8), np.array(bytearray(data), np.uint8)
    end = run(bits, where, hints, *geometry, *_fresh(bits.size, geometry, prior), stream, 0, True)
    check_end(end, len(data))
    return bits


def _fresh(entries: int, geometry: Geometry, prior: int) -> tuple[NDArray[Any], ...]:
    """Return the counters, where each kind of them begins, and the weights."""
    starts = np.cumsum((0, *sizes(entries // max(1, geometry.columns), geometry.columns)))
    probability = int(SQUASH[LOGIT + PRIOR_STEP * prior])
    counters = np.full(starts[-1], probability << 16, np.uint32)
    return counters, starts[:-1], np.full(KINDS, FIRST_WEIGHT, np.int64)
