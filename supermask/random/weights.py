"""Frozen random weights: a tensor is regrown, bit for bit, from (seed, parameter name) and a short description."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.random.distributions import KNOWN, Distribution, Fans, from_description
from supermask.random.on_device import DeviceStream, same_bits
from supermask.random.stream import Draws, Stream

MAX_SEED = 2**63 - 1  # fits the signed 64 bits of numpy and torch
Purpose = Literal["weights", "scores"]
CHUNK = 1 << 16  # entries made at a time, so that the temporaries stay in the cache; a multiple of a word's 64 bits
DEVICE_CHUNK = 1 << 22  # the same for a GPU, where a step should have much to do, and a temporary takes 32 MiB
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class RandomWeight:
    """All that one random tensor is made of, but the seed and its name.

    Attributes:
        shape: of the tensor.
        distribution: of its entries.
        fans: fan-in and fan-out that the distribution scales by.
        scale: factor on every entry; 1/sqrt(density) keeps the variance of what a mask of that density leaves.

    """

    shape: tuple[int, ...]
    distribution: Distribution
    fans: Fans
    scale: float = 1.0

    def __post_init__(self) -> None:
        if any(size < 0 for size in self.shape):
            raise SupermaskError(f"A random weight has shape {self.shape}; sizes must not be negative.")
        if min(self.fans) < 1:
            raise SupermaskError(f"A random weight has fans {tuple(self.fans)}; they must be at least 1.")
        if not 0.0 < self.scale < math.inf:
            raise SupermaskError(f"A random weight has scale {self.scale}; it must be positive and finite.")
        # a draw is at most nine deviations from 0, and float32 holds 3.4e38
        if not self.scale * self.distribution.deviation(self.fans) < 1e37:
            raise SupermaskError(f"A random weight has scale {self.scale}, at which its values do not fit float32.")

    @property
    def count(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def grow(
        self,
        seed: int,
        name: str,
        purpose: Purpose = "weights",
        draw: int = 0,
        device: torch.device = _CPU,
    ) -> Tensor:
        """Return the tensor, float32: the same bits on every machine and every device.

        Args:
            seed: integer from 0 to 2**63 - 1.
            name: of the parameter.
            purpose: weights and scores of one seed and name are independent.
            draw: 0 is the first; further draws of one seed and name are independent of it and of each other.
            device: where it is to be. It is made there if that device makes the numbers of the CPU to the last bit
                (`on_device.same_bits`), and else made on the CPU and copied.

        Raises:
            SupermaskError: the seed is out of range.

        """
        label = checked_seed(seed), name, f"{purpose} {draw}" if draw else purpose
        # a distribution of the caller's own may draw by numpy
        there = device.type != "cpu" and type(self.distribution) in KNOWN.values() and same_bits(device)
        if not there:
            entries = np.empty(self.count, np.float32)
            self._fill(entries, Stream(*label), CHUNK)
            return torch.from_numpy(entries).reshape(self.shape).to(device)
        made = torch.empty(self.count, dtype=torch.float32, device=device)
        self._fill(made, DeviceStream(*label, device), DEVICE_CHUNK)
        return made.reshape(self.shape)

    def _fill(self, entries: Any, stream: Draws[Any], chunk: int) -> None:
        for start in range(0, self.count, chunk):
            part = entries[start : start + chunk]
            # scaled in float64, so that the only rounding to float32 is the last step
            part[:] = self.distribution.draw(stream, len(part), self.fans) * self.scale


def checked_seed(seed: int) -> int:
    """Return the seed if it is an integer from 0 to 2**63 - 1."""
    # a bool is an int in Python, and True would pass for the seed 1
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise SupermaskError(f"seed={seed!r} is out of range; it must be an integer from 0 to 2**63 - 1.")
    return seed


def describe_all(weights: Mapping[str, RandomWeight]) -> dict[str, Any]:
    """Return plain values, as `from_descriptions` reads them; each distribution is described once."""
    distributions = list(dict.fromkeys(weight.distribution for weight in weights.values()))
    return {
        "distributions": [distribution.describe() for distribution in distributions],
        "weights": {
            name: [
                list(weight.shape),
                distributions.index(weight.distribution),
                list(weight.fans),
                weight.scale,
            ]
            for name, weight in weights.items()
        },
    }


def from_descriptions(described: Mapping[str, Any]) -> dict[str, RandomWeight]:
    """Return the random weights that `describe_all` described."""
    distributions = [from_description(what) for what in described["distributions"]]
    for name, (_, which, _, _) in described["weights"].items():
        if which >= len(distributions):
            raise SupermaskError(f"{name} has distribution {which} of {len(distributions)}; the first is 0.")
    return {
        name: RandomWeight(tuple(shape), distributions[which], Fans(*fans), scale)
        for name, (shape, which, fans, scale) in described["weights"].items()
    }


def grow_all(
    weights: Mapping[str, RandomWeight], seed: int, devices: Mapping[str, torch.device] = MappingProxyType({})
) -> dict[str, Tensor]:
    """Return every tensor of a random network, float32, by parameter name.

    Args:
        weights: what they are made of.
        seed: of the network.
        devices: where they are to be, by name; those that are not named are made on the CPU.

    """
    return {name: weight.grow(seed, name, device=devices.get(name, _CPU)) for name, weight in weights.items()}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of float32 tensors in the order of their names, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        # little-endian, so that the digest is the same on every machine
        data = tensors[name].detach().cpu().contiguous().numpy().astype("<f4", copy=False)
        # names and shapes too, or the same bytes cut up in another way would have the same digest
        total.update(f"{name}\0{data.shape}\0".encode())
        total.update(data.reshape(-1).data)  # not tobytes: a copy of large weights takes longer than their hash
    return total.hexdigest()
