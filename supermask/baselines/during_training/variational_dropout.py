"""Sparse variational dropout: weights of which nothing but noise is left are pruned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from supermask.baselines.during_training.base import CutDetails, DuringTraining, check_fractions
from supermask.baselines.method import MethodResult, RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Global, Pool
from supermask.masking.pruning import prune
from supermask.parameters.parameters import Slot
from supermask.ticket import Ticket

K1, K2, K3 = 0.63576, 1.87320, 1.48695
"""Of the approximation of the divergence: Molchanov, Ashukha & Vetrov 2017, equation 14."""
THRESHOLD = 3.0
"""Log alpha above which a weight is published as pruned: section 5.1, a rate of binary dropout above 0.95."""
_RANGE = 8.0  # of log alpha, as Gale et al. 2019 clip it
_TINY = 1e-8  # keeps the logarithm of a zero weight, and the slope of the root of a zero variance, finite


def log_alpha_of(weight: Tensor, log_variance: Tensor) -> Tensor:
    """Return log alpha = log(sigma^2 / theta^2), clipped to 8 either way."""
    return (log_variance - (weight.square() + _TINY).log()).clamp(-_RANGE, _RANGE)


def divergence(log_alpha: Tensor) -> Tensor:
    """Return the divergence of each weight's posterior from the log-uniform prior, approximately, up to a constant.

    Molchanov et al. 2017, equation 14, with the constant that lets it end at 0 where alpha is infinite:
    k1 - k1 sigmoid(k2 + k3 log alpha) + log(1 + 1 / alpha) / 2.
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * torch.nn.functional.softplus(-log_alpha)


class Noisy(Sparse):
    """A network with a variance for each prunable weight, until those that are mostly noise are pruned.

    Noise is added to what layers return, not to their weights (the local reparametrisation): for inputs x an output
    has the mean x theta and the variance x^2 sigma^2. Evaluation takes the means.

    Args:
        model: freshly built, of the ticket's architecture, on the device to compute on; becomes the network, in place.
        ticket: the whole network.
        pools: how many weights are kept in the end.
        examples: of the training, over which the divergence of the weights is spread.
        weight: of the divergence in the loss.
        ramp: optimizer steps over which that rises from 0.
        end: optimizer steps after which the weights are pruned and the noise ends.
        first: the log variance of all weights in the beginning.
        rate: of Adam, for the log variances.

    Raises:
        SupermaskError: a prunable weight is not that of one linear or convolutional layer.

    """

    name: ClassVar[str] = "variational_dropout"

    def __init__(
        self,
        model: nn.Module,
        ticket: Ticket,
        *,
        pools: Sequence[Pool],
        examples: int,
        weight: float,
        ramp: int,
        end: int,
        first: float,
        rate: float,
    ) -> None:
        super().__init__(model, ticket)
        _refuse_others(self.prunable)
        self._pools, self._examples, self._weight, self._ramp, self._end = pools, examples, weight, ramp, end
        self.log_variance = {name: nn.Parameter(torch.full_like(each, first)) for name, each in self.weights().items()}
        self._variances = torch.optim.Adam(self.log_variance.values(), lr=rate)
        self.found: float | None = None
        self.complete = False
        for name, slot in self.prunable.items():
            slot.places[0].module.register_forward_hook(partial(self._add_noise, name))

    def log_alpha(self) -> dict[str, Tensor]:
        """Return the log alphas by parameter name, detached."""
        return {name: log_alpha_of(each, self.log_variance[name].detach()) for name, each in self.weights().items()}

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradients of the divergence, and take a step of the variances."""
        if self.steps >= self._end:
            return
        factor = self._weight / self._examples * min(1.0, (self.steps + 1) / max(1, self._ramp))
        for name, slot in self.prunable.items():
            pair = slot.parameter, self.log_variance[name]
            slopes = torch.autograd.grad(divergence(log_alpha_of(*pair)).sum(), pair)
            for parameter, slope in zip(pair, slopes, strict=True):
                slope = slope * factor
                parameter.grad = slope if parameter.grad is None else parameter.grad.add_(slope)
        self._variances.step()
        self._variances.zero_grad()

    def step(self) -> None:
        """Prune where it is time to, and set the pruned weights to zero."""
        super().step()
        if self.steps == self._end:
            chosen = self.log_alpha()
            below = sum(int((each < THRESHOLD).sum()) for each in chosen.values())
            self.found = below / max(1, sum(each.numel() for each in chosen.values()))
            self.set_masks(prune({name: -each for name, each in chosen.items()}, self._pools))
            self.complete = True

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        return {
            **super().state_dict(),
            "log_variance": {name: each.detach() for name, each in self.log_variance.items()},
            "variances": self._variances.state_dict(),
            "found": self.found,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned for a network that was made with the same arguments."""
        super().load_state_dict(state)
        for name, each in self.log_variance.items():
            each.copy_(state["log_variance"][name])
        self._variances.load_state_dict(state["variances"])
        self.found = state["found"]
        self.complete = self.steps >= self._end

    def _add_noise(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not layer.training or self.steps >= self._end:
            return output
        variances = self.log_variance[name].exp()
        if isinstance(layer, _ConvNd):
            spread = layer._conv_forward(inputs[0].square(), variances, None)
        else:
            spread = torch.nn.functional.linear(inputs[0].square(), variances)
        return output + (spread + _TINY).sqrt() * torch.randn_like(spread)


def _refuse_others(prunable: Mapping[str, Slot]) -> None:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    others = [
        name
        for name, slot in prunable.items()
        if len(slot.places) != 1 or type(slot.places[0].module) not in kinds or slot.places[0].leaf != "weight"
    ]
    if others:
        raise SupermaskError(
            "variational_dropout adds noise to what linear and convolutional layers return, and these weights are not"
            f" those of one such layer: {', '.join(others[:3])}; keep them dense, e.g. by --dense."
        )


@dataclass(frozen=True)
class VariationalDropout(DuringTraining):
    """Sparse variational dropout (Molchanov, Ashukha & Vetrov 2017), as Gale, Elsen & Hooker 2019 compare it.

    Each weight has a normal posterior with mean theta and variance sigma^2. The loss is that of a forward pass with
    noise, plus the divergence from a log-uniform prior (equation 14) over the number of training examples. Where alpha
    = sigma^2 / theta^2 grows large, nothing but noise is left of a weight. Theta and sigma are trained apart from each
    other, and the noise is added to outputs (sections 4.2 and 4.3).

    Published, weights of log alpha above 3 are pruned, so that the density is an outcome. Here it is given: after a
    part of the run the lowest log alphas of the whole network are kept, exactly as many as asked, and trained on
    without noise. The fraction below 3 at that time is in the result.

    Ours are also Adam's rate for the variances, the ramp, and the length of the last part: the paper starts from a
    trained network.

    Attributes:
        divergence: weight of the divergence in the loss; 1 is as derived, more prunes more.
        ramp: fraction of the run's optimizer steps over which that weight rises from 0.
        rate: of Adam, by which the log variances are trained.
        first: log sigma^2 of all weights in the beginning.
        end: when the weights are pruned, as a fraction of the run's optimizer steps.

    """

    name: ClassVar[str] = Noisy.name
    details_kind: ClassVar[type] = CutDetails

    divergence: float = 1.0
    ramp: float = 0.5
    rate: float = 0.02
    first: float = -10.0
    end: float = 0.75

    def __post_init__(self) -> None:
        check_fractions(self.name, ramp=self.ramp, end=self.end)
        if not (0.0 <= self.divergence < math.inf and 0.0 < self.rate < 1.0 and -30.0 <= self.first <= 0.0):
            raise SupermaskError(
                f"{self.name}: divergence={self.divergence}, rate={self.rate}, first={self.first} do not fit: the first"
                " is not negative, the second in (0, 1), the third from -30 to 0."
            )

    def network(self, context: RunContext) -> Noisy:
        """Return the whole network with its variances."""
        shapes = {name: tuple(mask.shape) for name, mask in context.whole.masks.items()}
        return Noisy(
            context.build().to(context.device),
            context.whole,
            pools=Global(floor=1).pools(shapes, context.density),
            examples=len(context.data.train),
            weight=self.divergence,
            ramp=round(self.ramp * context.steps),
            end=max(1, round(self.end * context.steps)),
            first=self.first,
            rate=self.rate,
        )

    def run(self, context: RunContext) -> MethodResult:
        """Train the network."""
        network = self.network(context)
        outcome = context.train(network)
        scores = {name: -each for name, each in network.log_alpha().items()}
        return MethodResult(network, outcome, scores, CutDetails(outcome.last["found"]))
