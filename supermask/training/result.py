"""What a training leaves in the result of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supermask.results import Result, may_be_unmeasured
from supermask.training.evaluation import Score
from supermask.training.state import Outcome
from supermask.training.telemetry import Record


@dataclass(frozen=True)
class Scored:
    """A score as results keep it.

    Attributes:
        correct: examples, or positions of sequences, whose largest logit is that of their label; None where predictions
            are not classes, and the loss alone is measured.
        total: examples, or positions with a label.
        loss: mean loss; the cross-entropy in nats where no other was given.
        accuracy: fraction correct; 0 without examples, NaN where predictions are not classes.

    """

    correct: int | None
    total: int
    loss: float
    accuracy: float = field(metadata=may_be_unmeasured())

    @classmethod
    def of(cls, score: Score) -> "Scored":
        """Return a score with its accuracy."""
        return cls(score.correct, score.total, score.loss, score.accuracy)


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation split during a training.

    Attributes:
        step: optimizer steps before it.
        train_loss: mean loss over the batches since the last one; the cross-entropy in nats where no other was given.
        validation_accuracy: a fraction; None where predictions are not classes.
        validation_loss: mean loss.
        learning_rate: of the step before it.
        telemetry: how far the weights have moved, where that was asked for.

    """

    step: int
    train_loss: float
    validation_accuracy: float | None
    validation_loss: float
    learning_rate: float
    telemetry: Record | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingResult(Result):
    """The result of a run that trains.

    Attributes:
        validation: score of the best step on the validation split, which chose it.
        test: its score on the test set, read once.
        best_step: optimizer steps after which the network was best.
        steps: optimizer steps in all.
        seconds: spent training and evaluating, over all resumptions.
        history: every evaluation; collected results go without.
        train: score of the best step on training examples, without augmentation; None of older runs.
        last_test: test score of the last step; None of older runs.
        tested: test scores of the steps that the recipe's `test_at` lists, by step; None where it lists none.

    """

    validation: Scored
    test: Scored
    best_step: int
    steps: int
    seconds: float
    history: tuple[Evaluation, ...] = ()
    train: Scored | None = None
    last_test: Scored | None = None
    tested: Mapping[int, Scored] | None = None

    @property
    def gap(self) -> float | None:
        """Training accuracy of the best step minus its test accuracy; None of older runs."""
        return None if self.train is None else self.train.accuracy - self.test.accuracy


def measured(outcome: Outcome) -> dict[str, Any]:
    """Return what a training came to as the fields of a `TrainingResult`."""
    records: list[dict[str, Any]] = [dict(record) for record in outcome.history]
    return {
        "validation": Scored.of(outcome.validation),
        "test": Scored.of(outcome.test),
        "best_step": outcome.best_step,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "history": tuple(map(_evaluation, records)),
        "train": None if outcome.train is None else Scored.of(outcome.train),
        "last_test": None if outcome.last_test is None else Scored.of(outcome.last_test),
        "tested": {step: Scored.of(score) for step, score in outcome.tested.items()} or None,
    }


def _evaluation(record: dict[str, Any]) -> Evaluation:
    moved = record.pop("telemetry", None)
    return Evaluation(**record, telemetry=None if moved is None else Record(**moved))
