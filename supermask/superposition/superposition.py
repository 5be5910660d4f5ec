"""Many tasks in one random network: a ticket for each, one of them in the model, or all of them weighed.

Wortsman, Ramanujan, Liu, Kembhavi, Rastegari, Yosinski, Farhadi, "Supermasks in superposition", NeurIPS 2020. The task
that data belongs to is inferred from one gradient for all tasks at once, by halving, or by every mask in turn; where
tasks tie, the lowest index is taken.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.files import write_whole
from supermask.shown import quoted
from supermask.superposition.network import ENTROPY, Objective, SharedNetwork, refuse_nan
from supermask.superposition.tasks_file import decode, encode
from supermask.ticket import Ticket
from supermask.ticket.file import read_sound


class Inference(ABC):
    """A way to infer the task of data."""

    @abstractmethod
    def batch(self, tasks: "Superposition", inputs: Tensor) -> int:
        """Return the index of the one task that all the inputs, (batch, ...), are taken to be of."""

    def each(self, tasks: "Superposition", inputs: Tensor) -> Tensor:
        """Return the index of the task of each input by itself, int64 (batch,) on the CPU."""
        return torch.tensor([self.batch(tasks, one[None]) for one in inputs], dtype=torch.int64)


@dataclass(frozen=True)
class OneShot(Inference):
    """The task in whose coefficient the objective falls most steeply, all being 1/k (equation 4): one gradient.

    Attributes:
        objective: `Entropy`, or `Superfluous` in its place (section 3.6).

    """

    objective: Objective = ENTROPY

    def batch(self, tasks: "Superposition", inputs: Tensor) -> int:
        """Return the task of all the inputs."""
        return int(tasks.gradient(inputs, _uniform(tasks), self.objective).argmin())

    def each(self, tasks: "Superposition", inputs: Tensor) -> Tensor:
        """Return the task of each input; k forward derivatives for all of them together."""
        return tasks.gradients(inputs, _uniform(tasks), self.objective).argmin(1).cpu()


@dataclass(frozen=True)
class Binary(Inference):
    """Rule out the half of the tasks in which the objective falls least, give the others equal shares, and again.

    ceil(log2 k) gradients (section 3.3 and appendix A). Where their number is odd the smaller half is ruled out. The
    authors' code keeps all tasks that tie with the last one kept, and stops after log2(tasks) + 1 rounds with one of
    them.

    Attributes:
        objective: `Entropy`, or `Superfluous` in its place (section 3.6).

    """

    objective: Objective = ENTROPY

    def batch(self, tasks: "Superposition", inputs: Tensor) -> int:
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

    def batch(self, tasks: "Superposition", inputs: Tensor) -> int:
        """Return the task of all the inputs."""
        return int(self._entropies(tasks, inputs).mean(0).argmin())

    def each(self, tasks: "Superposition", inputs: Tensor) -> Tensor:
        """Return the task of each input."""
        return self._entropies(tasks, inputs).argmin(1).cpu()

    def _entropies(self, tasks: "Superposition", inputs: Tensor) -> Tensor:
        return refuse_nan(torch.stack([ENTROPY(tasks.outputs(inputs, task)) for task in range(len(tasks))], 1))


_ONE_SHOT = OneShot()


class Superposition:
    """The tickets of many tasks over one random network (Wortsman et al. 2020).

    What is learned of one task cannot touch another: the weights are frozen, and what a ticket stores besides its mask
    (statistics of batch norm, learned parameters) is the task's own.

    Args:
        model: freshly built, of the architecture that the tickets were made from; changed in place.
        tickets: of the tasks, in their order; all of one seed and the same random weights.

    Attributes:
        model: computes with the mask of the task that was selected last, at first with that of task 0.

    Raises:
        TicketError: a ticket does not fit the model, or is over other random weights than the first.

    """

    def __init__(self, model: nn.Module, tickets: Iterable[Ticket] = ()) -> None:
        self.model = model
        self._tickets: list[Ticket] = []
        self._network: SharedNetwork | None = None
        for ticket in tickets:
            self.add(ticket)

    def __len__(self) -> int:
        return len(self._tickets)

    def __repr__(self) -> str:
        prunable = self._tickets[0].prunable if self._tickets else 0
        return f"Superposition({len(self)} tasks in one random network of {prunable:,} prunable weights)"

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """The tickets of the tasks, in their order."""
        return tuple(self._tickets)

    def add(self, ticket: Ticket) -> int:
        """Add a task and return its index. The model computes with the task that it had; with this one if it had none.

        Raises:
            TicketError: the ticket does not fit the model, or is over other random weights than the others.

        """
        if self._network is None:
            self._network = SharedNetwork(self.model, ticket)
        else:
            self._network.check(ticket)
        self._tickets.append(ticket)
        return len(self) - 1

    def replace(self, task: int, ticket: Ticket) -> None:
        """Give a task another ticket, of more training; `select` it to compute with it.

        Raises:
            SupermaskError: there is no such task.
            TicketError: the ticket is over other random weights.

        """
        self._shared().check(ticket)
        self._tickets[self._checked(task)] = ticket

    def extended(self, tickets: Iterable[Ticket]) -> "Superposition":
        """Return a superposition of these tasks and some more over the same model; this one stays as it is.

        Raises:
            TicketError: a ticket is over other random weights.

        """
        more = Superposition(self.model)
        more._network, more._tickets = self._network, list(self._tickets)
        for ticket in tickets:
            more.add(ticket)
        return more

    def select(self, task: int) -> nn.Module:
        """Let the model compute with the mask, the statistics and the learned tensors of a task, and return it.

        Equation 1: p = f(x, W * M_i).

        Raises:
            SupermaskError: there is no such task.

        """
        self._shared().install(self._shared().tensors(self._tickets[self._checked(task)]))
        return self.model

    def outputs(self, inputs: Tensor, task: int | Tensor) -> Tensor:
        """Return the logits under the masks of given tasks, in evaluation mode, whatever task is selected.

        Args:
            inputs: (batch, ...), as the model takes them.
            task: of all of them, or int64 (batch,), the task of each.

        Raises:
            SupermaskError: there is no such task, there is not one for each input, or the model gives no logits
                (batch, outputs).

        """
        if not isinstance(task, Tensor):
            network = self._shared()
            return network.outputs(network.tensors(self._tickets[self._checked(task)]), inputs)
        if task.shape != inputs.shape[:1]:
            raise SupermaskError(f"{tuple(task.shape)} tasks were given for {len(inputs)} inputs; give one for each.")
        places = [(task == one).nonzero()[:, 0].to(inputs.device) for one in task.unique()]
        if not places:
            return self.outputs(inputs, 0)
        parts = [self.outputs(inputs[place], int(task[place[0]])) for place in places]
        return torch.cat(parts)[torch.cat(places).argsort()]

    def superposed(self, inputs: Tensor, alphas: Tensor) -> Tensor:
        """Return the logits of all masks at once, weighed, in evaluation mode (equation 2).

        Args:
            inputs: (batch, ...), as the model takes them.
            alphas: coefficients of the tasks, real (tasks,).

        Raises:
            SupermaskError: there is not one finite coefficient for each task.

        """
        return self._shared().outputs(self._shared().superposed(*self._weighed(alphas)), inputs)

    def gradient(
        self,
        inputs: Tensor,
        alphas: Tensor,
        objective: Objective = ENTROPY,
        among: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the gradient of the batch's mean objective in the coefficients, of one backward pass.

        Args:
            inputs: (batch, ...), as the model takes them.
            alphas: coefficients of all tasks, real (tasks,).
            objective: of each example.
            among: tasks in whose coefficients to take it, (among,) in their order; None is all, (tasks,).

        Raises:
            SupermaskError: there are no inputs, no such task, or not one finite coefficient for each; or the outputs
                are NaN.

        """
        mixed = self._shared().superposed(*self._weighed(alphas))
        tickets = self._tickets if among is None else [self._tickets[self._checked(task)] for task in among]
        return refuse_nan(self._shared().slope(mixed, tickets, _some(inputs), objective))

    def gradients(self, inputs: Tensor, alphas: Tensor, objective: Objective = ENTROPY) -> Tensor:
        """Return the gradient of each example's own objective in the coefficients, (batch, tasks).

        Raises:
            SupermaskError: there are no inputs, or not one finite coefficient for each task; or the outputs are NaN.

        """
        mixed = self._shared().superposed(*self._weighed(alphas))
        return refuse_nan(self._shared().slopes(mixed, self._tickets, _some(inputs), objective))

    def infer(self, inputs: Tensor, method: Inference = _ONE_SHOT) -> int:
        """Return the index of the one task that all the inputs are taken to be of (section 3.3).

        Args:
            inputs: (batch, ...), as the model takes them; one is enough.
            method: `OneShot`, `Binary` or `EachMask`.

        Raises:
            SupermaskError: there is no task or no input, or the model gives no logits (batch, outputs).

        """
        self._shared()
        return method.batch(self, _some(inputs))

    def infer_each(self, inputs: Tensor, method: Inference = _ONE_SHOT) -> Tensor:
        """Return the index of the task of each input by itself, int64 (batch,) on the CPU.

        Raises:
            SupermaskError: there is no task or no input, or the model gives no logits (batch, outputs).

        """
        self._shared()
        return method.each(self, _some(inputs))

    @property
    def size(self) -> int:
        """Bytes of the file of all tasks."""
        return len(encode(self._tickets))

    @property
    def bits_per_task(self) -> float:
        """Bits of the file over the number of tasks; what all tasks share is in it once."""
        return 8 * self.size / len(self)

    def save(self, path: str | Path) -> None:
        """Write all tasks to one file, whole or not at all.

        Raises:
            SupermaskError: there is no task, the folder cannot be written, or a provenance is not of plain values.

        """
        write_whole(path, encode(self._tickets))

    @classmethod
    def load(cls, path: str | Path, model: nn.Module, *, memory: int | None = None) -> "Superposition":
        """Read the tasks of a file into a freshly built model.

        Args:
            path: of the file.
            model: of the tasks' architecture.
            memory: bytes that reading may take, as `Ticket.load` takes it.

        Raises:
            TicketError: the file is missing, damaged in any byte, holds no tasks or would take more memory, or the
                model is of another architecture.

        """
        return cls(model, read_sound(path, "file of tasks", partial(decode, memory=memory)))

    def _shared(self) -> SharedNetwork:
        if self._network is None:
            raise SupermaskError("The superposition holds no task yet; add a ticket first.")
        return self._network

    def _checked(self, task: int) -> int:
        if isinstance(task, bool) or not isinstance(task, int) or not 0 <= task < len(self):
            raise SupermaskError(f"There is no task {quoted(task)}; the tasks are 0 to {len(self) - 1}.")
        return task

    def _weighed(self, alphas: Tensor) -> tuple[list[Ticket], list[float]]:
        """Return the tasks that take part, and their coefficients."""
        self._shared()
        if alphas.shape != (len(self),) or not bool(alphas.isfinite().all()):
            raise SupermaskError(
                f"The coefficients have shape {tuple(alphas.shape)} or are not finite; give one for each of"
                f" {len(self)} tasks."
            )
        pairs = [pair for pair in zip(self._tickets, alphas.tolist(), strict=True) if pair[1] != 0.0]
        return [ticket for ticket, _ in pairs], [alpha for _, alpha in pairs]


def _some(inputs: Tensor) -> Tensor:
    if not len(inputs):
        raise SupermaskError("There are no inputs to infer a task from; give at least one example.")
    return inputs


def _uniform(tasks: Superposition) -> Tensor:
    return torch.full((len(tasks),), 1.0 / max(1, len(tasks)), dtype=torch.float64)
