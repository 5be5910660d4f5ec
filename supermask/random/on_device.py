"""The numbers of `stream.Stream` made where they are used, the same to the last bit: on a GPU nothing is copied there.

Philox 4x64-10 (Salmon et al. 2011) in integers of 64 bits that wrap around, and the same arithmetic on the words as on
a CPU: each operation is one of IEEE 754, rounded correctly, and none is fused with the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supermask.random.stream import Draws, Stream, normal_quantile, philox

_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)  # of the first and the third word of a block
_BUMPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # of the two words of the key, from round to round
_HALF = (1 << 32) - 1


@dataclass(eq=False)
class DeviceStream:
    """The sequence of `Stream` on another device; each call reads on where the last ended.

    Attributes:
        seed: as `Stream` has it.
        name: as `Stream` has it.
        purpose: as `Stream` has it.
        device: where the numbers are made; it needs float64.

    """

    seed: int
    name: str
    purpose: str
    device: torch.device
    _read: int = field(default=0, init=False)  # words so far
    _inside: dict[float, Tensor] = field(default_factory=dict, init=False)  # by cut: truncated normals not read yet

    def words(self, count: int) -> Tensor:
        """Return the next `count` words, their bits as int64 (count,)."""
        first = self._read // 4
        blocks = -(-(self._read + count) // 4) - first
        # counted from 1, as numpy does: it counts before it draws
        counter = torch.arange(first + 1, first + blocks + 1, dtype=torch.int64, device=self.device)
        state = philox(self.seed, self.purpose, self.name).state["state"]
        words = torch.stack(_philox(counter, [int(word) for word in state["key"]]), 1).flatten()
        start = self._read - 4 * first
        self._read += count
        return words[start : start + count]

    def signs(self, count: int) -> Tensor:
        """Return `count` fair signs, float64 (count,), as `Stream.signs` does."""
        words = self.words(-(-count // 64))
        places = torch.arange(64, dtype=torch.int64, device=self.device)
        return 2.0 * (words[:, None] >> places & 1).flatten()[:count].double() - 1.0

    def integers(self, count: int, below: int) -> Tensor:
        """Return whole numbers from 0 to below - 1, float64 (count,), as `Stream.integers` does."""
        return (_high_half(self.words(count)) * below >> 32).double()

    def uniform(self, count: int) -> Tensor:
        """Return float64 (count,), uniform on the open interval (0, 1), as `Stream.uniform` does."""
        return ((self.words(count) >> 12 & (1 << 52) - 1).double() + 0.5) * 2.0**-52

    def normal(self, count: int) -> Tensor:
        """Return standard normal float64 (count,), as `Stream.normal` does."""
        return normal_quantile(self.uniform(count))

    def truncated_normal(self, count: int, cut: float) -> Tensor:
        """Return `count` standard normals conditioned on [-cut, cut], as `Stream.truncated_normal` does."""
        inside = self._inside.pop(cut, torch.empty(0, dtype=torch.float64, device=self.device))
        while inside.numel() < count:
            drawn = self.normal(2 * (count - inside.numel()) + 64)
            inside = torch.cat([inside, drawn[drawn.abs() <= cut]])
        self._inside[cut] = inside[count:]
        return inside[:count]


@cache
def same_bits(device: torch.device) -> bool:
    """Return whether a device makes the very numbers that the CPU makes, by examples of each kind.

    A device without float64, or whose compiler fuses operations, does not; it is found here and not in a ticket that
    nobody else can regrow.
    """
    kinds: dict[str, Callable[[Draws[Any], int], Any]] = {
        "normal": lambda stream, count: stream.normal(count),
        "truncated": lambda stream, count: stream.truncated_normal(count, 2.0),
        "uniform": lambda stream, count: stream.uniform(count),
        "signs": lambda stream, count: stream.signs(count),
        "integers": lambda stream, count: stream.integers(count, 255),
    }
    try:
        for name, draw in kinds.items():
            there, here = DeviceStream(0, name, "example", device), Stream(0, name, "example")
            # twice, because a call goes on in the middle of a block of words
            if not all(np.array_equal(draw(there, n).cpu().numpy(), draw(here, n)) for n in (100_003, 1_000)):
                return False
    except (RuntimeError, TypeError):  # as torch says that a device lacks a dtype or an operation
        return False
    return True


def _philox(counter: Tensor, key: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four words of each block, int64, for counters below 2^63."""
    zero = torch.zeros_like(counter)
    a, b, c, d = counter, zero, zero, zero
    for _ in range(_ROUNDS):
        (high, low), (upper, lower) = _product(a, _MULTIPLIERS[0]), _product(c, _MULTIPLIERS[1])
        a, b, c, d = upper ^ b ^ _signed(key[0]), lower, high ^ d ^ _signed(key[1]), low
        key = [word + bump for word, bump in zip(key, _BUMPS, strict=True)]
    return a, b, c, d


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower 64 bits of unsigned products, by halves of 32 bits."""
    low, high = word & _HALF, _high_half(word)
    first, second = factor & _HALF, factor >> 32
    crossed, across = low * second, high * first
    carry = _high_half(_high_half(low * first) + (crossed & _HALF) + (across & _HALF))
    return high * second + _high_half(crossed) + _high_half(across) + carry, word * _signed(factor)


def _high_half(word: Tensor) -> Tensor:
    return word >> 32 & _HALF


def _signed(word: int) -> int:
    """Return the signed integer with the lowest 64 bits of an integer."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)
