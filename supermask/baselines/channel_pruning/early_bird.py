"""Early-Bird tickets: channels are drawn by their batch-norm scales as soon as the choice has converged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.channel_pruning.mask_convergence import MaskConvergence
from supermask.baselines.channel_pruning.norm_feeders import feeders, scaled_norms
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Global
from supermask.masking.pruning import prune
from supermask.ticket import Ticket


class EarlyBirdNetwork(Sparse):
    """A network that is trained dense, with a penalty on its batch-norm scales, until its channels are drawn.

    A channel that is pruned has weight and bias 0 in the batch norm, and so has the filter that feeds that channel and
    nothing else, after every optimizer step.

    Args:
        model: freshly built; becomes the ticket's network, in place.
        ticket: where it starts: of the dense network.
        example: an input of the model.
        density: fraction of the channels of all batch norms that is kept.
        epsilon: the largest distance of masks that have converged.
        penalty: of the L1 norm of the scales.
        epoch: optimizer steps from one mask to the next.
        latest: optimizer step after which the channels are drawn, converged or not.

    Attributes:
        convergence: the distances of the masks so far.
        drawn: optimizer step after which the channels were drawn; 0 before.

    """

    name: ClassVar[str] = "early_bird"

    def __init__(
        self,
        model: nn.Module,
        ticket: Ticket,
        example: Tensor,
        *,
        density: float,
        epsilon: float,
        penalty: float,
        epoch: int,
        latest: int,
    ) -> None:
        self._norms = scaled_norms(model)
        self._feeders = feeders(model, example)
        super().__init__(model, ticket)
        self.convergence = MaskConvergence(epsilon)
        self.drawn = 0
        self._penalty, self._epoch, self._latest = penalty, epoch, latest
        shapes = {name: tuple(norm.weight.shape) for name, norm in self._norms.items()}
        self._pools = Global(floor=1).pools(shapes, density)
        for norm in self._norms.values():
            kept = torch.ones_like(norm.weight, dtype=torch.bool)
            # a buffer for the same reasons as the masks of the weights
            norm.register_buffer(_KEPT, kept, persistent=False)

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """Whether the channels were drawn."""
        return self.drawn > 0

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradient of the penalty, penalty * sign(scale)."""
        for norm in self._norms.values():
            if norm.weight.grad is not None:
                norm.weight.grad.add_(norm.weight.detach().sign(), alpha=self._penalty)

    def step(self) -> None:
        """Hold what is pruned at zero; at the end of an epoch, look whether the masks have converged."""
        super().step()
        if not self.drawn and self.steps % self._epoch == 0:
            self.convergence.add(torch.cat([mask.cpu() for mask in self.choose().values()]))
        if not self.drawn and (self.convergence.converged or self.steps >= self._latest):
            self.draw()

    def draw(self) -> None:
        """Prune the channels whose scales are too small now, for good."""
        self.drawn = self.steps
        channels = self.choose()
        self._set_channels(channels)
        self.set_masks(self._filters(channels))

    def choose(self) -> dict[str, Tensor]:
        """Return the channels with the largest scales of the whole network, bool (channels,) by name of a batch norm.

        At least one stays in each batch norm: without it nothing would pass any more.
        """
        return prune({name: norm.weight.detach().abs() for name, norm in self._norms.items()}, self._pools)

    def channels(self) -> dict[str, Tensor]:
        """Return copies of the masks of the channels, bool (channels,), by name of a batch norm."""
        return {name: norm.get_buffer(_KEPT).clone() for name, norm in self._norms.items()}

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks: the network before any training, scales of pruned channels at 0.

        Args:
            **provenance: plain values to keep with it.

        """
        ticket = super().ticket(**provenance)
        scales = {f"{name}.weight": kept.float().cpu() for name, kept in self.channels().items()}
        scales = {name: scale for name, scale in scales.items() if name in ticket.constants}
        constants = {name: value for name, value in ticket.constants.items() if name not in scales}
        return replace(ticket, constants=constants, learned={**ticket.learned, **scales})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        # the key is that of checkpoints that earlier versions wrote
        own = {"channels": self.channels(), "settling": self.convergence.state_dict(), "drawn": self.drawn}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.drawn = state["drawn"]
        self.convergence.load_state_dict(state["settling"])
        self._set_channels(state["channels"])
        super().load_state_dict(state)

    def _set_channels(self, channels: Mapping[str, Tensor]) -> None:
        for name, norm in self._norms.items():
            norm.get_buffer(_KEPT).copy_(channels[name])

    def _filters(self, channels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of the weights: without the filters that feed pruned channels."""
        masks = self.masks()
        for norm, (layer, places) in self._feeders.items():
            if norm in channels and (name := f"{layer}.weight") in masks:
                masks[name][~channels[norm][places.to(channels[norm].device)]] = False
        return masks

    @torch.no_grad()
    def _silence(self) -> None:
        super()._silence()
        if not self.drawn:
            return
        for name, norm in self._norms.items():
            kept = norm.get_buffer(_KEPT)
            for parameter in norm.parameters(recurse=False):
                parameter.mul_(kept).add_(0.0)  # + 0 makes -0 to +0
            if (bias := self._bias(name)) is not None:
                bias.mul_(kept[self._feeders[name][1].to(kept.device)]).add_(0.0)

    def _bias(self, norm: str) -> Tensor | None:
        """Return the bias of the layer that feeds a batch norm, if there is one."""
        if norm not in self._feeders:
            return None
        return self.model.get_submodule(self._feeders[norm][0])._parameters.get("bias")


_KEPT = "channels_kept"


@dataclass(frozen=True)
class EarlyBirdDetails:
    """What the drawing of channels adds to a result.

    Attributes:
        channels: kept, and in all.
        drawn_step: the optimizer step after which they were drawn.
        drawn_epoch: the same in epochs.
        settled: whether the masks had settled, or the latest step had come.
        distances: of the masks of consecutive epochs.

    """

    channels: tuple[int, int]
    drawn_step: int
    drawn_epoch: float
    settled: bool
    distances: tuple[float, ...]


@dataclass(frozen=True)
class EarlyBird(Method):
    """Early-Bird tickets (You et al. 2020, algorithm 1), by the channel pruning of Liu et al. 2017.

    One training with the recipe, all along with an L1 penalty on the scales of batch norm. After each epoch the mask
    of the largest scales, by magnitude and over the whole network, is compared with that of the epoch before: their
    Hamming distance, over their size, goes into a queue of the last five. When the largest of these is below epsilon,
    the channels are drawn, and what is left goes on training from the weights, the momentum and the rate that it has.

    This follows the authors' description: distances of consecutive epochs, the last five all below the
    threshold (README of GATECH-EIC/Early-Bird-Tickets; the paper's own text was not at hand). Their code differs. It
    takes a mask before each epoch, keeps the last five masks instead of distances, and draws when the newest differs
    from each of the four others by no more than 0.1; a mask keeps the scales above a threshold, and so fewer with ties
    (main.py). It then removes the channels and goes on from that epoch with inherited weights, the penalty and the
    schedule, but a new optimizer (main_c.py and the script retrain_continue.sh). Their models start the scales of batch
    norm at 0.5, against which a penalty weighs twice as much as against the 1 that models have here.

    The density is the fraction of the channels of all batch norms that is kept, exactly, and at least one in each.
    Pruned channels are not removed but held at zero, so that those of residual sums can be pruned too: weight and bias
    of the batch norm, and the filters that feed it and nothing else. Weights that read pruned channels count as kept.

    Attributes:
        epsilon: the distance below which masks are the same.
        penalty: of the L1 norm of the scales, the authors' s.
        latest: fraction of the steps after which the channels are drawn, settled or not.

    """

    epsilon: float = 0.1
    penalty: float = 1e-4
    latest: float = 0.5
    name: ClassVar[str] = EarlyBirdNetwork.name
    details_kind: ClassVar[type] = EarlyBirdDetails

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0.0 and self.penalty >= 0.0 and 0.0 < self.latest <= 1.0):  # NaN is none of these
            raise SupermaskError(
                f"epsilon={self.epsilon}, penalty={self.penalty}, latest={self.latest} do not fit: the first two are"
                " not negative, the last is above 0 and at most 1."
            )

    def run(self, context: RunContext) -> MethodResult:
        """Train, and draw the channels on the way."""
        model = context.build()
        per_epoch = context.recipe.steps_per_epoch(len(context.data.train))
        network = EarlyBirdNetwork(
            model,
            context.whole,
            context.sample.batch(2)[0].cpu(),
            density=context.density,
            epsilon=self.epsilon,
            penalty=self.penalty,
            epoch=per_epoch,
            latest=max(1, math.ceil(self.latest * context.steps)),
        )
        outcome = context.train(network)
        channels = torch.cat(list(network.channels().values()))
        details = EarlyBirdDetails(
            channels=(int(channels.sum()), channels.numel()),
            drawn_step=network.drawn,
            drawn_epoch=network.drawn / per_epoch,
            settled=network.convergence.converged,
            distances=tuple(network.convergence.distances),
        )
        return MethodResult(network, outcome, details=details)
