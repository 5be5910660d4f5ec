"""Accuracy and loss of a network over examples."""

import math
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supermask.data.batch import Batch, batch_of
from supermask.training.objective import Loss, Objective
from supermask.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Score:
    """How well a network does on some examples.

    Attributes:
        correct: examples, or positions of sequences, whose largest logit is that of their label; None where predictions
            are not classes, so that the loss is all that is measured.
        total: examples, or positions with a label.
        loss: mean loss; the cross-entropy in nats where no other was given.

    """

    correct: int | None
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Fraction correct; 0 without examples, NaN where predictions are not classes."""
        if self.correct is None:
            return math.nan
        return self.correct / self.total if self.total else 0.0

    @property
    def text(self) -> str:
        """The accuracy, or the loss where there is none, for a line of text."""
        return f"loss {self.loss:.4g}" if self.correct is None else f"{self.accuracy:.2%}"


def evaluate(
    model: nn.Module, batches: Iterable[Any], processes: Processes = ALONE, *, loss: Loss | None = None
) -> Score:
    """Return the score of a model, run in evaluation mode.

    Args:
        model: any module; what it returns may be a tensor of logits, or outputs that have `logits` or a `loss`.
        batches: (inputs, targets), dictionaries, or tuples of several inputs and the targets, on the model's device.
        processes: of several each gives its share of the batches, and all return the score of all batches.
        loss: a function of outputs and targets; None is the outputs' own, or the cross entropy of integer targets.

    Raises:
        SupermaskError: the targets do not tell which loss is meant, as float ones do not.

    """
    objective = Objective(loss)
    with closing(_outputs(model, batches, objective)) as found:  # closed, so that the model always has its mode again
        return _scored(found, objective, processes)


def outputs(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the logits (batch, classes) of a model, run in evaluation mode, and the labels of each batch."""
    with closing(_outputs(model, batches, Objective())) as found:
        yield from ((logits, batch.targets) for logits, batch in found)


def scored(found: Iterable[tuple[Tensor, Tensor]], processes: Processes = ALONE) -> Score:
    """Return the score of what `outputs` yields; see `evaluate`."""
    return _scored(((logits, Batch(None, labels)) for logits, labels in found), Objective(), processes)


@torch.no_grad()
def _outputs(
    model: nn.Module, batches: Iterable[Any], objective: Objective
) -> Generator[tuple[Any, Batch], None, None]:
    training = model.training
    model.eval()
    try:
        for given in batches:
            batch = batch_of(given)
            yield objective.call(model, model, batch), batch
    finally:
        model.train(training)


@torch.no_grad()
def _scored(found: Iterable[tuple[Any, Batch]], objective: Objective, processes: Processes) -> Score:
    # floats, because processes exchange float64, in which counts up to 2^53 are exact
    correct, total, loss, uncounted = 0.0, 0.0, 0.0, 0.0
    for results, batch in found:
        counts = objective.count(results, batch)
        loss += counts.loss
        total += counts.total
        if counts.correct is None:
            uncounted = 1.0
        else:
            correct += counts.correct
    correct, total, loss, uncounted = processes.sum(correct, total, loss, uncounted)
    # a split may be empty
    return Score(None if uncounted else int(correct), int(total), loss / max(1, int(total)))
