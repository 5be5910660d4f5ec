"""Checks that reject unsupported targets, and their messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from supermask.errors import SupermaskError
from theory.graph.copies import prunings

ONLY = "only Linear and ReLU, Conv2d, batch norm, pooling, flattening, sums and concatenations can be built"

JOIN_HINT = "only sums and concatenations of several tensors can be built"

LEAVE_OFF = "leave it off, the largest output stays the largest"
HINTS = dict.fromkeys(("Softmax", "LogSoftmax", "Softmax2d", "softmax", "log_softmax"), LEAVE_OFF)
"""What to do instead, by the name of a module's type or of a function."""

OWN = {"forward", "_conv_forward"}
"""Methods by which a subclass computes something else."""


def refusal(name: str) -> str:
    """Return what can be built instead of a module or a function of this name."""
    return f"{ONLY}; {HINTS[name]}" if name in HINTS else ONLY


def check_whole(target: nn.Module) -> None:
    """Refuse a target that has hooks, which no copy would have, or parameters without values.

    Raises:
        SupermaskError: it has, or it is not a module.

    """
    if not isinstance(target, nn.Module):
        raise SupermaskError(f"The target is a {type(target).__name__}; give an nn.Sequential or another nn.Module.")
    for name, tensor in [*target.named_parameters(), *target.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise SupermaskError(f"The target's {name} has no values yet; run the target once, or load its weights.")
    for name, module in target.named_modules():
        if "forward" in vars(module) or type(module).__call__ is not nn.Module.__call__:
            _refuse_behaviour(f"{name or 'it'} is called in a way of its own", "modules with forward methods")
        if module._forward_hooks or len(module._forward_pre_hooks) > len(prunings(module)):
            _refuse_behaviour(f"{name or 'it'} has a forward hook", "plain modules without hooks")


@contextmanager
def without_autocast() -> Iterator[None]:
    """Refuse a forward that enters `torch.autocast` within this context, because a trace does not record that.

    Raises:
        SupermaskError: it does.

    """

    def enter(context: torch.autocast) -> None:
        if context.device != "cpu" or context._enabled:
            raise SupermaskError(
                "The target's forward enters torch.autocast, which runs it in other numbers than its weights; leave it "
                "out, and give construct(dtype=) the dtype that the network runs in."
            )

    with patch.object(torch.autocast, "__enter__", enter), patch.object(torch.autocast, "__exit__", _leave):
        yield


def _leave(context: torch.autocast, *exception: object) -> None:
    """Leave an autocast that was not entered: it was disabled, and does nothing."""


def check_forward(name: str, module: nn.Module, base: type) -> None:
    """Refuse a module of a subclass that does not compute what its base does."""
    derived = type(module).__mro__[: type(module).__mro__.index(base)]
    if OWN & set().union(*map(vars, derived)):
        kind = type(module).__name__
        _refuse_behaviour(f"{name} is a {kind} that computes something of its own", f"a plain {base.__name__}")


def _refuse_behaviour(fact: str, wanted: str) -> None:
    raise SupermaskError(f"The target does not compute what its Linear and ReLU modules say: {fact}; give {wanted}.")


def numbers(name: str, tensor: Tensor) -> Tensor:
    """Return a copy of a tensor, float64 on the CPU; refuse numbers that are complex, NaN or infinite."""
    if tensor.is_complex():
        raise SupermaskError(f"The target's {name} is complex; only real weights can be built.")
    values = tensor.detach().double().cpu().clone()
    if not values.isfinite().all():
        raise SupermaskError(f"The target's {name} holds NaN or infinity.")
    return values


def pair(name: str, size: Any) -> tuple[int, int]:
    """Return a size as integers (rows, columns); refuse what is neither one integer nor two."""
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,)
    try:
        rows, columns = map(index, sizes * 2 if len(sizes) == 1 else sizes)
    except (TypeError, ValueError):
        raise SupermaskError(f"The target's {name} has the size {size!r}; give one integer or two.") from None
    return rows, columns
