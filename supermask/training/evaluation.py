"""Accuracy and loss of a network over labelled examples."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


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


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Score:
    """Return the score of a model, run in evaluation mode and float32, over (inputs, labels int64 (batch,))."""
    training = model.training
    model.eval()
    try:
        correct, total, loss = 0, 0, 0.0
        for inputs, labels in batches:
            logits = model(inputs)
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(cross_entropy(logits.float(), labels, reduction="sum"))
            total += len(labels)
        return Score(correct, total, loss / max(1, total))
    finally:
        model.train(training)
