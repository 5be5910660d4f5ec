"""Magnitude pruning after training, in one round or many: one engine for what differs only in its options.

A round trains the network, prunes the weights that ended smallest among those left, and starts the others again: from
their initial values, from those of an early step, or from where they are.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor

from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.rounds.scan import Scanned
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.ladder import Ladder
from supermask.masking.pruning import prune
from supermask.search.algorithm import LATER
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe, State

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
    """The finished training of the dense network.

    Attributes:
        early: the weights of the step that is rewound to.
        final: the weights that the first pruning ranks.
        step: that is rewound to.

    """

    early: Tensors
    final: Tensors
    step: int = 0


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
        taken: optimizer steps from where the training began to its end, or to the best step where the rounds end at
            early stopping; None of older runs.

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
    taken: int | None = None

    @property
    def gap(self) -> float | None:
        """Training accuracy of the best step minus its test accuracy; None of older runs."""
        return None if self.train_accuracy is None else self.train_accuracy - self.test_accuracy


@dataclass(frozen=True)
class RoundsDetails:
    """What rounds of pruning add to a result.

    Attributes:
        rounds: every training, from the dense network down; one that dropped too far is among them.
        whole: optimizer steps of one training by the run's recipe; None of older runs.
        reached: the round whose network is the result, where `stop_drop` ended the rounds; None is the last.
        scan: the steps that were tried for rewinding; the last one was taken. None where none were tried.

    """

    rounds: tuple[Round, ...]
    whole: int | None = None
    reached: int | None = None
    scan: tuple[Scanned, ...] | None = None

    @property
    def cost(self) -> float:
        """Optimizer steps of all trainings, those of the scan too, as a multiple of one whole dense training."""
        taken = sum(each.steps if each.taken is None else each.taken for each in self.rounds)
        taken += sum(each.steps for each in self.scan or ())
        return taken / max(1, self.rounds[0].steps if self.whole is None else self.whole)


@dataclass(frozen=True)
class _Trained:
    """A network that was just trained, the weights that the next round goes on from, and how it is recorded."""

    network: Sparse
    outcome: Outcome
    final: Tensors
    scores: Tensors
    record: Round


@dataclass(frozen=True)
class Rounds(Method):
    """Train, prune by magnitude, and again, down to the density that is asked for.

    The last round prunes to exactly that density; whole rounds are the same for all densities, and are trained once
    where several densities are asked for.

    Attributes:
        stop_drop: points of validation accuracy. The rounds end before the first whose network is further below the
            dense one, and the result is the network before it; the density is then the lowest that is tried. None
            prunes to the density.
        early_stopping: every round ends at the iteration of least validation loss (Frankle & Carbin 2019, section 2):
            its weights are ranked, and kept by methods that train on. As in the paper it is found after the whole
            training; the cost counts the steps until there, without any patience.
        round_steps: optimizer steps of every training but the last, whose schedule is shortened with them; None trains
            all as long.

    """

    details_kind: ClassVar[type] = RoundsDetails

    stop_drop: float | None = field(default=None, kw_only=True, metadata=LATER)
    early_stopping: bool = field(default=False, kw_only=True, metadata=LATER)
    round_steps: int | None = field(default=None, kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        if self.stop_drop is not None and not 0.0 <= self.stop_drop < math.inf:
            raise SupermaskError(f"stop_drop={self.stop_drop} is out of range; give points of accuracy, 0 or more.")
        if self.round_steps is not None and self.round_steps < 1:
            raise SupermaskError(f"round_steps={self.round_steps} is too small; give 1 optimizer step or more.")
        if self.round_steps is not None and self.stop_drop is not None:
            raise SupermaskError("stop_drop compares whole trainings; leave round_steps out.")

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

    def keeps(self, context: RunContext) -> tuple[int, ...]:
        """Return the steps of the dense training whose weights may be rewound to."""
        return (self.keeps_step(context),)

    def rewinding(self, context: RunContext, states: Mapping[int, State]) -> tuple[int, tuple[Scanned, ...] | None]:
        """Return the step that is rewound to, and the scan that chose it, where one did.

        Args:
            context: the run.
            states: of the dense training at the steps that were kept.

        """
        return self.keeps_step(context), None

    def shared(self) -> Self:
        """Return the method with what its trainings do not depend on at its default."""
        return replace(self, stop_drop=None)

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

    def saliencies(self, context: RunContext, state: Tensors, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the weights of a trained network are ranked by, by parameter name; the smallest are pruned.

        Args:
            context: the run.
            state: the state dictionary that the round ended with.
            masks: of the weights that are left.

        """
        return self.scores({name: state[name] for name in masks})

    def run(self, context: RunContext) -> MethodResult:
        """Go down the ladder."""
        self._refuse_without_validation(context)
        shapes = {name: weight.shape for name, weight in context.whole.weights.items() if name in context.whole.masks}
        rounds = self.ladder.rounds_to(shapes, context.density)
        last = min(math.ceil(rounds), 1) if self.one_shot else math.ceil(rounds)
        now, states = self._train_dense(context, whole=not last)
        step, scan = self.rewinding(context, states)
        dense, records, found = TrainedNetwork(states[step].model, now.final, step), [now.record], now
        for place in range(1, last + 1):
            left, down = now.network.masks(), rounds if place == last else place
            scores = now.scores if place == 1 else self.saliencies(context, now.final, left)
            masks = prune(scores, self.ladder.pools(shapes, down), left)
            now = self._train_pruned(context, masks, scores, dense, now.final, (place, down), whole=place == last)
            records.append(now.record)
            if self._dropped(records):
                break
            found = now
        reached = None if found is now else found.record.round
        details = RoundsDetails(tuple(records), context.steps, reached, scan)
        return MethodResult(found.network, found.outcome, found.scores, details)

    def _dropped(self, records: Sequence[Round]) -> bool:
        """Return whether the last network is further below the first than it may be."""
        if self.stop_drop is None:
            return False
        return 100 * (records[0].validation_accuracy - records[-1].validation_accuracy) > self.stop_drop

    def _train_dense(self, context: RunContext, *, whole: bool) -> tuple[_Trained, Mapping[int, State]]:
        recipe, kept = self._recipe(context.recipe, whole), self.keeps(context)
        steps = recipe.steps(len(context.data.train))
        if max(kept) > steps:
            raise SupermaskError(f"Cannot rewind to step {max(kept)}: the training has {steps} steps.")
        network = context.sparse()
        outcome = context.train(network, stage=self._stage(0, whole), recipe=recipe, keep=kept)
        final = self._final(network, outcome)
        record = self._record(0, network, outcome, 0)
        return _Trained(network, outcome, final, self.saliencies(context, final, network.masks()), record), outcome.kept

    def _train_pruned(
        self,
        context: RunContext,
        masks: Tensors,
        scores: Tensors,
        dense: TrainedNetwork,
        final: Tensors,
        place: tuple[int, float],
        *,
        whole: bool,
    ) -> _Trained:
        """Train the network of new masks; `place` is the number of the round, and how many the ladder counts."""
        ticket = replace(context.whole, masks={name: mask.cpu() for name, mask in masks.items()})
        again = self.again(context, ticket, dense, final)
        network = context.sparse(ticket=again.ticket)
        if again.weights is not None:
            network.load_weights(again.weights)
        recipe = self._recipe(again.recipe or context.recipe, whole)
        outcome = context.train(network, stage=self._stage(place[1], whole), recipe=recipe, start=again.start)
        record = self._record(place[0], network, outcome, again.start)
        return _Trained(network, outcome, self._final(network, outcome), scores, record)

    def _recipe(self, recipe: Recipe, whole: bool) -> Recipe:
        """Return how a round is trained; the last one is whole."""
        if self.early_stopping:
            recipe = replace(recipe, best="loss")
        if self.round_steps is None or whole:
            return recipe
        return replace(recipe, iterations=self.round_steps, test_at=())

    def _stage(self, rounds: float, whole: bool) -> str:
        """Return a name for the training after so many rounds: a part of a round is named in full."""
        name = f"round-{int(rounds):02d}"
        if rounds != int(rounds):
            name = f"{name}-and-{rounds - int(rounds):.6g}"
        # the last round at one density is a shorter one at a lower density
        return f"{name}-whole" if whole and self.round_steps is not None else name

    def _final(self, network: Sparse, outcome: Outcome) -> Tensors:
        """Return the weights that a training ended with: a subject is left in the state of its best step."""
        last: Tensors = outcome.last["model"]
        return network.model.state_dict() if self.early_stopping else last

    def _record(self, place: int, network: Sparse, outcome: Outcome, start: int) -> Round:
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
            taken=(outcome.best_step if self.early_stopping else outcome.steps) - start,
        )

    def _refuse_without_validation(self, context: RunContext) -> None:
        needing = [option for option in ("stop_drop", "early_stopping") if getattr(self, option) not in (None, False)]
        if needing and not len(context.data.validation):
            raise SupermaskError(f"{needing[0]} needs validation examples; {context.data.name} has none here.")


@dataclass(frozen=True)
class GlobalRounds(Rounds):
    """Rounds with one ranking over the whole network."""

    rate: float = 0.2

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        return Ladder(self.rate, whole=True)
