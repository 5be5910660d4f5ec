"""What names a mask drawn by few bits: its blocks, the prices by which chances keep to them, and the drawing.

Havasi, Peharz, Hernandez-Lobato, "Minimal random code learning: getting bits back from compressed model parameters",
ICLR 2019 (MIRACLE), algorithms 1 and 2, with masks of random weights in place of Gaussian weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.random.stream import Stream
from supermask.search.chanced import EDGE
from supermask.ticket.coding.drawn import Drawn, Plan
from supermask.ticket.coding.trellis import ONE

_FIRST = math.log(1e-5)  # price of a nat: one over the examples of sets of usual size, whose mean the loss is
_STEEP = 4.0  # a divergence a quarter above what is wanted moves its price at the full rate
_LEAN = 2.0  # logarithm of what is put on a price for as long as the divergence is a quarter too high; it stops swings
_LOWEST = math.log(1e-7)  # a price that has fallen further while there is room takes too long to come back
_MOST_WEIGHTS = 1 << 26  # that drawing a block holds, one for each bit and state: 256 MiB
_LEAST_BITS = 128  # of a block: a row of bits is drawn with a loss of a few


@dataclass
class _Code:
    """The code of one layer.

    Attributes:
        mask: as far as its blocks are drawn; the bits of the others are 0.
        prices: logarithm of the price of a nat of divergence in each block, and what leans on it: float64 (2, blocks).
        settled: blocks that are drawn.

    """

    mask: Drawn
    prices: NDArray[np.float64]
    settled: int = 0

    @property
    def chance(self) -> float:
        """The chance p of an entry before anything is known of it."""
        return self.mask.chance / ONE


@dataclass
class Coder:
    """What is known of the code of a search's masks.

    Attributes:
        counts: weights of each layer by name.
        bits: of all masks together.
        price: the same for all weights, before layers have prices of their own: float64 (2, 1).
        codes: by layer, once bits are allotted.

    """

    counts: Mapping[str, int]
    bits: int
    price: NDArray[np.float64] = field(default_factory=lambda: np.array([[_FIRST], [0.0]]))
    codes: dict[str, _Code] = field(default_factory=dict)
    _plans: dict[str, Plan] = field(default_factory=dict)
    _blocks: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        codes = self.codes.items()
        masks = {name: torch.frombuffer(bytearray(code.mask.to_bytes()), dtype=torch.uint8) for name, code in codes}
        prices = {name: torch.from_numpy(code.prices.copy()) for name, code in codes}
        return {
            "price": self.price.tolist(),
            "settled": [(name, code.settled) for name, code in codes],
            "masks": masks,
            "prices": prices,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.price, self._plans, self._blocks = np.array(state["price"]), {}, {}
        masks, prices = state["masks"], state["prices"]
        self.codes = {
            name: _Code(
                Drawn.from_bytes(bytes(masks[name].numpy()), self.counts[name]), prices[name].numpy().copy(), settled
            )
            for name, settled in state["settled"]
        }

    def chance(self, name: str) -> float | None:
        """Return p of a layer, None while it is the mean of the chances."""
        return self.codes[name].chance if self.codes else None

    def prices(self, name: str, seed: int, like: Tensor) -> Tensor:
        """Return the price of a nat of divergence of each weight, of the shape of `like`; or one for all of them."""
        if not self.codes:
            return like.new_tensor(math.exp(self.price.sum()))
        prices = torch.from_numpy(np.exp(self.codes[name].prices.sum(0))).to(like)
        return prices[self._owners(seed, name, like.device)].view(like.shape)

    def steer_together(self, chances: Mapping[str, Tensor], margin: float, rate: float) -> None:
        """Adjust the one price, so that the divergence of all layers moves toward the budget."""
        total = sum(float(_divergence(each, None).sum()) for each in chances.values()) / math.log(2.0)
        _push(self.price, 0, total, self.bits / margin, rate)

    def steer_apart(self, seed: int, chances: Mapping[str, Tensor], margin: float, rate: float) -> None:
        """Adjust the price of each block that is not drawn, so that its divergence moves toward its own budget."""
        for name, code in self.codes.items():
            each = _divergence(chances[name], code.chance).reshape(-1) / math.log(2.0)
            found = each.new_zeros(code.mask.blocks).index_add_(0, self._owners(seed, name, each.device), each).tolist()
            for block in range(code.settled, code.mask.blocks):
                part = self._plan(seed, name).part(block)
                _push(code.prices, block, found[block], (part.stop - part.start) / margin, rate)

    def allot(self, chances: Mapping[str, Tensor], blocks: int, memory: int) -> None:
        """Fix the prior and the bits of each layer, in proportion to its present divergence."""
        found = {name: float(_divergence(each, None).sum()) for name, each in chances.items()}
        total = sum(found.values())
        for name, each in chances.items():
            count = self.counts[name]
            size = min(count, int(self.bits * found[name] / total)) if total > 0.0 else 0
            parts = max(1, min(blocks, size // _LEAST_BITS))
            prior = min(ONE - 1, max(1, round(ONE * float(each.double().mean()))))
            fits = (_MOST_WEIGHTS // max(1, size // parts)).bit_length() - 1
            drawn = Drawn(prior, parts, max(1, min(memory, fits)), np.zeros(size, np.uint8))
            self.codes[name] = _Code(drawn, self.price.repeat(parts, 1))

    def draw(
        self, seed: int, name: str, chances: Tensor, part: float, sharpness: float
    ) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """Draw the next blocks of a layer, up to this part of them.

        Returns:
            For each its flat places and which of them are kept.

        """
        code, plan, made = self.codes[name], self._plan(seed, name), []
        while code.settled < min(code.mask.blocks, int(part * code.mask.blocks)):
            block = code.settled
            entries, bits = plan.entries(block), code.mask.bits[plan.part(block)]
            uniform = Stream(seed, name, f"draw {block}").uniform(bits.size)
            flat = chances.detach().reshape(-1).double().cpu().numpy()[entries]
            bits[:] = plan.draw(block, flat, uniform, sharpness)
            made.append((entries, plan.grow(block, bits)))
            code.settled += 1
        return made

    def drawn(self) -> dict[str, Drawn]:
        """Return the bits that draw each mask."""
        return {name: replace(code.mask, bits=code.mask.bits.copy()) for name, code in self.codes.items()}

    def _plan(self, seed: int, name: str) -> Plan:
        if name not in self._plans:
            self._plans[name] = self.codes[name].mask.plan(seed, name, self.counts[name])
        return self._plans[name]

    def _owners(self, seed: int, name: str, device: torch.device) -> Tensor:
        """Return the block of each entry, int64 (n,)."""
        if name not in self._blocks or self._blocks[name].device != device:
            plan, owners = self._plan(seed, name), np.empty(self.counts[name], np.int64)
            for block in range(plan.blocks):
                owners[plan.entries(block)] = block
            self._blocks[name] = torch.from_numpy(owners).to(device)
        return self._blocks[name]


def _push(prices: NDArray[np.float64], block: int, found: float, wanted: float, rate: float) -> None:
    """Move the price of a block whose divergence is so much where so much is wanted, and lean on it meanwhile."""
    excess = max(-1.0, min(1.0, _STEEP * (found / max(wanted, 1.0) - 1.0)))
    prices[:, block] = max(_LOWEST, prices[0, block] + rate * excess), _LEAN * excess


@torch.no_grad()
def _divergence(chances: Tensor, prior: float | None) -> Tensor:
    """Return KL(q || p) of each weight, in nats; p None is the mean of q."""
    chances = chances.double()
    p = chances.mean() if prior is None else chances.new_tensor(prior)
    p = p.clamp(EDGE, 1.0 - EDGE)
    return torch.xlogy(chances, chances / p) + torch.xlogy(1.0 - chances, (1.0 - chances) / (1.0 - p))
