"""What all methods that prune before any training have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from supermask.baselines.at_initialisation.examples import ExampleSource, Given
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.errors import SupermaskError
from supermask.masking.budget import Global, Scope, checked_density
from supermask.masking.pruning import prune
from supermask.parameters.copies import copy_of
from supermask.random.distributions import Distribution
from supermask.search.algorithm import LATER
from supermask.ticket import Ticket
from supermask.training import State
from supermask.training.objective import Loss, Objective, unwrapped


@dataclass(frozen=True)
class AtInitialisation(Method):
    """A method that prunes once, before any training, or after a few steps of it.

    What it adds is its `scores`; those that prune step by step have a `choose` of their own.

    Attributes:
        prune_step: optimizer step of the dense training whose weights are scored; 0 are the initial ones.
        state_step: optimizer step whose weights, and rest of the recipe, the pruned network is trained from; None is
            `prune_step`. Frankle, Dziugaite, Roy & Carbin 2021, section 6, prune later in this way.

    """

    prune_step: int = field(default=0, kw_only=True, metadata=LATER)
    state_step: int | None = field(default=None, kw_only=True, metadata=LATER)

    scope: ClassVar[Scope] = Global(floor=0)  # a layer may be emptied: that is what the collapse of a layer is

    def __post_init__(self) -> None:
        if self.prune_step < 0 or (self.state_step or 0) < 0:
            steps = f"prune_step={self.prune_step}, state_step={self.state_step}"
            raise SupermaskError(f"{self.name}: {steps} do not fit; give steps of 0 or more.")

    @abstractmethod
    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return a score for each prunable weight, by parameter name; the largest are kept.

        Args:
            network: at its initialisation, whole; left as it was.
            sample: gives training examples.

        """

    def choose(
        self, network: Sparse, sample: ExampleSource, density: float
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks of this density and the scores that they were chosen by.

        Args:
            network: at its initialisation, whole; left as it was.
            sample: gives training examples.
            density: fraction of the prunable weights that is kept, in [0, 1].

        """
        scores = self.scores(network, sample)
        return self.masks(scores, density), scores

    def masks(self, scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
        """Return the masks of the largest scores.

        Raises:
            SupermaskError: a score is NaN or infinite.

        """
        for name, score in scores.items():
            lost = int((~score.isfinite()).sum())
            if lost:
                raise SupermaskError(
                    f"{lost:,} of {score.numel():,} {self.name} scores of {name} are NaN or infinite, for its gradients"
                    f" leave the range of {str(score.dtype).removeprefix('torch.')}; give weights, examples or a loss"
                    " of a smaller scale."
                )
        shapes = {name: tuple(score.shape) for name, score in scores.items()}
        return prune(scores, self.scope.pools(shapes, density))

    def run(self, context: RunContext) -> MethodResult:
        """Prune the network, at its initialisation or at a step of its dense training, and train it."""
        start = self.prune_step if self.state_step is None else self.state_step
        if not (self.prune_step or start):
            masks, scores = self.choose(context.sparse(), context.sample, context.density)
            network = context.sparse(masks)
            return MethodResult(network, context.train(network), scores)
        states = self._dense_states(context, {self.prune_step, start})
        looked_at = context.sparse()
        looked_at.load_weights(states[self.prune_step].model)
        masks, scores = self.choose(looked_at, context.sample, context.density)
        network = context.sparse(masks)
        network.load_weights(states[start].model)
        return MethodResult(network, context.train(network, start=start), scores)

    def shared(self) -> Self:
        """Return the method with its options at their defaults: no dense training depends on them."""
        return type(self)()

    def _dense_states(self, context: RunContext, steps: set[int]) -> Mapping[int, State]:
        """Return the dense training at some of its steps.

        Raises:
            SupermaskError: the training is shorter, or a step is negative.

        """
        if wrong := [step for step in steps if not 0 <= step <= context.steps]:
            raise SupermaskError(
                f"{self.name}: step {wrong[0]} is not one of the training's; give prune_step and state_step from 0 to"
                f" {context.steps}."
            )
        stage = f"dense-{'-'.join(map(str, sorted(steps)))}"
        return context.train(context.sparse(), stage=stage, keep=steps).kept

    def ticket(
        self,
        model: nn.Module,
        *,
        density: float,
        seed: int = 0,
        examples: Any = None,
        loss: Loss | None = None,
        weights: str | Distribution = "kaiming_normal",
        include: tuple[str, ...] = (),
        dense: tuple[str, ...] = (),
    ) -> Ticket:
        """Return the ticket that this method finds for a model of your own; `Ticket.apply` makes its network.

        Args:
            model: any module; left as it was; the weights are drawn again. The ticket is that of the module within
                `nn.DataParallel`.
            density: fraction of the prunable weights that is kept, in [0, 1].
            seed: of the weights, and of random masks.
            examples: a batch on the model's device: (inputs, targets), a dictionary with its targets under "labels", or
                several inputs and the targets last. All of it is looked at, whatever number the method would draw from
                a data set. SynFlow looks at the shape of an input only, and magnitude and random masks need none.
            loss: a function of what the model returns and the targets, to a scalar; None is the loss that the outputs
                have themselves, or the cross entropy of integer targets.
            weights: distribution of the initial weights, by name or a `Distribution`.
            include: parameters that can be pruned besides the weights of two or more dimensions.
            dense: weights that are never pruned; they do not count as prunable.

        Raises:
            SupermaskError: the density is out of range, examples are needed and were not given, no loss is certain,
                e.g. for float targets, or pruning is to come later.

        """
        checked_density(density)
        if self.prune_step or self.state_step:
            raise SupermaskError(
                f"{self.name}: prune_step={self.prune_step}, state_step={self.state_step} need a training; `ticket`"
                " prunes at initialisation."
            )
        own = copy_of(unwrapped(model))
        network = Sparse(own, whole_ticket(own, seed=seed, weights=weights, include=include, dense=dense))
        masks, _ = self.choose(network, Given(seed, examples, Objective(loss)), density)
        network.set_masks(masks)
        return network.ticket(algorithm=self.name, options=self.recorded_options(), trained=False)
