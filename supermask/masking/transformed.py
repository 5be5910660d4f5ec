"""Masked weights that are more than kept or pruned: multiplied by integers and gains, or sampled in training."""

from typing import Any

import torch
from torch import Tensor

from supermask.masking.parametrization import Masked, straight_through_scores
from supermask.random.transform import Treatment


class Treated(Masked):
    """The parametrization scores -> frozen x factor x gain where the mask keeps, +0 elsewhere.

    Args:
        frozen: the random weights, floating; never changed.
        signed: whether the scores are ranked with their sign or by magnitude.
        slope: what the gradient of a weight is multiplied with on its way to the score (besides the sign of the
            score, where they are ranked by magnitude); None are the frozen weights.

    """

    factors: Tensor
    gain: Tensor
    slope: Tensor

    def __init__(self, frozen: Tensor, *, signed: bool, slope: Tensor | None = None) -> None:
        super().__init__(frozen, signed=signed)
        self.register_buffer("factors", torch.ones_like(frozen, dtype=torch.int8))
        self.register_buffer("gain", frozen.new_ones(()))
        self.register_buffer("slope", frozen if slope is None else slope, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return self.value
        return straight_through_scores(scores, self.value, self.signed, self.slope)

    @property
    def weights(self) -> None:
        """Nothing follows the mask by itself when it is selected: a `refresh` does it."""
        return None

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the masked weight of the mask, the factors and the gain; pruned weights are +0."""
        self._write(self.mask, self.gain, self.value)

    def treatment(self) -> Treatment | None:
        """Return by what the kept weights are multiplied."""
        factors = torch.where(self.mask, self.factors, 0).cpu()
        plain = torch.equal(factors, self.mask.cpu().to(torch.int8))
        return Treatment(gain=float(self.gain), factors=None if plain else factors)

    def _write(self, mask: Tensor, gain: Tensor, out: Tensor) -> None:
        # the order of the products is that of a ticket, so that its network is the same bit for bit
        out.copy_(torch.where(mask, self.frozen * self.factors * gain, 0.0))


class Sampled(Treated):
    """A mask that is another sample in every training step, and a fixed one in evaluation.

    In training the weight is frozen x gain of the sample x sample; its gradient reaches the logits m of the
    probabilities as if the sample were sigmoid(m) (Zhou et al. 2019, section 5.1).

    Args:
        frozen: the random weights, floating; never changed.
        rescaled: whether the gains are other than 1.

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
        value = self.sampled if self.training else self.value
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return value
        gain = self.sample_gain if self.training else self.gain
        sampled: Tensor = _StraightThroughSigmoid.apply(scores, value, self.frozen, gain)
        return sampled

    def treatment(self) -> Treatment | None:
        """Return the gain of the layer; None where weights are not rescaled."""
        return super().treatment() if self.rescaled else None

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the weights of training and of evaluation."""
        super().refresh()
        self._write(self.sample, self.sample_gain, self.sampled)


class _StraightThroughSigmoid(torch.autograd.Function):
    """Forward: the masked weight. Backward: the gradient that the logits would have if the mask were sigmoid(m)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, frozen: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(scores, frozen, gain)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scores, frozen, gain = ctx.saved_tensors
        chance = torch.sigmoid(scores)
        return gradients[0] * frozen * gain * chance * (1.0 - chance), None, None, None
