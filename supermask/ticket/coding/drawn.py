"""Masks that bits draw from what the seed grows, in place of masks whose entries are stored (see `trellis`).

A search that trains a chance for every weight needs any mask that these chances make likely, and no one of them in
particular. To name such a mask among those that the seed grows takes the KL divergence of the chances from the prior
and little more, where the entries of a mask take the entropy of the chances besides (Havasi et al. 2019).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.random.stream import Stream
from supermask.ticket.coding import trellis
from supermask.ticket.coding.varints import Reader, write

MOST_BLOCKS = 255
_LEAST_GAIN = -14.0  # nats: that a row of bits loses by an entry of a chance below 1e-6 is not told from one of 1e-6


@dataclass(frozen=True, eq=False)
class Drawn:
    """A mask as the bits that draw it, given its seed, its name and its shape.

    The entries of the mask are dealt to the blocks in an order that the seed draws, so that all blocks need about the
    same number of bits. Block b of B bits in k blocks has the bits from b B // k on.

    Attributes:
        chance: of each entry to be kept before anything is known of it, in 1/65536, from 1 to 65535.
        blocks: number of blocks, at least 1.
        memory: bits that a state of the trellis remembers, from 1 to 24.
        bits: uint8 (B,), 0 or 1, those of one block after the other.

    Raises:
        SupermaskError: a number is out of range.

    """

    chance: int
    blocks: int
    memory: int
    bits: NDArray[np.uint8]

    def __post_init__(self) -> None:
        sound = 0 < self.chance < trellis.ONE and 0 < self.blocks <= MOST_BLOCKS
        if not sound or not 0 < self.memory <= trellis.MOST_MEMORY:
            raise SupermaskError(
                f"A drawn mask has a chance of {self.chance} / 65536, {self.blocks} blocks, a memory of {self.memory};"
                f" they are from 1 to 65535, {MOST_BLOCKS} and {trellis.MOST_MEMORY}."
            )

    def grow(self, seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return the mask, bool of the shape; the same on every machine.

        Raises:
            SupermaskError: the mask has fewer entries than there are bits.

        """
        plan = self.plan(seed, name, math.prod(shape))
        mask = np.zeros(plan.count, np.bool_)
        for block in range(self.blocks):
            mask[plan.entries(block)] = plan.grow(block, self.bits[plan.part(block)])
        return torch.from_numpy(mask.reshape(shape))

    def plan(self, seed: int, name: str, count: int) -> "Plan":
        """Return which of so many entries, and which of the bits, belong to which block.

        Raises:
            SupermaskError: there are fewer entries than bits.

        """
        return Plan(seed, name, count, self)

    def check(self, seed: int, name: str, mask: Tensor) -> None:
        """Hold a mask against the one that the bits draw.

        Raises:
            TicketError: it is another.

        """
        if not torch.equal(self.grow(seed, name, tuple(mask.shape)), mask.cpu()):
            raise TicketError(f"The mask of {name} is not the one that its bits draw.")

    def to_bytes(self) -> bytes:
        """Return the bytes: the chance in two, blocks and memory, the number of bits, the bits, first one highest.

        Spare bits of the last byte are 0.
        """
        head = self.chance.to_bytes(2, "little") + bytes([self.blocks, self.memory]) + write(self.bits.size)
        return head + np.packbits(self.bits).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, count: int) -> "Drawn":
        """Return the bits of a mask of so many entries.

        Raises:
            SupermaskError: no such mask has these bytes.

        """
        reader = Reader(data, "drawn mask")
        chance, (blocks, memory) = int.from_bytes(reader.take(2), "little"), reader.take(2)
        size = reader.integer()
        if size > count:
            raise TicketError(f"its drawn mask has {size:,} bits for {count:,} entries.")
        packed = np.frombuffer(reader.take(-(-size // 8)), np.uint8)
        reader.end()
        bits = np.unpackbits(packed)
        if bits[size:].any():
            raise TicketError("its drawn mask has spare bits that are not 0.")
        return cls(chance, blocks, memory, bits[:size])


class Plan:
    """Which entries and which bits of a mask belong to which block.

    Args:
        seed: of the ticket.
        name: of the parameter.
        count: entries of the mask.
        drawn: the mask; its bits need not be there yet, but their number.

    Raises:
        SupermaskError: there are more bits than entries.

    """

    def __init__(self, seed: int, name: str, count: int, drawn: Drawn) -> None:
        self.count, self.blocks, self.size = count, drawn.blocks, drawn.bits.size
        self._chance, self._memory = drawn.chance, drawn.memory
        if self.size > count:
            raise SupermaskError(
                f"{self.size:,} bits are too many to draw the {count:,} entries of {name}; give one each at most."
            )
        self._order = order_of(seed, name, count)
        self._keys = Stream(seed, name, "drawn").words(drawn.blocks)

    def entries(self, block: int) -> NDArray[np.int64]:
        """Return the flat places of the entries of a block, in the order in which they are drawn."""
        return self._order[self.count * block // self.blocks : self.count * (block + 1) // self.blocks]

    def part(self, block: int) -> slice:
        """Return which of the bits draw a block."""
        return slice(self.size * block // self.blocks, self.size * (block + 1) // self.blocks)

    def grow(self, block: int, bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the entries of a block, bool (n,), that these bits draw."""
        mask = np.empty(self.entries(block).size, np.uint8)
        trellis.grow(self._keys[block], self._memory, np.ascontiguousarray(bits), self._chance, mask)
        return mask.view(np.bool_)

    def draw(
        self, block: int, chances: NDArray[np.float64], uniform: NDArray[np.float64], sharpness: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return bits of a block whose entries are kept about as these chances say.

        A row of bits is drawn in proportion to the probability of its mask over that which it had before: with as many
        bits as the KL divergence and a few more, the masks follow the chances.

        Args:
            block: its number.
            chances: float64 (n,), of its entries to be kept.
            uniform: float64 (bits of the block,), in [0, 1), by which they are drawn.
            sharpness: power of the proportion; above 1, likelier masks are drawn than the chances say.

        """
        part = self.part(block)
        size = part.stop - part.start
        if size == 0:
            return np.zeros(0, np.uint8)
        prior = self._chance / trellis.ONE
        with np.errstate(divide="ignore"):
            gains = np.stack([np.log((1.0 - chances) / (1.0 - prior)), np.log(chances / prior)], 1)
        gains = np.maximum(gains, _LEAST_GAIN)
        bits, _ = trellis.draw(self._keys[block], self._memory, size, self._chance, sharpness * gains, uniform)
        return bits


def order_of(seed: int, name: str, count: int) -> NDArray[np.int64]:
    """Return the order in which the entries of a mask are dealt to blocks, int64 (count,)."""
    # stable, so that equal words have one order with every version of numpy
    return np.argsort(Stream(seed, name, "order of drawn").words(count), kind="stable")
