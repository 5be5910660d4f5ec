"""A search that follows its optimizer, and what notices one whose masks were never selected again."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from supermask.errors import SupermaskError

PATIENCE = 3
"""Optimizer steps without a step of the search before the warning: a loop may do something else first."""


class Stepping(Protocol):
    """A search, as far as is needed here."""

    steps: int

    def scores(self) -> dict[str, nn.Parameter]:
        """Return the scores by parameter name."""


class Following:
    """What precedes and what follows an optimizer step, called at each step that an optimizer really takes.

    Args:
        optimizer: that has the scores.
        scores: of the search.
        before: is called when the gradients are there.
        after: is called when the step was taken. A step that a GradScaler skips is not one.

    Attributes:
        active: whether it still follows.

    Raises:
        SupermaskError: the optimizer lacks a score.

    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scores: Iterable[nn.Parameter],
        before: Callable[[torch.optim.Optimizer], None],
        after: Callable[[], None],
    ) -> None:
        trained, wanted = _trained(optimizer), {id(score) for score in scores}
        if not wanted <= trained:
            raise SupermaskError(
                f"The optimizer trains {len(wanted & trained)} of the {len(wanted)} scores of this search; make it with"
                " search.parameters() and follow it then."
            )
        self._before, self._after = before, after
        self._hooks = [
            optimizer.register_step_pre_hook(self._preceded),
            optimizer.register_step_post_hook(self._followed),
        ]
        self.active = True

    def remove(self) -> None:
        """Follow no longer; the search's `step` is then called by hand."""
        for hook in self._hooks:
            hook.remove()
        self.active = False

    def _preceded(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not _skipped(optimizer):
            self._before(optimizer)

    def _followed(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not _skipped(optimizer):
            self._after()


def _skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether this step changes nothing: a GradScaler tells a fused optimizer so, and skips others itself."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _trained(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


class _Unstepped:
    """The searches that have not made a step, and how often an optimizer has moved their scores."""

    def __init__(self) -> None:
        self._moves: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._hook: RemovableHandle | None = None

    def add(self, search: Stepping) -> None:
        self._moves[search] = 0
        if self._hook is None:
            self._hook = register_optimizer_step_post_hook(self._moved)

    def drop(self, search: Stepping) -> None:
        self._moves.pop(search, None)

    def _moved(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._moves:
            return
        trained = _trained(optimizer)
        for search in [*self._moves]:
            if search.steps:
                self.drop(search)
            elif any(id(score) in trained for score in search.scores().values()):
                self._count(search)

    def _count(self, search: Stepping) -> None:
        self._moves[search] += 1
        if self._moves[search] < PATIENCE:
            return
        self.drop(search)
        warnings.warn(
            f"An optimizer has moved the scores of this {type(search).__name__} {PATIENCE} times, and search.step() was"
            " never called, so that its masks are those of the start; call it after each optimizer.step(), or"
            " search.follow(optimizer) once.",
            stacklevel=4,
        )


UNSTEPPED = _Unstepped()
"""One for the process: the hook is on all optimizers, and does nothing where every search makes its steps."""
