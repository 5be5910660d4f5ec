"""Pufferfish: a network is trained whole for a while, then its layers are factored, and the factors are trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from supermask.baselines.dense import Dense
from supermask.baselines.low_rank.factors import can_be_factored, ranks_for, with_factors
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.errors import SupermaskError
from supermask.graph import Cost, cost_of


class LowRank(Dense):
    """A network some of whose layers are products of two, trained as any dense network is.

    Args:
        model: with the factors that it starts from.

    """

    name: ClassVar[str] = "pufferfish"

    def __init__(self, model: nn.Module) -> None:
        self.model = model


@dataclass(frozen=True)
class LowRankDetails:
    """What low-rank training adds to a result.

    Attributes:
        ranks: of the layers that were factored, by name.
        ratio: of each rank to the smaller number of units or channels of its layer, before rounding.
        warm_up: optimizer steps of the whole network.
        before: the whole network.
        after: the factored network.

    """

    ranks: Mapping[str, int]
    ratio: float
    warm_up: int
    before: Cost
    after: Cost

    @property
    def cost(self) -> float:
        """Optimizer steps as a multiple of one whole dense training: both parts are one training."""
        return 1.0


@dataclass(frozen=True)
class Pufferfish(Method):
    """Low-rank training after a whole warm-up, with hybrid layers (Wang, Agarwal & Papailiopoulos 2021, section 3).

    The whole network is trained for a part of the recipe's steps. Then each layer but the first few and the last is
    replaced by the two factors of its truncated singular value decomposition, W = (U sqrt(S)) (sqrt(S) V^T), and the
    recipe goes on from there, with a fresh optimizer. Batch norm stays what it was.

    The paper has one ratio of the rank to a layer's width, 0.25. Here it is the largest ratio at which the network has
    at most density times its prunable weights, so that the density counts weights as it does elsewhere; all layers have
    the same. The result is no ticket: no weight of the network is zero, and none is random.

    In the warm-up the learning rate stays at its peak after its own warm-up, as in the paper, whose first drop comes
    later. Its hybrid VGG-19 has nine convolutions whole, and 80 of 300 epochs of warm-up on CIFAR-10 (appendix).

    Attributes:
        warm_up: fraction of the run's optimizer steps that train the whole network.
        whole: number of layers that stay whole at the beginning of the network; the last one does in any case.

    """

    name: ClassVar[str] = LowRank.name
    details_kind: ClassVar[type] = LowRankDetails

    warm_up: float = 80 / 300
    whole: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.warm_up < 1.0 or self.whole < 0:
            raise SupermaskError(
                f"{self.name}: warm_up={self.warm_up}, whole={self.whole} do not fit: the first is in [0, 1), the"
                " second not negative."
            )

    def run(self, context: RunContext) -> MethodResult:
        """Train whole, factor, and train on."""
        steps = round(self.warm_up * context.steps)
        dense = Dense(context.build(), seed=context.seed, weights=context.weights)
        ratio, ranks = self.ranks(context, dense.model)
        example = context.sample.batch(2)[0].cpu()
        before = cost_of(dense.model, example)
        recipe = replace(
            context.recipe,
            iterations=steps,
            decay="constant",
            warm_up=context.recipe.warm_up_steps(context.steps) if steps else 0,
            evaluate_every=0,
            test_at=(),
        )
        warmed = context.train(dense, stage="warm-up", recipe=recipe)
        dense.load_state_dict(warmed.last)  # the best step of the warm-up may be an earlier one
        network = LowRank(with_factors(dense.model, ranks))
        outcome = context.train(network, start=steps)
        details = LowRankDetails(ranks, ratio, steps, before, cost_of(network.model, example))
        return MethodResult(network, outcome, details=details)

    def ranks(self, context: RunContext, model: nn.Module) -> tuple[float, dict[str, int]]:
        """Return the ratio and the rank of each layer that is factored.

        Raises:
            SupermaskError: no layer can be factored, or the density leaves too few weights for the others.

        """
        prunable = context.whole.masks
        layers = {
            name: tuple(module.weight.shape)
            for name, module in model.named_modules()
            if f"{name}.weight" in prunable and isinstance(module, nn.Linear | nn.Conv2d) and can_be_factored(module)
        }
        free = dict([*layers.items()][self.whole : -1])
        if not free:
            raise SupermaskError(
                f"{self.name}: the network has {len(layers)} layers that can be factored, of which the first"
                f" {self.whole} and the last stay whole; give a deeper network, or a smaller whole."
            )
        every = sum(mask.numel() for mask in prunable.values())
        rest = every - sum(map(math.prod, free.values()))
        return ranks_for(free, round(context.density * every) - rest)
