"""Which task data is of: one gradient for all tasks at once, a search by halves, or every mask in turn.

Wortsman, Ramanujan, Liu, Kembhavi, Rastegari, Yosinski, Farhadi, "Supermasks in superposition", NeurIPS 2020. All of
them take the lowest index where tasks tie.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from supermask.superposition.objectives import ENTROPY, Objective, refuse_nan


class Tasks(Protocol):
    """What tasks are inferred among. `Superposition` is one."""

    def __len__(self) -> int:
        """Return the number of tasks."""

    def gradient(
        self, inputs: Tensor, alphas: Tensor, objective: Objective, among: Sequence[int] | None = None
    ) -> Tensor:
        """Return the gradient of the mean objective in the coefficients of all tasks, or of some."""

    def gradients(self, inputs: Tensor, alphas: Tensor, objective: Objective) -> Tensor:
        """Return the gradient of each input's objective in the coefficients, (batch, tasks)."""

    def outputs(self, inputs: Tensor, task: int) -> Tensor:
        """Return the logits under the mask of a task."""


class Inference(ABC):
    """A way to infer the task of data."""

    @abstractmethod
    def batch(self, tasks: Tasks, inputs: Tensor) -> int:
        """Return the index of the one task that all the inputs, (batch, ...), are taken to be of."""

    def each(self, tasks: Tasks, inputs: Tensor) -> Tensor:
        """Return the index of the task of each input by itself, int64 (batch,) on the CPU."""
        return torch.tensor([self.batch(tasks, one[None]) for one in inputs], dtype=torch.int64)


@dataclass(frozen=True)
class OneShot(Inference):
    """The task in whose coefficient the objective falls most steeply, all being 1/k (equation 4): one gradient.

    Attributes:
        objective: `Entropy`, or `Superfluous` in its place (section 3.6).

    """

    objective: Objective = ENTROPY

    def batch(self, tasks: Tasks, inputs: Tensor) -> int:
        """Return the task of all the inputs."""
        return int(tasks.gradient(inputs, _uniform(tasks), self.objective).argmin())

    def each(self, tasks: Tasks, inputs: Tensor) -> Tensor:
        """Return the task of each input; k forward derivatives for all of them together."""
        return tasks.gradients(inputs, _uniform(tasks), self.objective).argmin(1).cpu()


@dataclass(frozen=True)
class Binary(Inference):
    """Rule out the half of the tasks in which the objective falls least, give the others equal shares, and again.

    ceil(log2 k) gradients (section 3.3 and appendix A). Of an odd number the smaller half is ruled out. The authors'
    code keeps all tasks that tie with the last one kept, and then never ends.

    Attributes:
        objective: `Entropy`, or `Superfluous` in its place (section 3.6).

    """

    objective: Objective = ENTROPY

    def batch(self, tasks: Tasks, inputs: Tensor) -> int:
        """Return the task of all the inputs."""
        left = torch.arange(len(tasks))
        while len(left) > 1:
            alphas = torch.zeros(len(tasks), dtype=torch.float64)
            alphas[left] = 1.0 / len(left)
            steep = tasks.gradient(inputs, alphas, self.objective, left.tolist()).cpu()
            best = steep.sort(stable=True).indices[: -(-len(left) // 2)]
            left = left[best.sort().values]
        return int(left)


@dataclass(frozen=True)
class EachMask(Inference):
    """Run every mask and take that with the lowest mean entropy: k forward passes (section 3.3, below equation 3)."""

    def batch(self, tasks: Tasks, inputs: Tensor) -> int:
        """Return the task of all the inputs."""
        return int(self._entropies(tasks, inputs).mean(0).argmin())

    def each(self, tasks: Tasks, inputs: Tensor) -> Tensor:
        """Return the task of each input."""
        return self._entropies(tasks, inputs).argmin(1).cpu()

    def _entropies(self, tasks: Tasks, inputs: Tensor) -> Tensor:
        return refuse_nan(torch.stack([ENTROPY(tasks.outputs(inputs, task)) for task in range(len(tasks))], 1))


def _uniform(tasks: Tasks) -> Tensor:
    return torch.full((len(tasks),), 1.0 / max(1, len(tasks)), dtype=torch.float64)
