"""What a selection is asked: which entries of some tensors are kept; and how the scores among them are trained."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from supermask.errors import SupermaskError


class Weights(NamedTuple):
    """Weights that follow a mask.

    Attributes:
        frozen: floating, of the mask's shape.
        value: like `frozen`; holds the frozen weights where the mask is True and +0 elsewhere, before and after.

    """

    frozen: Tensor
    value: Tensor


class TopK(NamedTuple):
    """Tensors whose entries compete for a number of places.

    The flat index that breaks ties runs through the tensors in their order, in each row-major whatever its memory
    format.

    Attributes:
        scores: real floating tensors of any shapes and memory formats, all on one device.
        kept: how many entries are kept, from 0 to all of them.
        masks: bool tensors of the same shapes, written in place: True = kept.
        weights: what follows each mask, written with it; none, or one for each.

    """

    scores: tuple[Tensor, ...]
    kept: int
    masks: tuple[Tensor, ...]
    weights: tuple[Weights, ...] = ()

    @property
    def size(self) -> int:
        """Number of entries that compete."""
        return sum(tensor.numel() for tensor in self.scores)


class Trained(NamedTuple):
    """Scores with what a step of SGD on them reads and writes: tensors of one shape, dtype and device.

    Attributes:
        scores: written.
        gradient: of the loss by the masked weight.
        slope: what the gradient is multiplied with on its way to the score.
        momentum: written.
        signed: whether that is all; if not, it is multiplied with the sign of the score too.

    """

    scores: Tensor
    gradient: Tensor
    slope: Tensor
    momentum: Tensor
    signed: bool


class Sgd(NamedTuple):
    """The numbers of a step of SGD.

    Attributes:
        rate: the learning rate.
        momentum: the fraction of the last velocity that is kept.
        weight_decay: what of a score is added to its gradient.
        nesterov: whether the step looks ahead along the momentum.

    """

    rate: float
    momentum: float
    weight_decay: float
    nesterov: bool


def refuse_scattered(problems: Sequence[TopK]) -> None:
    """Refuse what loops that read memory by its address could not read: it would end the process.

    Raises:
        SupermaskError: scores, mask and weights of a layer lie on several devices or on none, or differ in shape, or
            the mask is not bool.

    """
    for problem in problems:
        for place, (scores, mask) in enumerate(zip(problem.scores, problem.masks, strict=True)):
            together = (scores, mask, *(problem.weights[place] if problem.weights else ()))
            if len({(tensor.device, tensor.shape) for tensor in together}) > 1 or not scores.is_cpu:
                found = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in together)
                raise SupermaskError(
                    f"Scores, mask and weights of a layer are {found}; they have one shape, and move together, with the"
                    " model."
                )
            if mask.dtype is not torch.bool or not scores.is_floating_point():
                raise SupermaskError(
                    f"Scores are {scores.dtype} and their mask is {mask.dtype}; scores are floating, a mask is bool."
                )
