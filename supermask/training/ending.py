"""The scores at the end of a training: the one time that the test set is read."""

from collections.abc import Mapping
from typing import Any

import torch

from supermask.data import DataSet, Examples
from supermask.training.batch_norm import BATCHES, reestimate
from supermask.training.batches import Batches, Prepared, on_device
from supermask.training.evaluation import Score, evaluate
from supermask.training.processes import Processes
from supermask.training.recipe import Recipe
from supermask.training.subject import Subject

TRAIN_EXAMPLES = 10_000
"""Training examples, at most, that a finished network is scored on: the standard error is half a point at most."""


class Ending:
    """Scores states of a subject after its training; reads the test set when it is made, and never again."""

    def __init__(
        self,
        subject: Subject,
        data: DataSet,
        recipe: Recipe,
        batches: Batches,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._subject, self._batches, self._processes = subject, batches, processes
        parts = {"test": data.test()}
        if data.draw is None:  # labels that are drawn at each step are not those of the stored examples
            parts["train"] = _first(data.train)
        self._parts = {
            name: Prepared(data, on_device(examples, device), recipe, processes) for name, examples in parts.items()
        }

    def test(self, state: Mapping[str, Any]) -> Score:
        """Return the test score of a state, with its statistics estimated again; the subject is left in it."""
        self._subject.load_state_dict(state)
        reestimate(self._subject.model, self._batches.first(BATCHES), self._processes)
        return self._score("test")

    def train(self) -> Score | None:
        """Return the score of the subject as it is on training examples; None where those are drawn at each step."""
        return self._score("train") if "train" in self._parts else None

    def _score(self, part: str) -> Score:
        return evaluate(self._subject.model, self._parts[part], self._processes)


def _first(examples: Examples) -> Examples:
    return Examples(examples.images[:TRAIN_EXAMPLES], examples.labels[:TRAIN_EXAMPLES])
