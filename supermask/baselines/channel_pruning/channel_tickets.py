"""Structured lottery tickets: rounds that remove channels and reset what is left to its initial weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from supermask.baselines.channel_pruning.filter_pruning import Narrow, prunable_layers
from supermask.baselines.channel_pruning.removable import (
    RemovableChannels,
    cut_masks,
    removable_channels,
    remove_channels,
)
from supermask.baselines.dense import Dense
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.rounds.engine import Round, RoundsDetails
from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.training import Outcome

Channels = Mapping[str, Tensor]
"""Which channels of each layer are left, by its name: bool (channels,)."""


class ChannelTicket(Narrow):
    """A network without some of its channels, trained from the initial weights of the others."""

    name: ClassVar[str] = "channel_tickets"


@dataclass(frozen=True)
class ChannelTickets(Method):
    """Lottery tickets of whole channels: iterative, with resetting.

    The rounds of Frankle & Carbin 2019, section 2, with filters in place of weights: each round trains the network,
    removes the filters of smallest L1 norm (Li et al. 2017) from each layer that can be made smaller, and resets the
    others to their initial weights. The small networks are really small, and nothing is masked. Such tickets are what
    Liu et al. 2019, sections 4 and 5, find no better than other initial weights, which the control `reinitialised`
    asks.

    The density is the fraction of the filters that is kept, as in `FilterPruning`.

    Attributes:
        rate: fraction of the filters left that a round removes from each layer.

    """

    name: ClassVar[str] = ChannelTicket.name
    details_kind: ClassVar[type] = RoundsDetails

    rate: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise SupermaskError(f"{self.name}: rate={self.rate} is out of range; it is between 0 and 1.")

    def run(self, context: RunContext) -> MethodResult:
        """Train, remove and reset, down to the density."""
        removable = removable_channels(context.build(), context.sample.batch(2)[0].cpu())
        layers = prunable_layers(removable, context.whole.masks)
        left: Channels = {name: torch.ones(removable.layers[name], dtype=torch.bool) for name in layers}
        network, outcome, record = self._trained(context, removable, left, "round-00")
        records = [record]
        for number, density in enumerate(self.densities(context.density), 1):
            left = smaller(outcome.last["model"], left, density)
            whole_round = density > context.density
            stage = f"round-{number:02d}" if whole_round else f"round-{number:02d}-to-{density:.6g}"
            network, outcome, record = self._trained(context, removable, left, stage)
            records.append(replace(record, round=number))
        return MethodResult(network, outcome, details=RoundsDetails(tuple(records), context.steps))

    def densities(self, density: float) -> list[float]:
        """Return the fraction of the filters that each round leaves; the last one is the density."""
        found: list[float] = []
        now = 1.0 - self.rate
        # a round that would end at the density to rounding is the last
        while density < 1.0 and now > density * (1.0 + 1e-9):
            found.append(now)
            now *= 1.0 - self.rate
        return [*found, density] if density < 1.0 else []

    def _trained(
        self, context: RunContext, removable: RemovableChannels, left: Channels, stage: str
    ) -> tuple[ChannelTicket, Outcome, Round]:
        """Train the network of the channels that are left, from its initial weights."""
        dense = Dense(context.build(), seed=context.seed, weights=context.weights)
        masks = cut_masks(removable.cuts(left), context.whole.masks)
        small = remove_channels(dense.model, left, removable)
        network = ChannelTicket(small, replace(context.whole, masks=masks))
        outcome = context.train(network, stage=stage)
        ticket = network.ticket()
        record = Round(
            round=0,
            kept=ticket.kept,
            density=ticket.density,
            test_accuracy=outcome.test.accuracy,
            validation_accuracy=outcome.validation.accuracy,
            best_step=outcome.best_step,
            steps=outcome.steps,
            seconds=round(outcome.seconds, 3),
            train_accuracy=outcome.train.accuracy if outcome.train else None,
            last_test_accuracy=outcome.last_test.accuracy if outcome.last_test else None,
            taken=outcome.steps,
        )
        return network, outcome, record


def smaller(state: Mapping[str, Tensor], left: Channels, density: float) -> dict[str, Tensor]:
    """Return the channels with the largest L1 norms among those left, bool (channels,) by layer.

    Args:
        state: the state dictionary of the small network of the channels left, trained.
        left: of the whole network.
        density: fraction of each layer's channels of the whole network, rounded half to even, but at least one.

    """
    norms, pools = {}, []
    for name, there in left.items():
        norm = torch.zeros(len(there), dtype=torch.float64)
        norm[there] = state[f"{name}.weight"].detach().double().cpu().abs().flatten(1).sum(1)
        norms[name] = norm
        pools.append(Pool((name,), max(1, min(int(there.sum()), round(density * len(there))))))
    return prune(norms, pools, left)
