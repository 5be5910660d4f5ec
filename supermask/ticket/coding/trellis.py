"""The compiled loops of masks that bits draw: a trellis whose every path is a mask, grown from a key.

A block of n weights is drawn by B bits. The state before weight i is the last `memory` of its first i B // n + 1 bits,
the newest one lowest, and the weight is kept if the highest 16 bits of mix(mix(key + i) + GOLDEN state) are below its
chance. So each of the 2^B rows of bits is a mask whose entries are kept with that chance, and two rows that differ lead
to unrelated entries for as long as their states differ. All arithmetic of the reader is in integers modulo 2^64; mix is
the finaliser of SplitMix64 (Steele, Lea, Flood 2014; its constants are Stafford's variant 13).

The writer draws the row of bits. With gains g_i(m) = log(q_i(m) / p(m)), row b has the weight exp(sum g_i(m_i(b))),
which is minimal random coding (Havasi, Peharz, Hernandez-Lobato 2019, algorithm 1) with all 2^B rows as its candidates:
the sum over paths goes forward through the trellis, and a path is drawn going backward.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supermask.compiled import compiled

MOST_MEMORY = 24
"""Bits of the largest state. The writer takes 2^memory operations for each weight, the reader one."""

ONE = 1 << 16
"""What a chance is counted in."""

# tables, because the compiler takes plain integers beyond 2**63 for other types
_STAFFORD = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
_GOLDEN = np.array([0x9E3779B97F4A7C15], np.uint64)
_SHIFTS = np.array([30, 27, 31, 48], np.uint64)


@compiled
def _mix(word: Any) -> Any:
    word = (word ^ (word >> _SHIFTS[0])) * _STAFFORD[0]
    word = (word ^ (word >> _SHIFTS[1])) * _STAFFORD[1]
    return word ^ (word >> _SHIFTS[2])


@compiled
def grow(key: Any, memory: int, bits: NDArray[np.uint8], chance: int, mask: NDArray[np.uint8]) -> None:
    """Write the mask of a row of bits.

    Args:
        key: uint64.
        memory: bits of a state.
        bits: uint8 (B,), 0 or 1.
        chance: in 1/65536.
        mask: uint8 (n,), written.

    """
    count, size, last, state, read = mask.size, bits.size, (1 << memory) - 1, 0, 0
    for place in range(count):
        while read < size and read <= place * size // count:
            state = ((state << 1) | bits[read]) & last
            read += 1
        word = _mix(_mix(key + np.uint64(place)) + _GOLDEN[0] * np.uint64(state))
        mask[place] = np.int64(word >> _SHIFTS[3]) < chance


@compiled
def _advance(key: Any, first: int, last: int, chance: int, gains: Any, before: Any, after: Any) -> float:
    """Take one bit and the weights that follow it; return the logarithm of what the states' weights were divided by."""
    states = before.size
    gain = np.zeros(states)
    for place in range(first, last):
        base = _mix(key + np.uint64(place))
        pruned, kept = gains[place, 0], gains[place, 1]
        for state in range(states):
            word = _mix(base + _GOLDEN[0] * np.uint64(state))
            gain[state] += kept if np.int64(word >> _SHIFTS[3]) < chance else pruned
    highest = -math.inf
    for state in range(states):
        low = state >> 1
        after[state] = before[low] + before[low | (states >> 1)]
        if after[state] > 0.0 and gain[state] > highest:
            highest = gain[state]
    total = 0.0
    for state in range(states):
        value = after[state] * math.exp(gain[state] - highest) if after[state] > 0.0 else 0.0
        after[state] = value
        total += value
    for state in range(states):
        after[state] /= total
    return highest + math.log(total)


@compiled
def _forward(key: Any, chance: int, gains: Any, weights: Any) -> float:
    """Fill the weights of the states after each bit, float32 (B, 2^memory); return the logarithm of their whole sum."""
    size, count = weights.shape[0], gains.shape[0]
    before = np.zeros(weights.shape[1], np.float32)
    before[0] = 1.0
    total = 0.0
    for bit in range(size):
        # the weights i with i size // count = bit
        first, last = -((-bit * count) // size), -((-(bit + 1) * count) // size)
        total += _advance(key, first, last, chance, gains, before, weights[bit])
        before = weights[bit]
    return total


@compiled
def _backward(weights: Any, uniform: Any, bits: NDArray[np.uint8]) -> None:
    """Draw a path from its end, and write its bits."""
    size, states = weights.shape
    state, sum_so_far, wanted = -1, 0.0, uniform[size - 1] * np.sum(weights[size - 1])
    for each in range(states):
        if weights[size - 1, each] > 0.0 and (state < 0 or sum_so_far < wanted):
            state = each
        sum_so_far += weights[size - 1, each]
    for bit in range(size - 1, -1, -1):
        bits[bit] = state & 1
        low = state >> 1
        high = low | (states >> 1)
        if bit > 0:
            here, there = weights[bit - 1, low], weights[bit - 1, high]
            state = high if uniform[bit - 1] * (here + there) >= here else low


def draw(
    key: np.uint64, memory: int, size: int, chance: int, gains: NDArray[np.float64], uniform: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], float]:
    """Draw a row of bits.

    Args:
        key: of the block.
        memory: bits of a state.
        size: bits, at least 1 and at most one for each weight.
        chance: in 1/65536.
        gains: float64 (n, 2), what the logarithm of a row's weight gains by each weight that is pruned, and kept.
        uniform: float64 (size,), in [0, 1), by which the row is drawn.

    Returns:
        The bits, uint8 (size,), and the logarithm of the sum of all rows' weights over their number: 0 in the mean.

    """
    weights = np.empty((size, 1 << memory), np.float32)
    bits = np.empty(size, np.uint8)
    total = _forward(key, chance, gains, weights)
    _backward(weights, uniform, bits)
    return bits, total - size * math.log(2.0)
