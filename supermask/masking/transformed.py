"""Masked weights that are more than kept or pruned: multiplied by integers and gains, or sampled in training."""

from typing import Any

import torch
from torch import Tensor

from supermask.masking.parametrization import Masked, dense, straight_through_scores
from supermask.random.transform import Treatment


class Treated(Masked):
    """The parametrization scores -> frozen x factor x gain where the mask keeps, +0 elsewhere.

    Args:
        frozen: the random weights, floating; never changed.
        signed: whether the scores are ranked with their sign or by magnitude.
        slope: what the gradient of a weight is multiplied with on its way to the score (besides the gain and the sign
            of the score, where they are ranked by magnitude); None are the frozen weights.
        scaled_for: the sum of the squares of the factors at which the frozen weights have the variance that the layer
            is to keep; None is a gain that follows nothing by itself.

    """

    factors: Tensor
    slope: Tensor

    def __init__(
        self, frozen: Tensor, *, signed: bool, slope: Tensor | None = None, scaled_for: float | None = None
    ) -> None:
        super().__init__(frozen, signed=signed, scaled_for=scaled_for)
        self.register_buffer("factors", torch.ones_like(frozen, dtype=torch.int8))
        self.register_buffer("gain", frozen.new_ones(()))
        self.register_buffer("slope", frozen if slope is None else slope, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return self.value * self.gain
        return straight_through_scores(scores, self.value, self.signed, self.slope) * self.gain

    @property
    def weights(self) -> None:
        """Nothing follows the mask by itself when it is selected: a `refresh` does it."""
        return None

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the masked weight of the mask and the factors, and the gain; pruned weights are +0."""
        # the order of the products is that of a ticket, so that its network is the same bit for bit
        self.value.copy_(torch.where(self.mask, self.frozen * self.factors, 0.0))
        self.rescale()

    def treatment(self) -> Treatment | None:
        """Return by what the kept weights are multiplied."""
        factors = torch.where(self.mask, self.factors, 0).cpu()
        plain = torch.equal(factors, self.mask.cpu().to(torch.int8))
        return Treatment(gain=float(self.gain), factors=None if plain else factors)

    def _squares(self) -> Tensor:
        return torch.where(self.mask, self.factors, 0).int().square().sum()


class Sampled(Treated):
    """A mask that is another sample in every training step, and a fixed one in evaluation.

    In training the weight is frozen x gain of the sample x sample; its gradient reaches the logits m of the
    probabilities as if the sample were sigmoid(m) (Zhou et al. 2019, section 5.1).

    Args:
        frozen: the random weights, floating; never changed.
        rescaled: multiply the weights by n / (number kept), of n weights. The gradient goes through that number too.

    """

    sample: Tensor
    sample_gain: Tensor
    sampled: Tensor

    def __init__(self, frozen: Tensor, *, rescaled: bool) -> None:
        super().__init__(frozen, signed=True)
        self.rescaled = rescaled
        self.register_buffer("sample", torch.ones_like(frozen, dtype=torch.bool))
        self.register_buffer("sample_gain", frozen.new_ones(()))
        self.register_buffer("sampled", frozen.clone(), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the sampled weight in training mode, the fixed one in evaluation mode."""
        sampled = self.training
        value, gain = (self.sampled, self.sample_gain) if sampled else (self.value, self.gain)
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return value * gain
        mask = self.sample if sampled else self.mask
        weight: Tensor = _StraightThroughSigmoid.apply(
            scores, value * gain, self.frozen * gain, mask if self.rescaled else None
        )
        return weight

    def treatment(self) -> Treatment | None:
        """Return the gain of the layer; None where weights are not rescaled."""
        return super().treatment() if self.rescaled else None

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the weights of training and of evaluation."""
        super().refresh()
        self.sampled.copy_(torch.where(self.sample, self.frozen, 0.0))
        if self.rescaled:
            self.gain.copy_(_rescaling(self.mask))
            self.sample_gain.copy_(_rescaling(self.sample))


def _rescaling(mask: Tensor) -> Tensor:
    """Return n / (number kept)."""
    return mask.numel() / mask.sum().double().clamp(min=1.0)


class _StraightThroughSigmoid(torch.autograd.Function):
    """Forward: the masked weight. Backward: the gradient that the logits would have if the mask were sigmoid(m).

    With w_i = f_i m_i n / sum(m) the gradient of m_j is that of its own weight, g_j f_j n / sum(m), less what one more
    kept weight takes from all others, sum(g w) / sum(m) (Zhou et al. 2019, section 5.2, differentiated through).
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, slope: Tensor, mask: Tensor | None) -> Tensor:
        ctx.rescaled = mask is not None
        ctx.save_for_backward(scores, slope, *([] if mask is None else [mask]))
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scores, slope, *masks = ctx.saved_tensors
        own = dense(gradients[0]) * slope
        for mask in masks:
            own = own - torch.where(mask, own, 0.0).sum() / mask.sum().clamp(min=1)
        chance = torch.sigmoid(scores)
        return own * chance * (1.0 - chance), None, None, None
