"""A training at one optimizer step, where others may start, and what a whole training came to."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from supermask.training.evaluation import Score
from supermask.training.subject import Subject


@dataclass(frozen=True)
class State:
    """A training after some optimizer steps.

    Two trainings that start from one state and see other orders of the examples are copies that differ in the noise of
    SGD alone (Frankle, Dziugaite, Roy & Carbin 2020, section 2): the optimizer's momentum is a part of the state.

    Attributes:
        step: optimizer steps before it. A training that starts here takes the batches and the learning rates of the
            recipe from this step on.
        subject: what the subject's `state_dict` returned. None starts from the tensors that a subject has.
        optimizer: what the optimizer's `state_dict` returned. None starts with a fresh optimizer.

    """

    step: int
    subject: Mapping[str, Any] | None = None
    optimizer: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, step: int, subject: Subject, optimizer: torch.optim.Optimizer | None) -> Self:
        """Return the present state of a training, copied."""
        return cls(step, deepcopy(subject.state_dict()), deepcopy(optimizer.state_dict()) if optimizer else None)

    @property
    def whole(self) -> Mapping[str, Any]:
        """What the subject's `state_dict` returned, where the state holds it."""
        assert self.subject is not None, "a state that starts from what the subject has holds no network"
        return self.subject

    @property
    def model(self) -> Mapping[str, Tensor]:
        """The state dictionary of the network: weights and statistics."""
        tensors: Mapping[str, Tensor] = self.whole["model"]
        return tensors

    def rescheduled(self) -> Self:
        """Return the state as the start of a whole recipe: all of its steps and rates, from the first on."""
        return replace(self, step=0)

    def onto(self) -> Self:
        """Return the start of a subject that holds the weights already, e.g. with other masks; the momentum stays."""
        return replace(self, subject=None)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that tell the state from others."""
        found = hashlib.sha256(str(self.step).encode())
        _add(found, self.subject)
        _add(found, self.optimizer)
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What a training run came to. The subject is left in the state of the best step.

    Attributes:
        best_step: optimizer steps after which the network did best on the validation split; see `Recipe.best`.
        steps: optimizer steps in all.
        validation: score of the best step on the validation split, which chose it.
        test: its score on the test set, read once.
        history: one record per evaluation: step, train_loss, validation accuracy and loss, learning_rate, and
            telemetry where it was asked for.
        seconds: spent training and evaluating, over all resumptions.
        last: what the subject's `state_dict` returned after the last step.
        kept: the states of the steps that were asked for, by step.
        train: score of the best step on the first training examples in stored order, without augmentation: at most
            `ending.TRAIN_EXAMPLES`. None where it was not asked for, or the examples are drawn at each step.
        last_test: test score of the last step, with its statistics estimated again; None where it was not asked for.
        tested: the same of the steps that `Recipe.test_at` lists, by step.

    """

    best_step: int
    steps: int
    validation: Score
    test: Score
    history: list[dict[str, Any]]
    seconds: float
    last: Mapping[str, Any] = field(default_factory=dict, repr=False)
    kept: Mapping[int, State] = field(default_factory=dict, repr=False)
    train: Score | None = None
    last_test: Score | None = None
    tested: Mapping[int, Score] = field(default_factory=dict)


def _add(found: "hashlib._Hash", value: Any) -> None:
    """Add plain values and tensors to a digest, each with what kind it is."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            found.update(f"{key}:".encode())
            _add(found, part)
    elif isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        found.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, list | tuple):
        for part in value:
            _add(found, part)
    else:
        found.update(f"{value!r};".encode())
