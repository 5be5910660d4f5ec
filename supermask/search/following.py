"""A search that follows its optimizer, and what notices one whose masks were never selected again."""

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from supermask.errors import SupermaskError

PATIENCE = 3
"""Optimizer steps without a step of the search before the warning: a loop may do something else first."""

WRAPPING = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning")
"""Packages whose optimizers pass each step on to the one that they hold."""


class Stepping(Protocol):
    """A search, as far as is needed here."""

    steps: int

    def scores(self) -> dict[str, nn.Parameter]:
        """Return the scores by parameter name."""


class Following:
    """What precedes and what follows an optimizer step, called at each step that an optimizer really takes.

    Args:
        optimizer: that has the scores, or a wrapper of accelerate or Lightning around it.
        scores: of the search.
        before: is called when the gradients are there, which is after each call of a closure where `step` takes one.
        after: is called when the step was taken. A step that a GradScaler skips is not one.

    Raises:
        SupermaskError: the optimizer lacks a score, or calls no hooks.

    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scores: Iterable[nn.Parameter],
        before: Callable[[torch.optim.Optimizer], None],
        after: Callable[[], None],
    ) -> None:
        optimizer = unwrapped(optimizer)
        trained, wanted = _trained(optimizer), {id(score) for score in scores}
        if not wanted <= trained:
            raise SupermaskError(
                f"The optimizer trains {len(wanted & trained)} of the {len(wanted)} scores of this search; make it with"
                " search.parameters() and follow it then."
            )
        self._optimizer = weakref.ref(optimizer)
        self._before, self._after, self._left = before, after, False
        self._step: FrameType | None = None  # of the call of step that is under way
        self._hooks = [
            optimizer.register_step_pre_hook(self._preceded),
            optimizer.register_step_post_hook(self._followed),
        ]

    @property
    def active(self) -> bool:
        """Whether it still follows: it was not removed or left, and the optimizer is still there."""
        return bool(self._hooks) and not self._left and self._optimizer() is not None

    def of(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether this is the optimizer that it follows or followed, wrapped or not."""
        return self._optimizer() is unwrapped(optimizer)

    def remove(self) -> None:
        """Follow no longer; the search's `step` is then called by hand."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def give_way(self, optimizer: torch.optim.Optimizer) -> bool:
        """Follow no longer, because an optimizer is followed from now on; it may be the same one.

        Returns:
            Whether steps of this one are refused from now on, because they would not be counted.

        """
        if self.of(optimizer):
            self.remove()
        self._left = True
        return bool(self._hooks) and self._optimizer() is not None

    def _preceded(self, optimizer: torch.optim.Optimizer, values: Any, named: Any) -> Any:
        """Let `before` be called; return the arguments of the step, the optimizer first, where they change."""
        if self._left:
            raise SupermaskError(
                "The search follows another optimizer since, so that this step would not be counted; step that one, or"
                " call search.follow(optimizer) again."
            )
        frame = sys._getframe(1)
        if self._within(frame):
            return None
        self._step = frame
        closure = named.get("closure", values[1] if len(values) > 1 else None)
        if closure is not None:
            then = self._finishing(closure, optimizer)
            if "closure" in named:
                return values, {**named, "closure": then}
            return (values[0], then, *values[2:]), named
        if not _skipped(optimizer):
            self._before(optimizer)
        return None

    def _within(self, frame: FrameType) -> bool:
        """Return whether a step is called by the one under way: that of a base class, whose hooks are the same.

        The step under way is looked for among the callers, because one that raised is never told to have ended.
        """
        caller = frame.f_back if self._step else None
        while caller and caller is not self._step:
            caller = caller.f_back
        return caller is not None

    def _finishing(self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
        """Return the closure with `before` at its end: there are no gradients before it was called."""

        def then() -> Any:
            loss = closure()
            self._before(optimizer)
            return loss

        return then

    def _followed(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if sys._getframe(1) is not self._step:
            return
        self._step = None
        if not _skipped(optimizer):
            self._after()


def unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that takes the steps, which accelerate and Lightning wrap.

    Raises:
        SupermaskError: its class does not make its steps as `torch.optim` does, so that its hooks are never called.

    """
    while type(optimizer).__module__.partition(".")[0] in WRAPPING and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    # an optimizer around another may move the scores after the step of that one, which is then not the one to follow
    if not getattr(type(optimizer).step, "hooked", False) or not hasattr(optimizer, "_optimizer_step_post_hooks"):
        raise SupermaskError(
            f"{type(optimizer).__name__} does not call the hooks of torch.optim.Optimizer, so that a search cannot"
            " follow it; call search.before_step(optimizer) before and search.step() after each of its steps."
        )
    return optimizer


def _skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether this step changes nothing: a GradScaler tells a fused optimizer so, and skips others itself."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _trained(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


class _Unstepped:
    """The searches that have not made a step, and how often an optimizer has moved their scores."""

    def __init__(self) -> None:
        self._moves: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
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
