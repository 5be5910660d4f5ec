"""IteRand: edge-popup that draws pruned weights again, on a schedule.

Chijiwa, Yamaguchi, Ida, Umakoshi, Inoue, "Pruning randomly initialized neural networks with iterative randomization",
NeurIPS 2021, algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import checked_density
from supermask.masking.parametrization import Masked
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, KaimingUniform
from supermask.random.stream import Stream
from supermask.random.transform import Treatment
from supermask.random.weights import RandomWeight
from supermask.search.edge_popup import RankedRule, Score
from supermask.search.rule import common
from supermask.search.search import Search
from supermask.search.state import SearchState


@final
@dataclass(frozen=True, kw_only=True)
class IteRandRule(RankedRule):
    """IteRand (Chijiwa et al. 2021): edge-popup by signed scores, with pruned weights drawn anew again and again.

    The g-th replacement draws from (seed, parameter name, g), and which weights it replaces from the same, so that the
    ticket needs only the number of its draw for each kept weight. A kept weight never changes.

    The scores are signed as in the authors' code, and start as He uniform.

    Attributes:
        every: optimizer steps between redraws.
        rate: chance of each pruned weight to be redrawn.

    Raises:
        SupermaskError: as `EdgePopup`, or a number is out of range.

    """

    name: ClassVar[str] = "iterand"
    score: Score = common("signed", fixed=True)
    scores: Distribution = common(KaimingUniform())
    every: int = 300  # K_per on CIFAR-10; 1000 on ImageNet
    rate: float = 0.1  # r of the paper

    def __post_init__(self) -> None:
        if self.every < 1:
            raise SupermaskError(f"every={self.every} is too small; give a number of optimizer steps.")
        checked_density(self.rate, "rate")
        super().__post_init__()

    def layer(self, state: SearchState, slot: Slot) -> "Redrawn":
        """Return the masked weight, which can draw its pruned weights again."""
        return Redrawn(slot, state.network.weights[slot.name], state.seed, signed=self.signed)

    def after_step(self, state: SearchState) -> None:
        """Replace pruned weights, every so many steps."""
        draw, left = divmod(state.steps, self.every)
        if not left:
            for layer in state.layers.values():
                assert isinstance(layer, Redrawn)
                layer.replace(draw, self.rate)


class IteRand(Search, rule=IteRandRule):
    """Edge-popup in which pruned weights are replaced on a schedule: a search by `IteRandRule`."""


class Redrawn(Masked):
    """The parametrization scores -> frozen x mask, whose pruned weights are drawn again.

    Args:
        slot: the parameter, which holds its first draw.
        weight: what its random tensor is made of.
        seed: of all draws.
        signed: whether the scores are ranked with their sign or by magnitude.

    """

    redraws: Tensor
    """Number of the draw that each weight comes from; int32."""

    def __init__(self, slot: Slot, weight: RandomWeight, seed: int, *, signed: bool) -> None:
        super().__init__(slot.parameter.detach().clone(), signed=signed)
        self._name, self._weight, self._seed = slot.name, weight, seed
        self.register_buffer("redraws", torch.zeros_like(self.mask, dtype=torch.int32))

    @torch.no_grad()
    def replace(self, draw: int, rate: float) -> None:
        """Replace each pruned weight by the one of this draw, with this chance; draw 0 is the first."""
        uniform = Stream(self._seed, self._name, f"replace {draw}").uniform(self.mask.numel())
        chosen = torch.from_numpy(uniform < rate).reshape(self.mask.shape).to(self.mask.device)
        replaced = chosen & ~self.mask
        self.redraws[replaced] = draw
        self.frozen[replaced] = self._grow(draw)[replaced]

    @torch.no_grad()
    def restore(self) -> None:
        """Grow the weights of the draws that a loaded state names."""
        for draw in self.redraws.unique().tolist():
            self.frozen.copy_(torch.where(self.redraws == draw, self._grow(draw), self.frozen))
        self.refresh()

    def treatment(self) -> Treatment | None:
        """Return which draw each kept weight comes from; None where all are from the first."""
        redraws = torch.where(self.mask, self.redraws, 0).cpu()
        return Treatment(redraws=redraws) if bool(redraws.any()) else None

    def _grow(self, draw: int) -> Tensor:
        return self._weight.grow(self._seed, self._name, draw=draw).to(self.frozen)
