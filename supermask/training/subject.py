"""What the loop trains."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.training.objective import Objective
from supermask.training.processes import Processes
from supermask.training.recipe import Recipe


class Subject(Protocol):
    """What the loop trains: a search, or a baseline. `supermask.EdgePopup` is one."""

    name: ClassVar[str]
    model: nn.Module

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what the optimizer trains."""

    def step(self) -> None:
        """Do what follows an optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""


@runtime_checkable
class Advising(Protocol):
    """A subject that says how it is trained where a recipe leaves it open."""

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe with nothing left open."""


@runtime_checkable
class Intervening(Protocol):
    """A subject that changes gradients, or the optimizer's state, before each optimizer step."""

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Do what precedes an optimizer step; the gradients of the batch are there."""


@runtime_checkable
class Fusing(Protocol):
    """A subject that may have SGD of its own, which does a part of the subject's step on its way."""

    fusible: bool

    def fused_sgd(self, *, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.Optimizer:
        """Return that SGD, if the subject is `fusible`."""


@runtime_checkable
class Estimating(Protocol):
    """A subject that finds the gradients of a batch by itself, without a backward pass through its network."""

    def estimate(self, images: Tensor, labels: Tensor, processes: Processes) -> Tensor:
        """Fill the gradients of the parameters with those of the whole batch; return the mean loss of this share.

        Args:
            images: this process's share of a batch.
            labels: int64, of these images.
            processes: that share the batch.

        """


def is_complete(subject: Subject) -> bool:
    """Return whether a subject is what it is to become: one whose density still falls has `complete` = False."""
    return bool(getattr(subject, "complete", True))


def equal_tensors(subject: Subject) -> list[Tensor]:
    """Return what must be the same on all processes that train together: the parameters, the masks, frozen weights.

    Masks are the bool buffers. The others are left out: between two evaluations the running statistics of batch norm
    are each process's own. Frozen weights are in the `identity` of a search.
    """
    masks = [buffer for buffer in subject.model.buffers() if buffer.dtype is torch.bool]
    identity = torch.frombuffer(bytearray(getattr(subject, "identity", "-").encode()), dtype=torch.uint8)
    return [*subject.parameters(), *subject.model.parameters(), *masks, identity]


def refuse_unsuitable(subject: Subject, recipe: Recipe, objective: Objective) -> None:
    """Refuse a recipe that would blur what a subject compares, and a loss that it does not know."""
    if isinstance(subject, Estimating) and objective.loss:
        raise SupermaskError(f"{subject.name} estimates the gradient of the cross entropy alone; leave loss= out.")
    asked = [option for option in ("bf16", "compile", "dropout") if getattr(recipe, option)]
    if isinstance(subject, Estimating) and asked:
        raise SupermaskError(
            f"{subject.name} compares forward passes that differ by little, which {asked[0]} would blur; train it"
            f" without {asked[0]}."
        )
