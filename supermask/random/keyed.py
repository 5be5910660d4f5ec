"""Random streams named by what they are for, so that none depends on how far another was read."""

import operator

import numpy as np
from numpy.typing import NDArray

from supermask.random.stream import philox


def keyed_bits(seed: int, *purpose: str | int) -> np.random.Philox:
    """Return the counter-based bit generator of (seed, purpose), the same in every process."""
    # refuses 1.0, whose text would name another stream than 1
    return philox(operator.index(seed), "data", *purpose)


def keyed_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy Generator over `keyed_bits(seed, *purpose)`."""
    return np.random.Generator(keyed_bits(seed, *purpose))


def keyed_permutation(n: int, seed: int, *purpose: str | int) -> NDArray[np.int64]:
    """Return 0..n-1 in the order of (seed, purpose): int64, shape (n,).

    Raw bits are sorted instead of calling `Generator.permutation`, whose stream numpy may change between
    versions; the stable sort settles the (very rare) equal draws.
    """
    bits: NDArray[np.uint64] = keyed_bits(seed, *purpose).random_raw(n)
    return np.argsort(bits, kind="stable").astype(np.int64)


def keyed_bytes(shape: tuple[int, ...], seed: int, *purpose: str | int) -> NDArray[np.uint8]:
    """Return independent bytes, uniform on 0..255: uint8 of the given shape."""
    count = int(np.prod(shape))
    words: NDArray[np.uint64] = keyed_bits(seed, *purpose).random_raw(-(-count // 8))
    # little-endian, so that the bytes come in one order on every machine
    return words.astype("<u8").view(np.uint8)[:count].reshape(shape)
