"""Accuracy and loss of a network over labelled examples."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermask.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Score:
    """How well a network does on some examples.

    Attributes:
        correct: examples whose largest logit is that of their label.
        total: examples.
        loss: mean cross-entropy, in nats.

    """

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Fraction correct; 0 without examples."""
        return self.correct / self.total if self.total else 0.0


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], processes: Processes = ALONE) -> Score:
    """Return the score of a model, run in evaluation mode and float32, over (inputs, labels int64 (batch,)).

    Of several processes each gives its share of the batches, and all return the score of all batches.
    """
    with closing(outputs(model, batches)) as found:  # closed, so that the model has its mode again whatever happens
        return scored(found, processes)


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the logits (batch, classes) of a model, run in evaluation mode, and the labels of each batch."""
    training = model.training
    model.eval()
    try:
        for inputs, labels in batches:
            yield model(inputs), labels
    finally:
        model.train(training)


def scored(found: Iterable[tuple[Tensor, Tensor]], processes: Processes = ALONE) -> Score:
    """Return the score of what `outputs` yields; see `evaluate`."""
    # floats, because processes exchange float64, in which counts up to 2^53 are exact
    correct, total, loss = 0.0, 0.0, 0.0
    for logits, labels in found:
        correct += float((logits.argmax(1) == labels).sum())
        # a sum and not a mean, because the last batch may be smaller
        loss += float(cross_entropy(logits.float(), labels, reduction="sum"))
        total += len(labels)
    correct, total, loss = processes.sum(correct, total, loss)
    # a split may be empty
    return Score(int(correct), int(total), loss / max(1, int(total)))
