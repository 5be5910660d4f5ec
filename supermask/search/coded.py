"""A search by a budget of bytes: the chances of weights are trained against the bits that name a mask drawn from them.

Havasi, Peharz, Hernandez-Lobato, "Minimal random code learning: getting bits back from compressed model parameters",
ICLR 2019 (MIRACLE), with masks of random weights in place of Gaussian weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.parameters.parameters import Slot
from supermask.random.stream import Stream
from supermask.search.chanced import EDGE, Chanced
from supermask.search.rule import Rule, Setting, SettingName, common, refuse_nan, step_generator, untold
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.ticket import Ticket
from supermask.ticket.coding.drawn import MOST_BLOCKS, Drawn, Plan
from supermask.ticket.coding.trellis import MOST_MEMORY, ONE
from supermask.training import Recipe

_STEEP = 4.0  # a divergence a quarter above what is wanted moves its price at the full rate
_TRAVEL = 60.0  # logarithm of how far a price may move in a run
_LEAN = 2.0  # logarithm of what is put on a price for as long as the divergence is a quarter too high; it stops swings
_FIRST = math.log(1e-5)  # price of a nat: one over the examples of sets of usual size, whose mean the loss is
_LOWEST = math.log(1e-7)  # a price that has fallen further while there is room takes too long to come back
_MOST_WEIGHTS = 1 << 26  # that drawing a block holds, one for each bit and state: 256 MiB
_LEAST_BITS = 128  # of a block: a row of bits is drawn with a loss of a few


@final
@dataclass(frozen=True, kw_only=True)
class CodedRule(Rule):
    """A search by a budget of bytes (Havasi et al. 2019): a mask that few bits name among those that the seed grows.

    A weight is kept with a chance q of its own, trained by exact gradients: in training, weights or what a linear layer
    makes of them are drawn from normal distributions with the means and variances that the chances give them. Beside
    the loss of the data stands a price on the divergence KL(q || p) of the chances from one chance p for each layer,
    the mean of its q. The price is adjusted at each step until the divergence equals the budget. Then p and the bits of
    each layer are fixed, and its blocks of weights are drawn, one after the other: bits name one of the masks that the
    seed grows with p, with a probability that rises with q / p. The other blocks are trained further in between. The
    file holds the bits.

    Until all blocks are drawn, evaluation and tickets have a sample of the chances, stored entry by entry.

    Attributes:
        bytes: of the ticket's file: its header, what is stored in it, and the bits of its masks.
        provenance: those of them that are set aside for the names of the model and the data. What else is told of a
            search is in the file as far as the bytes allow.
        steps: optimizer steps after which all is drawn. A run knows them by itself.
        start: the chance of a weight to be kept before the first step. The weights have the variance of their
            distribution where a layer keeps this fraction of them. Few kept weights have less noise between them: 0.2
            is better in networks with norms. In others all chances may fall to 0 from there, where no bits are needed.
        gain: the weights of the last layer are this many times as large. Chances that few bits move leave the logits
            small; behind norms, 2 makes up for it.
        free: fraction of the steps before p and the bits of each layer are fixed.
        drawing: fraction of the steps, at their end, in which blocks are drawn.
        blocks: the most that a layer has.
        memory: bits that a state of the code remembers; drawing takes 2^memory operations for each weight. Layers of
            many bits take less, so that drawing a block fits into memory.
        margin: bits over the divergence that they are to hold.
        sharpness: masks are drawn in proportion to (q / p) to this power. With 1, masks drawn by few more bits than the
            divergence are less likely than samples of the chances, and their networks are worse.
        learning_rate: of the scores, whose logistic function the chances are, by Adam, in place of the run's.

    Raises:
        SupermaskError: as `Search`, or an option is missing or out of range.

    """

    name: ClassVar[str] = "coded"
    by_density: ClassVar[bool] = False
    settings: ClassVar[Mapping[SettingName, Setting]] = {
        "short": Setting({"warm_up": 0.05}, "a few short trials on the validation split of MNIST, tiny_conv")
    }
    bytes: int = 3000
    provenance: int = 40
    steps: int | None = common(None)
    start: float = 0.5
    gain: float = 1.0
    free: float = 0.5
    drawing: float = 0.4
    blocks: int = 16
    memory: int = 14
    margin: float = 1.04
    sharpness: float = 2.0
    learning_rate: float = untold(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bytes < 1 or self.provenance < 0:
            raise SupermaskError(
                f"bytes={self.bytes}, provenance={self.provenance} do not fit: give the bytes of a whole file, and"
                " those of them that may say where it is from."
            )
        if self.steps is not None and self.steps < 1:
            raise SupermaskError(f"steps={self.steps} is too small; give a number of optimizer steps.")
        at_least_one = all(1.0 <= value < math.inf for value in (self.margin, self.gain))
        if not 0.0 < self.start < 1.0 or not at_least_one or not 0.0 < self.sharpness < math.inf:
            raise SupermaskError(
                f"start={self.start}, gain={self.gain}, margin={self.margin}, sharpness={self.sharpness} do not fit:"
                " the chance is between 0 and 1, gain and margin at least 1, the sharpness positive."
            )
        if not (min(self.free, self.drawing) >= 0.0 and self.free + self.drawing <= 1.0):
            raise SupermaskError(
                f"free={self.free}, drawing={self.drawing} do not fit: they are fractions of the steps, together at"
                " most 1."
            )
        if not 1 <= self.blocks <= MOST_BLOCKS or not 1 <= self.memory <= MOST_MEMORY:
            raise SupermaskError(
                f"blocks={self.blocks}, memory={self.memory} do not fit: they are from 1 to {MOST_BLOCKS} and"
                f" {MOST_MEMORY}."
            )

    def recipe(self, recipe: Recipe, setting: SettingName = "short") -> Recipe:
        """Return the recipe with Adam and the learning rate of the scores."""
        own = super().recipe(recipe, setting)
        return replace(own, optimizer="adam", learning_rate=self.learning_rate, weight_decay=0.0, nesterov=False)

    @property
    def wanted(self) -> int:
        """Optimizer steps after which all is drawn.

        Raises:
            SupermaskError: they are not known.

        """
        if self.steps is None:
            raise SupermaskError("coded draws its masks over a whole run; give steps=, its optimizer steps.")
        return self.steps

    def fractions(self, shapes: Shapes) -> Mapping[str, float]:
        """Return by name the fraction of a layer that is kept, for which its frozen weights are scaled."""
        _ = self.wanted  # refused here, because nothing is written before
        if self.given:
            return {}
        *_, last = shapes
        return {name: self.start / (self.gain**2 if name == last else 1.0) for name in shapes}

    def first_scores(self, state: SearchState, slot: Slot) -> Tensor:
        """Return scores that are all equal."""
        if slot.name == next(iter(state.shapes)):
            self.bits(state)  # here, because a refusal must come before anything is attached
        return torch.full(slot.shape, math.log(self.start / (1.0 - self.start)), device="cpu")

    def layer(self, state: SearchState, slot: Slot) -> "Chanced":
        """Return the weight that is kept by chance."""
        return Chanced(slot.parameter.detach().clone(), alone=len(slot.places) == 1)

    def ranking(self, state: SearchState, scores: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return nothing: nothing ranks a sample."""
        return None

    def carried(self, state: SearchState) -> "Coder":
        """Return what is known of the code so far."""
        return Coder({name: layer.mask.numel() for name, layer in state.layers.items()}, self.bits(state))

    def complete(self, steps: int) -> bool:
        """Return whether all is drawn."""
        return steps >= self.wanted

    def before_step(self, state: SearchState, scores: Mapping[str, nn.Parameter]) -> None:
        """Add the slope of the priced divergence to the gradients of the scores."""
        coder = _coder(state)
        for name, score in scores.items():
            layer = cast(Chanced, state.layers[name])
            slope = layer.divergence_slope(score.detach(), coder.chance(name))
            slope *= coder.prices(name, state.seed, slope)
            score.grad = slope if score.grad is None else score.grad.add_(slope)

    def select(self, state: SearchState, scores: Mapping[str, Tensor]) -> None:
        """Steer the prices, draw the blocks that are due, and a sample of the chances of the others."""
        refuse_nan(scores)
        if state.progress.carried is not None:
            self._code(state, scores, _coder(state))
        for name, layer in state.layers.items():
            assert isinstance(layer, Chanced)
            layer.sample(scores[name], *(step_generator(state, use, name, scores[name].device) for use in _USES))

    def bits(self, state: SearchState) -> int:
        """Return how many bits draw the masks of all layers: what the file holds besides is taken from the bytes.

        Raises:
            SupermaskError: it leaves none.

        """
        drawn = {name: Drawn(1, 1, 1, np.zeros(0, np.uint8)) for name in state.shapes}
        masks = {name: each.grow(state.seed, name, state.shapes[name]) for name, each in drawn.items()}
        rest = state.network.ticket(masks, {}, drawn=drawn).size + self.provenance
        bits = 8 * (self.bytes - rest) - _OVERHEAD * len(drawn)
        if bits < 0:
            raise SupermaskError(
                f"bytes={self.bytes} is too small: the file takes {rest:,} without its masks, {self.provenance} of them"
                " for its provenance."
            )
        return bits

    def _code(self, state: SearchState, scores: Mapping[str, Tensor], coder: "Coder") -> None:
        rate = _TRAVEL / self.wanted
        chances = {name: cast(Chanced, state.layers[name]).chances(score) for name, score in scores.items()}
        done = state.steps / self.wanted
        if not coder.codes:
            coder.steer_together(chances, self.margin, rate)
            if done >= self.free:
                coder.allot(chances, self.blocks, self.memory)
        else:
            coder.steer_apart(state.seed, chances, self.margin, rate)
        part = 1.0 if done >= 1.0 else (done - 1.0 + self.drawing) / self.drawing if self.drawing else 0.0
        if part > 0.0 and coder.codes:
            for name in scores:
                layer = cast(Chanced, state.layers[name])
                for entries, kept in coder.draw(state.seed, name, chances[name], part, self.sharpness):
                    layer.settle(entries, kept)

    def drawn(self, state: SearchState) -> dict[str, Drawn]:
        """Return the bits that draw each mask; nothing before all is drawn."""
        coder = _coder(state)
        return coder.drawn() if self.complete(state.steps) and coder.codes else {}


class Coded(Search, rule=CodedRule):
    """A mask that few bits name among those that the seed grows: a search by `CodedRule`."""

    rule: CodedRule

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket; once its masks are drawn, with as much of its provenance as its bytes allow.

        Args:
            **provenance: as `Search.ticket` takes it. What `_TOLD_FIRST` names goes before the rest, in its order.

        Raises:
            SupermaskError: as `Search.ticket`.

        """
        whole = super().ticket(**provenance)
        if not whole.drawn or whole.size <= self.rule.bytes:
            return whole
        told: dict[str, Any] = {}
        for name in sorted(whole.provenance, key=lambda name: (*_TOLD_FIRST, name).index(name)):
            more = {**told, name: whole.provenance[name]}
            if replace(whole, provenance=more).size <= self.rule.bytes:
                told = more
        return replace(whole, provenance=told)


_TOLD_FIRST = ("model", "data", "algorithm", "loss", "metrics")
"""What a small file says of itself before all else: what `supermask evaluate` asks for, then what a reader would."""


_OVERHEAD = 32  # bits of a layer whose mask is drawn by many bits, above those of one that is drawn by none
_USES = ("sample", "noise")


def _coder(state: SearchState) -> "Coder":
    coder = state.progress.carried
    assert isinstance(coder, Coder)
    return coder


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
