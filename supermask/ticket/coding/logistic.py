"""The logistic function and its inverse in integers: the same on every machine.

A logit is counted in 1/256 nats, a probability in 1/65536. Between the knots the logistic function is a line; its
inverse is that of just this table.
"""

import numpy as np
from numpy.typing import NDArray

LOGIT = 3072
"""Logits lie in [-3072, 3072): that is 12 nats."""
ONE = 1 << 16
ROUGH_BITS = 12
"""Bits of a probability that `STRETCH` is indexed with."""

# 65536 / (1 + exp(-t / 2)), rounded, for t = 0, ..., 24
_KNOTS = (
    *(32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374),
    *(65438, 65476, 65500, 65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65536),
)
_STEP = 128


def _squash() -> NDArray[np.int32]:
    upper = np.array(_KNOTS, np.int64)
    knots = np.concatenate([ONE - upper[:0:-1], upper])
    place, part = np.divmod(np.arange(2 * LOGIT), _STEP)
    between = (knots[place] * (_STEP - part) + knots[place + 1] * part + _STEP // 2) // _STEP
    return np.clip(between, 1, ONE - 1).astype(np.int32)


def _stretch(squash: NDArray[np.int32]) -> NDArray[np.int32]:
    middles = (np.arange(1 << ROUGH_BITS) * 2 + 1) << (15 - ROUGH_BITS)
    return (np.searchsorted(squash, middles) - LOGIT).astype(np.int32)


SQUASH = _squash()
"""Probability by logit + LOGIT: int32 (6144,), from 1 to 65535, never falling."""
STRETCH = _stretch(SQUASH)
"""Logit by the highest 12 bits of a probability: int32 (4096,), never falling."""
