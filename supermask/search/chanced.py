"""A weight that is kept by chance: in training it has the noise of a mask that is sampled, with exact gradients.

The noise of linear layers is that of Kingma, Salimans, Welling, "Variational dropout and the local reparameterization
trick", NeurIPS 2015, section 2.3.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.masking.parametrization import Masked

EDGE = 1e-6
"""What chances are told from 0 and 1 by."""
_FLOOR = 1e-8  # of a variance: outputs are of order one, and the slope of a root is infinite at zero


class Chanced(Masked):
    """The parametrization scores -> frozen x chance in training, with the noise of a sampled mask; frozen x mask else.

    Where a linear layer or a convolution reads it, that module draws noise of its own in training (see `enter`);
    elsewhere the weight has one noise for each step. Evaluation takes no gradient to the scores: none is
    straight-through.

    Args:
        frozen: the random weights, floating; never changed.
        alone: one module reads the weight.

    """

    settled: Tensor
    """Entries whose mask no longer changes: bool, of the weight's shape."""

    noise: Tensor
    """Of this step, standard normal, of the weight's shape."""

    key: Tensor
    """Of the generator of what modules draw in this step: int64, without dimensions."""

    def __init__(self, frozen: Tensor, *, alone: bool) -> None:
        super().__init__(frozen, signed=True)
        self.alone = alone
        self.register_buffer("settled", torch.zeros_like(frozen, dtype=torch.bool))
        self.register_buffer("noise", torch.zeros_like(frozen))
        self.register_buffer("key", torch.zeros((), dtype=torch.int64, device=frozen.device))
        self._generator: torch.Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy makes its generator again from the key
        return {**self.__dict__, "_generator": None}

    @property
    def weights(self) -> None:
        """Nothing follows the mask by itself when it is selected: a `refresh` does it."""
        return None

    def forward(self, scores: Tensor) -> Tensor:
        """Return the noisy weight in training mode, the masked one in evaluation mode."""
        if not self.training:
            return self.value
        mean, spread = self.moments(scores)
        return mean + spread * self.noise

    def enter(self, kind: type[nn.Module], leaf: str) -> None:
        """Let a module draw noise for single examples, or for parts of a batch, where its class is known."""
        base: Any = kind.__bases__[0]
        if not (self.alone and leaf == "weight" and base in _NOISY):
            return
        noisy = _NOISY[base]

        def forward(module: Any, inputs: Tensor) -> Any:
            steps = module.parametrizations.weight
            layer: Chanced = steps[0]
            return noisy(module, inputs, layer, steps.original) if layer.training else base.forward(module, inputs)

        kind.forward = forward

    def chances(self, scores: Tensor) -> Tensor:
        """Return the chance of each weight to be kept; of settled ones it is 0 or 1."""
        return torch.where(self.settled, self.mask.to(scores.dtype), torch.sigmoid(scores))

    def moments(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each weight under the chances."""
        chances = self.chances(scores)
        return self.frozen * chances, self.frozen * (chances * (1.0 - chances)).clamp(min=_FLOOR).sqrt()

    def normal(self, like: Tensor) -> Tensor:
        """Return the next noise of this step, standard normal."""
        if self._generator is None or self._generator.device != like.device:
            self._generator = torch.Generator(like.device).manual_seed(int(self.key))
        return torch.randn(like.shape, generator=self._generator, dtype=like.dtype, device=like.device)

    @torch.no_grad()
    def divergence_slope(self, scores: Tensor, chance: float | None) -> Tensor:
        """Return the gradient of the divergence, in nats, by the scores; 0 for settled weights.

        Args:
            scores: logits of the chances.
            chance: p; None is the mean of the chances. The divergence is least there, so that its own motion adds
                nothing.

        """
        chances = self.chances(scores)
        prior = chances.mean() if chance is None else chances.new_tensor(chance)
        return torch.where(self.settled, 0.0, chances * (1.0 - chances) * (scores - torch.logit(prior, EDGE)))

    @torch.no_grad()
    def sample(self, scores: Tensor, masks: torch.Generator, noise: torch.Generator) -> None:
        """Draw the mask of unsettled weights, and the noise of a step."""
        uniform = torch.rand(scores.shape, generator=masks, device=scores.device)
        self.mask.copy_(torch.where(self.settled, self.mask, uniform < torch.sigmoid(scores)))
        self.key.fill_(noise.initial_seed())
        self._generator = None
        self.noise.copy_(self.normal(self.noise))
        self._generator = None  # what modules draw begins with the key again, as it does after a state was loaded
        self.refresh()

    @torch.no_grad()
    def settle(self, entries: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """Fix the mask of some weights, given by their flat places."""
        places = torch.from_numpy(entries).to(self.mask.device)
        here = ((self.settled, torch.ones_like(places, dtype=torch.bool)), (self.mask, torch.from_numpy(kept)))
        for tensor, values in here:
            flat = tensor.reshape(-1).clone()  # in the order of the entries, whatever that of the memory
            flat[places] = values.to(flat.device)
            tensor.copy_(flat.view(tensor.shape))


def _noisy_linear(module: nn.Linear, inputs: Tensor, layer: Chanced, scores: Tensor) -> Tensor:
    """Return outputs with noise that is independent in each example.

    With chances q of weights w, an output sum(w m x) has the variance sum(w^2 q (1 - q) x^2), and is nearly normal
    (Kingma et al. 2015, equation 6).
    """
    mean, spread = layer.moments(scores)
    outputs = nn.functional.linear(inputs, mean, module.bias)
    variances = nn.functional.linear(inputs.square(), spread.square())
    return outputs + variances.clamp(min=_FLOOR).sqrt() * layer.normal(outputs.detach())


def _noisy_convolution(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, layer: Chanced, scores: Tensor
) -> Tensor:
    """Return outputs with a noise on the weights for each part of the batch, and its negative for the next part.

    All places of an output read the same mask, so that noise which is independent from place to place would be averaged
    out by what follows. Weights with noise take one convolution, where means and variances take two.
    """
    mean, spread = layer.moments(scores)
    batched = inputs.dim() == mean.dim()
    outputs, noise = [], layer.noise
    for number, part in enumerate(inputs.chunk(_PARTS) if batched else [inputs]):
        noise = -noise if number % 2 else layer.normal(spread.detach())
        outputs.append(module._conv_forward(part, mean + spread * noise, module.bias))
    return torch.cat(outputs) if batched else outputs[0]


_PARTS = 8  # of a batch, in pairs with opposite noise
_NOISY: Mapping[type[nn.Module], Any] = {
    nn.Linear: _noisy_linear,
    nn.Conv1d: _noisy_convolution,
    nn.Conv2d: _noisy_convolution,
    nn.Conv3d: _noisy_convolution,
}
"""Modules that draw noise of their own, by class. Classes made of these may read their weight in another way."""
