"""The scores at the end of a training: the one time that the test set is read."""

from collections.abc import Mapping
from typing import Any

from supermask.training.batch_norm import BATCHES, reestimate
from supermask.training.batches import Source
from supermask.training.evaluation import Score, evaluate
from supermask.training.objective import Objective
from supermask.training.processes import Processes
from supermask.training.subject import Subject


class Ending:
    """Scores states of a subject after its training; reads the test set when it is made, and never again."""

    def __init__(self, subject: Subject, batches: Source, objective: Objective, processes: Processes) -> None:
        self._subject, self._batches, self._objective, self._processes = subject, batches, objective, processes
        self._parts = batches.ending()

    def test(self, state: Mapping[str, Any]) -> Score:
        """Return the test score of a state, with its statistics estimated again; the subject is left in it."""
        self._subject.load_state_dict(state)
        reestimate(self._subject.model, self._batches.first(BATCHES), self._processes)
        return self._score("test")

    def train(self) -> Score | None:
        """Return the score of the subject as it is on training examples; None where there are none to score."""
        return self._score("train") if "train" in self._parts else None

    def _score(self, part: str) -> Score:
        return evaluate(self._subject.model, self._parts[part], self._processes, loss=self._objective.loss)
