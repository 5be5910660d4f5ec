"""A search by a budget of bytes: the chances of weights are trained against the bits that name a mask drawn from them.

Havasi, Peharz, Hernandez-Lobato, "Minimal random code learning: getting bits back from compressed model parameters",
ICLR 2019 (MIRACLE), with masks of random weights in place of Gaussian weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.parameters.parameters import Slot
from supermask.search.algorithm import Setting, SettingName
from supermask.search.chanced import Chanced
from supermask.search.coder import Coder
from supermask.search.rule import Rule, common, refuse_nan, step_generator, untold
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.ticket import Ticket
from supermask.ticket.coding.drawn import MOST_BLOCKS, Drawn
from supermask.ticket.coding.trellis import MOST_MEMORY
from supermask.training import Recipe

_TRAVEL = 60.0  # logarithm of how far a price may move in a run
_OVERHEAD = 32  # bits of a layer whose mask is drawn by many bits, above those of one that is drawn by none
_USES = ("sample", "noise")


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

    def carried(self, state: SearchState) -> Coder:
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

    def _code(self, state: SearchState, scores: Mapping[str, Tensor], coder: Coder) -> None:
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


def _coder(state: SearchState) -> Coder:
    coder = state.progress.carried
    assert isinstance(coder, Coder)
    return coder
