"""How well a superposition does when the task is given, and when it has to be inferred."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.superposition.superposition import Inference, Superposition

_SLICE = 1000
"""Examples that are run together: enough to fill the processor, few enough for the memory of a large network."""

Labelled = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Measured:
    """Counts over the examples of all tasks.

    Attributes:
        total: examples.
        inferred: those whose task is right; all of them where it was given.
        shared: those whose label is right, whatever task was inferred (scenario GNs, where a label means the same in
            each task).
        correct: those whose task and label are right (scenario GNu; Wortsman et al. 2020, section 4.2).

    """

    total: int
    inferred: int
    shared: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Fraction whose task and label are right; 0 without examples."""
        return self.correct / self.total if self.total else 0.0


def measure(
    superposition: Superposition, tests: Sequence[Labelled], method: Inference | None = None, *, batch: int = 1
) -> Measured:
    """Return how many examples of tasks 0, 1, ... the network gets right.

    Args:
        superposition: it has a task for each test, or more.
        tests: of each task its inputs (n, ...), as the model takes them, and its labels int64 (n,).
        method: infers the task; None gives it (scenario GG).
        batch: examples of one task from which it is inferred; where it is wrong, all of them are.

    Raises:
        SupermaskError: batch is less than 1, there is no test, or one without a task.

    """
    if batch < 1 or not 0 < len(tests) <= len(superposition):
        raise SupermaskError(
            f"{len(tests)} tests of {len(superposition)} tasks with batch={batch} cannot be measured; give 1 to"
            f" {len(superposition)} tests and a batch of 1 or more."
        )
    sizes = [len(labels) for _, labels in tests]
    true = torch.repeat_interleave(torch.arange(len(tests)), torch.tensor(sizes))
    inputs, labels = (torch.cat([test[part] for test in tests]) for part in (0, 1))
    if not len(labels):
        return Measured(0, 0, 0, 0)
    found = true if method is None else _inferred(superposition, inputs, sizes, method, batch)
    return _count(superposition, inputs, labels, true, found)


def _inferred(
    superposition: Superposition, inputs: Tensor, sizes: Sequence[int], method: Inference, batch: int
) -> Tensor:
    """Return the inferred task of each input, int64 (n,)."""
    if batch == 1:  # examples of all tasks can be run together
        return torch.cat([superposition.infer_each(part, method) for part in inputs.split(_SLICE) if len(part)])
    parts = [part for test in inputs.split(list(sizes)) for part in test.split(batch) if len(part)]
    return torch.cat([torch.full((len(part),), superposition.infer(part, method)) for part in parts])


def _count(superposition: Superposition, inputs: Tensor, labels: Tensor, true: Tensor, found: Tensor) -> Measured:
    order = found.argsort(stable=True)  # so that a slice is of few tasks
    guesses = torch.empty_like(labels)
    for part in order.split(_SLICE):
        guesses[part] = superposition.outputs(inputs[part], found[part]).argmax(1)
    right, known = guesses == labels, (found == true).to(labels.device)
    return Measured(len(labels), int(known.sum()), int(right.sum()), int((right & known).sum()))
