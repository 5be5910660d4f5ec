"""Magnitude pruning after training, in one round or many: one engine for what differs only in its options.

A round trains the network, prunes the weights that ended smallest among those left, and starts the others again: from
their initial values, from those of an early step, or from where they are.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.ladder import Ladder
from supermask.masking.pruning import prune
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Again:
    """How a pruned network is trained: its first weights, its recipe and the step to begin at.

    Attributes:
        ticket: the pruned network at its initialisation.
        weights: a state dictionary to start from; None starts from the ticket's own weights.
        recipe: None is the run's.
        start: optimizer step of the recipe to begin at.

    """

    ticket: Ticket
    weights: Tensors | None = None
    recipe: Recipe | None = None
    start: int = 0


@dataclass(frozen=True)
class TrainedNetwork:
    """A finished training: the weights that it began with (after an early step, if one was kept) and ended with."""

    early: Tensors
    final: Tensors


@dataclass(frozen=True)
class Round:
    """A training of the ladder.

    Attributes:
        round: of pruning, from 0, which is the dense network.
        kept: prunable weights of the network that was trained.
        density: their fraction.
        test_accuracy: of its best step, a fraction.
        validation_accuracy: a fraction.
        best_step: that was best on the validation split.
        steps: optimizer steps.
        seconds: of the training.
        train_accuracy: of its best step on training examples; None of older runs.
        last_test_accuracy: of its last step; None of older runs.
        tested: test accuracies of the steps that the recipe's `test_at` lists, by step; None where it lists none.

    """

    round: int
    kept: int
    density: float
    test_accuracy: float
    validation_accuracy: float
    best_step: int
    steps: int
    seconds: float
    train_accuracy: float | None = None
    last_test_accuracy: float | None = None
    tested: Mapping[int, float] | None = None

    @property
    def gap(self) -> float | None:
        """Training accuracy of the best step minus its test accuracy; None of older runs."""
        return None if self.train_accuracy is None else self.train_accuracy - self.test_accuracy


@dataclass(frozen=True)
class RoundsDetails:
    """What rounds of pruning add to a result: every training, from the dense network down."""

    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class Rounds(Method):
    """Train, prune by magnitude, and again, down to the density that is asked for.

    The last round prunes to exactly that density; whole rounds are the same for all densities, and are trained once
    where several densities are asked for.
    """

    details_kind: ClassVar[type] = RoundsDetails

    @property
    @abstractmethod
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""

    @property
    def one_shot(self) -> bool:
        """Whether all is pruned in one round."""
        return False

    def keeps_step(self, context: RunContext) -> int:
        """Return the optimizer step of the dense training whose weights are rewound to; 0 are the initial ones."""
        return 0

    @abstractmethod
    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Return how a network that was just pruned is trained.

        Args:
            context: the run.
            ticket: the network, pruned, at its initialisation.
            dense: the training of the dense network.
            final: the weights that the last round ended with, in which those that were just pruned are not yet zero.

        """

    def scores(self, weights: Tensors) -> dict[str, Tensor]:
        """Return what the weights are ranked by: their magnitudes."""
        return {name: weight.abs() for name, weight in weights.items()}

    def run(self, context: RunContext) -> MethodResult:
        """Go down the ladder."""
        shapes = {name: weight.shape for name, weight in context.whole.weights.items() if name in context.whole.masks}
        rounds = self.ladder.rounds_to(shapes, context.density)
        last = min(math.ceil(rounds), 1) if self.one_shot else math.ceil(rounds)
        network, outcome, dense = self._train_dense(context)
        records, scores = [_record(0, network, outcome)], self.scores(_of(dense.final, shapes))
        masks, final = network.masks(), dense.final
        for place in range(1, last + 1):
            scores, down = self.scores(_of(final, shapes)), rounds if place == last else place
            masks = prune(scores, self.ladder.pools(shapes, down), masks)
            network, outcome = self._train_pruned(context, masks, dense, final, _stage(down))
            final = outcome.last["model"]
            records.append(_record(place, network, outcome))
        return MethodResult(network, outcome, scores, RoundsDetails(tuple(records)))

    def _train_dense(self, context: RunContext) -> tuple[Sparse, Outcome, TrainedNetwork]:
        rewound = self.keeps_step(context)
        if rewound > context.steps:
            raise SupermaskError(f"Cannot rewind to step {rewound}: the training has {context.steps} steps.")
        network = context.sparse()
        outcome = context.train(network, stage=_stage(0), keep=(rewound,))
        return network, outcome, TrainedNetwork(outcome.kept[rewound].model, outcome.last["model"])

    def _train_pruned(
        self, context: RunContext, masks: Tensors, dense: TrainedNetwork, final: Tensors, stage: str
    ) -> tuple[Sparse, Outcome]:
        ticket = replace(context.whole, masks={name: mask.cpu() for name, mask in masks.items()})
        again = self.again(context, ticket, dense, final)
        network = context.sparse(ticket=again.ticket)
        if again.weights is not None:
            network.load_weights(again.weights)
        return network, context.train(network, stage=stage, recipe=again.recipe, start=again.start)


@dataclass(frozen=True)
class GlobalRounds(Rounds):
    """Rounds with one ranking over the whole network."""

    rate: float = 0.2

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        return Ladder(self.rate, whole=True)


def _of(state: Tensors, names: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: state[name] for name in names}


def _stage(rounds: float) -> str:
    """Return a name for the training after so many rounds: a part of a round is named in full."""
    whole = f"round-{int(rounds):02d}"
    return whole if rounds == int(rounds) else f"{whole}-and-{rounds - int(rounds):.6g}"


def _record(place: int, network: Sparse, outcome: Outcome) -> Round:
    ticket = network.ticket()
    return Round(
        round=place,
        kept=ticket.kept,
        density=ticket.density,
        test_accuracy=outcome.test.accuracy,
        validation_accuracy=outcome.validation.accuracy,
        best_step=outcome.best_step,
        steps=outcome.steps,
        seconds=round(outcome.seconds, 3),
        train_accuracy=outcome.train.accuracy if outcome.train else None,
        last_test_accuracy=outcome.last_test.accuracy if outcome.last_test else None,
        tested={step: score.accuracy for step, score in outcome.tested.items()} or None,
    )
