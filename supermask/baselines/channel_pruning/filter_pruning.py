"""Filter pruning: the filters of a trained network with the smallest weights are removed, and the rest is retrained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from supermask.baselines.channel_pruning.removable import (
    RemovableChannels,
    cut_masks,
    removable_channels,
    remove_channels,
)
from supermask.baselines.dense import Dense
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.errors import SupermaskError
from supermask.graph import Cost, cost_of
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.ticket import Ticket
from supermask.training import Recipe
from supermask.versions import versions


class Narrow(Dense):
    """A trained network without some of its channels, trained further as any dense network is.

    Args:
        model: the small network, with the weights that it inherits.
        start: the ticket of the large network at its initialisation, with masks that prune what was removed.

    """

    name: ClassVar[str] = "filter_pruning"

    def __init__(self, model: nn.Module, start: Ticket) -> None:
        self.model = model
        self._start = start

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of what was kept: the network as it was before any training, in its large shape.

        Args:
            **provenance: plain values to keep with it.

        """
        made = {"algorithm": self.name, "versions": versions(), "trained": True}
        return replace(self._start, provenance={**made, **provenance})


@dataclass(frozen=True)
class DenseCost(Cost):
    """What the dense network costs, its test accuracy, a fraction, and the steps of its training."""

    test_accuracy: float
    steps: int


@dataclass(frozen=True)
class FilterDetails:
    """What the removal of filters adds to a result.

    Attributes:
        filters: of each layer that can be made smaller, by name: kept, and in all.
        whole_layers: why each other layer stays whole, by name.
        before: the dense network, trained.
        after: the small network.

    """

    filters: Mapping[str, tuple[int, int]]
    whole_layers: Mapping[str, str]
    before: DenseCost
    after: Cost


@dataclass(frozen=True)
class FilterPruning(Method):
    """Filter pruning by the L1 norm (Li, Kadav, Durdanovic, Samet & Graf 2017, sections 3.1, 3.3, 3.4).

    A dense network is trained with the recipe. In each layer whose channels can be removed, the filters with the
    smallest sum of magnitudes, s_j = sum |K_j|, go, all layers at once and each by itself ("independent pruning"; the
    paper's greedy way leaves out of the sum what reads removed channels). They are removed for good, with the batch
    norm and the inputs of the next layer that belong to them, and the rest is retrained from the weights that it has.

    The density is the fraction of the filters that is kept, the same in each of these layers, round(density * n) of n
    but at least one; the paper chooses it stage by stage. A hidden unit of a linear layer counts as a filter; the
    paper's networks have none. In a residual network only the first convolutions of the blocks can be made smaller; the
    paper removes channels of the second ones with those of projection shortcuts, which is not done here. A depthwise
    convolution goes with the channels that it reads.

    The recipe is that of the dense network, and the retraining comes on top. By default it is the paper's for CIFAR-10
    (section 4): a quarter of the training (40 epochs) at a constant 0.001, a hundredth of the peak rate.

    Attributes:
        retrain: steps of the retraining, over those of the recipe.
        rate: its learning rate, which is constant, over the recipe's peak rate.

    """

    retrain: float = 0.25
    rate: float = 0.01
    name: ClassVar[str] = Narrow.name
    details_kind: ClassVar[type] = FilterDetails
    kind: ClassVar[type[Narrow]] = Narrow
    order: ClassVar[int] = 1
    """Of the norm that filters are ranked by."""

    def __post_init__(self) -> None:
        if not (self.retrain >= 0.0 and self.rate > 0.0):  # NaN is none of these
            raise SupermaskError(
                f"retrain={self.retrain}, rate={self.rate} do not fit: the first is not negative, the second positive."
            )

    def run(self, context: RunContext) -> MethodResult:
        """Train, remove filters, and retrain."""
        example = context.sample.batch(2)[0].cpu()
        removable = removable_channels(context.build(), example)
        layers = prunable_layers(removable, context.whole.masks)
        dense = self.dense(context, layers)
        trained = context.train(dense, stage="dense")
        before = cost_of(dense.model, example)
        kept = largest_filters(dense.model, layers, context.density, order=self.order)
        masks = cut_masks(removable.cuts(kept), context.whole.masks)
        small = self.kind(remove_channels(dense.model, kept, removable), replace(context.whole, masks=masks))
        outcome = context.train(small, recipe=self.retraining(context.recipe, context.steps))
        details = FilterDetails(
            filters={name: (int(mask.sum()), len(mask)) for name, mask in kept.items()},
            whole_layers=dict(removable.refused),
            before=DenseCost(**asdict(before), test_accuracy=trained.test.accuracy, steps=trained.steps),
            after=cost_of(small.model, example),
        )
        return MethodResult(small, outcome, details=details)

    def dense(self, context: RunContext, layers: Sequence[str]) -> Dense:
        """Return the network that is trained first, given the names of the layers that will lose filters."""
        return Dense(context.build(), seed=context.seed, weights=context.weights)

    def retraining(self, recipe: Recipe, steps: int) -> Recipe:
        """Return the recipe of the retraining: the other one's, but shorter and at a small constant rate."""
        return replace(
            recipe,
            iterations=round(self.retrain * steps),
            learning_rate=self.rate * recipe.peak,
            decay="constant",
            warm_up=0,
        )


def prunable_layers(removable: RemovableChannels, prunable: Iterable[str]) -> list[str]:
    """Return the layers whose filters can be removed without touching a weight that is not to be pruned.

    Args:
        removable: of the network.
        prunable: names of the parameters that may be pruned.

    Raises:
        SupermaskError: there is none.

    """
    whole = {f"{name}.weight" for name in (*removable.layers, *removable.refused)} - set(prunable)
    layers = [
        name
        for name in removable.layers
        if not whole & {f"{touched}.weight" for touched in (name, *removable.readers(name))}
    ]
    if not layers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(removable.refused.items())[:3])
        raise SupermaskError(
            f"The network has no layer whose filters can be removed ({reasons or 'no layer may be pruned'}); choose a"
            " network with a convolutional or linear layer between others."
        )
    return layers


def largest_filters(model: nn.Module, layers: Iterable[str], density: float, *, order: int = 1) -> dict[str, Tensor]:
    """Return which filters of each layer have the largest norms, bool (filters,); ties go to the lowest index.

    Args:
        model: trained.
        layers: names of layers with weights.
        density: fraction of each layer's filters that is kept, rounded half to even, but at least one filter.
        order: of the norm; 1 is the sum of magnitudes.

    """
    norms: Mapping[str, Tensor] = {
        name: model.get_submodule(name).get_parameter("weight").detach().double().flatten(1).norm(p=order, dim=1)
        for name in layers
    }
    pools = [Pool((name,), max(1, round(density * len(norm)))) for name, norm in norms.items()]
    return {name: kept.cpu() for name, kept in prune(norms, pools).items()}
