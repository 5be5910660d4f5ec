"""What kept and pruned weights become before the network is run or trained again: mask-1 and mask-0 actions.

Zhou et al. 2019, "mask-1 actions" and "mask-0 actions"; where they leave something open, the authors'
train_lottery.py (github.com/uber-research/deconstructing-lottery-tickets). The result is a ticket: all of its weights
come from its seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.random.distributions import Distribution, SignOf
from supermask.random.transform import Treatment
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket

Tensors = Mapping[str, Tensor]
KeptAction = Literal["rewind", "reinitialise", "reshuffle", "constant"]
PrunedAction = Literal["zero", "freeze", "variant_1", "variant_2"]


@dataclass(frozen=True)
class Actions:
    """A mask-1 action and a mask-0 action.

    Attributes:
        mask_1: of the weights that the criterion keeps. "rewind": their initial values. "reinitialise": another draw
            of the same distribution (the authors' code shuffles the initial values of the whole layer). "reshuffle":
            their initial values in another order within the layer. "constant": the standard deviation of the layer's
            distribution, with a sign.
        keep_sign: give each kept weight the sign that it had at first. Otherwise the sign is that of the other draw or
            of the value that came there; where nothing else changes ("rewind", "constant") it is drawn at random. The
            paper has all but rewinding in both ways.
        mask_0: of the weights that the criterion prunes. "zero"; "freeze": they stay at their initial value, and are
            not trained; "variant_1": zero where training moved the weight toward zero, |w_f| < |w_i|, else frozen at
            its initial value; "variant_2": so, and kept weights that moved toward zero begin at zero too, and are
            trained from there.

    Raises:
        SupermaskError: an action is not known, or the two do not go together.

    """

    mask_1: KeptAction = "rewind"
    keep_sign: bool = True
    mask_0: PrunedAction = "zero"

    def __post_init__(self) -> None:
        check_choice("mask_1", self.mask_1, get_args(KeptAction))
        check_choice("mask_0", self.mask_0, get_args(PrunedAction))
        if self.mask_0 != "zero" and self.mask_1 in ("reshuffle", "constant"):
            raise SupermaskError(
                f"mask_1={self.mask_1!r} does not go with mask_0={self.mask_0!r}: a ticket has one distribution and one"
                " order for all weights of a layer, frozen ones too; give mask_0='zero', or mask_1='rewind'."
            )

    def present(self, chosen: Tensor, initial: Tensor, final: Tensor) -> Tensor:
        """Return which weights of a layer are in the network before it is trained again: bool, as the mask.

        Args:
            chosen: bool, the weights that the criterion keeps.
            initial: the weights before training.
            final: the weights after training.

        """
        outward = final.abs() >= initial.abs()  # the others moved toward zero
        kinds = {"zero": chosen, "freeze": torch.ones_like(chosen), "variant_1": chosen | outward, "variant_2": outward}
        return kinds[self.mask_0]

    def ticket(self, whole: Ticket, chosen: Tensors, final: Tensors) -> Ticket:
        """Return the ticket of the network before it is trained again.

        A weight that is frozen at its initial value is in the network: the ticket's mask has it, and its density counts
        it.

        Args:
            whole: the ticket of the dense network at its initialisation.
            chosen: masks of the weights that the criterion keeps, by parameter name, on the CPU.
            final: the weights after training, on the CPU.

        """
        initial = whole.random_weights()
        masks = {name: self.present(mask, initial[name], final[name]) for name, mask in chosen.items()}
        weights = dict(whole.weights)
        if self.mask_1 == "constant":
            weights |= {
                name: replace(weights[name], distribution=_sign_of(weights[name].distribution)) for name in masks
            }
        treatments = {
            name: self._treatment(masks[name], mask, weights[name], whole.seed, name) for name, mask in chosen.items()
        }
        return replace(
            whole,
            weights=weights,
            masks=masks,
            digest=digest(grow_all(weights, whole.seed)) if self.mask_1 == "constant" else whole.digest,
            treatments={name: treatment for name, treatment in treatments.items() if treatment is not None},
        )

    def _treatment(self, mask: Tensor, chosen: Tensor, weight: RandomWeight, seed: int, name: str) -> Treatment | None:
        """Return what is done to the random weights of a layer; None is nothing."""
        acted = mask & chosen
        if self.mask_1 in ("rewind", "constant") and self.keep_sign:
            return None
        grow = partial(_draw, weight, seed, name)
        if self.mask_1 == "rewind":
            return Treatment(factors=_agreement(grow(0), grow(1), mask, acted))
        reshuffles = self.mask_1 == "reshuffle"
        moved = Treatment(reshuffled=reshuffles, redraws=None if reshuffles else acted.to(torch.int32))
        if not self.keep_sign:
            return moved
        return replace(moved, factors=_agreement(grow(0), moved.apply(mask, grow, seed, name), mask, acted))


def check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that an option does not have.

    Raises:
        SupermaskError: it is not known.

    """
    if value not in known:
        raise SupermaskError(f"{option}={value!r} is unknown; known are {', '.join(known)}.")


def _sign_of(distribution: Distribution) -> Distribution:
    return distribution if isinstance(distribution, SignOf) else SignOf(distribution)


def _draw(weight: RandomWeight, seed: int, name: str, draw: int) -> Tensor:
    return weight.grow(seed, name, draw=draw)


def _agreement(one: Tensor, other: Tensor, mask: Tensor, acted: Tensor) -> Tensor:
    """Return int8 factors: -1 where two tensors differ in sign and the weight is acted on, else 1, 0 where pruned."""
    return torch.where(acted & ((one < 0) != (other < 0)), -1, 1).to(torch.int8) * mask.to(torch.int8)
