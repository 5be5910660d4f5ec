"""What a training minimises and what an evaluation counts, for outputs and targets of any kind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from supermask.data.batch import Batch, arguments, examples_in, tensors_of, with_targets
from supermask.data.data_set import IGNORED
from supermask.errors import SupermaskError, first_line, reason_of
from supermask.shown import quoted

Loss = Callable[[Any, Any], Tensor]
"""Outputs as the network returns them, and targets, to a scalar: the mean over the batch."""
_POINTWISE = (functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss)
_POINTWISE_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


class Counts(NamedTuple):
    """What an evaluation counts of a batch.

    Attributes:
        correct: predictions that are the label; None where predictions are not compared with labels.
        total: what the loss is a mean over.
        loss: the sum of the losses.

    """

    correct: int | None
    total: int
    loss: float


@dataclass(frozen=True)
class Objective:
    """How outputs become a loss.

    Without a `loss` of the caller's, outputs that have a loss of their own (`outputs.loss`, the key "loss", a scalar
    that is first in a tuple) are taken at their word, and integer targets get the cross entropy. Other
    targets do not tell which loss is meant: float numbers may be those of a regression or the probabilities of classes.

    Attributes:
        loss: a function of the outputs, as the network returns them, and the targets; None as above.

    Raises:
        SupermaskError: the loss is not a function.

    """

    loss: Loss | None = None

    def __post_init__(self) -> None:
        if self.loss is not None and not callable(self.loss):
            raise SupermaskError(
                f"loss={quoted(self.loss)} is of type {type(self.loss).__name__}; give a function of outputs and"
                " targets, e.g. torch.nn.functional.mse_loss."
            )

    def call(self, forward: Callable[..., Any], model: nn.Module, batch: Batch) -> Any:
        """Return what a network returns for a batch.

        Args:
            forward: what is called: the network, or what wraps it.
            model: the network, whose forward pass may have a name for the targets.
            batch: inputs and targets.

        Raises:
            SupermaskError: the network does not take such inputs.

        """
        args, keywords = arguments(batch.inputs if self.loss else with_targets(model, batch))
        with _told(
            lambda: f"The network does not take inputs that are {_described_all(batch.inputs)}{_cast(model, batch)}"
        ):
            return forward(*args, **keywords)

    def cost(self, outputs: Any, targets: Any, *, temperature: float = 1.0) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            outputs: as the network returned them.
            targets: of the batch.
            temperature: that the logits of the cross entropy are divided by; other losses know none.

        Raises:
            SupermaskError: the targets do not tell which loss is meant, the loss does not take them, or it is not one
                number.

        """
        own = self._own(outputs, targets)
        if own is not None:
            return own
        logits, labels = _rows(outputs, targets)
        # bfloat16 has three decimal digits at most
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        with _fitting(cross_entropy, logits, labels):
            return cross_entropy(logits / temperature, labels)

    def count(self, outputs: Any, batch: Batch) -> Counts:
        """Return what an evaluation counts of a batch.

        A loss of the caller's is taken for the mean over the examples, a loss of the outputs' own for that over the
        labels that are not `IGNORED`. Predictions are compared with labels where there is one for each example, and
        for more of them where the loss is the cross entropy here: a network's own may shift them.
        """
        own = self._own(outputs, batch.targets)
        if own is not None:
            total = _counted(batch) if self.loss is None else examples_in(batch)
            return Counts(_correct(outputs, batch.targets), total, float(own) * total)
        logits, labels = _rows(outputs, batch.targets)
        if labels.is_cuda and (outside := _outside(logits, labels)):
            raise SupermaskError(f"cross_entropy does not take {_both(logits, labels)}{outside}.")
        # a sum and not a mean, because the last batch may be smaller
        with _fitting(cross_entropy, logits, labels):
            loss = float(cross_entropy(logits.float(), labels, reduction="sum"))
        return Counts(int((logits.argmax(1) == labels).sum()), int((labels != IGNORED).sum()), loss)

    def _own(self, outputs: Any, targets: Any) -> Tensor | None:
        """Return the loss that the caller or the outputs have, if one of them has any."""
        if self.loss is None:
            return own_loss(outputs)
        _refuse_broadcast(self.loss, outputs, targets)
        with _fitting(self.loss, outputs, targets):
            loss = self.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
            found = _described(loss) if isinstance(loss, Tensor) else type(loss).__name__
            raise SupermaskError(f"loss= returned {found}; expected a floating scalar tensor, the mean over the batch.")
        return loss


@contextmanager
def _told(what: Callable[[], str]) -> Iterator[None]:
    """Context in which an error of another library becomes one sentence, which begins with `what`.

    Errors that speak of the caller's code and not of tensors, such as a name that is not there, pass as they are.
    """
    try:
        yield
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
        # what the system is short of is not of the data, and of several processes one may have lost another
        grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
        of_module = isinstance(error, AttributeError) and isinstance(error.obj, nn.Module)
        if reason_of(error) is not None or grouped or of_module:
            raise
        raise SupermaskError(f"{what()}: {first_line(error)}.") from error


@contextmanager
def _fitting(loss: Loss, outputs: Any, targets: Any) -> Iterator[None]:
    """Context in which a loss is taken that may not take such outputs and targets."""

    def what() -> str:
        # on a GPU labels that are out of bounds end all that is computed there, reading them included
        outside = "" if isinstance(targets, Tensor) and targets.is_cuda else _outside(outputs, targets)
        return f"{_name(loss)} does not take {_both(outputs, targets)}{outside}"

    with _told(what):
        yield


def _outside(outputs: Any, targets: Any) -> str:
    """Return how labels go beyond the classes that there are logits for; nothing where they do not."""
    logits = logits_of(outputs)
    integers = isinstance(targets, Tensor) and targets.dtype in _INTEGERS and targets.numel() > 0
    if logits is None or logits.ndim < 2 or not integers:
        return ""
    labels = targets.long()[targets.long() != IGNORED]
    classes = logits.shape[1]
    low, high = (int(labels.min()), int(labels.max())) if labels.numel() else (0, 0)
    if low >= 0 and high < classes:
        return ""
    return f", labels from {low} to {high} of {classes} classes, which are 0 to {classes - 1}"


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _both(outputs: Any, targets: Any) -> str:
    return f"outputs that are {_described_all(outputs)} and targets that are {_described_all(targets)}"


def _described_all(value: Any) -> str:
    """Return what the tensors of a value are, or its type where it has none."""
    found = tensors_of(value)[:3] if not isinstance(value, tuple | list) or len(value) < 4 else []
    return " and ".join(map(_described, found)) or f"of type {type(value).__name__}"


def _cast(model: nn.Module, batch: Batch) -> str:
    """Return what to do about a floating input of another dtype than the network's parameters."""
    dtypes = {each.dtype for each in model.parameters() if each.is_floating_point()}
    others = [each for each in tensors_of(batch.inputs) if each.is_floating_point() and each.dtype not in dtypes]
    if len(dtypes) != 1 or not others:
        return ""
    name = str(dtypes.pop()).removeprefix("torch.")
    return f", its parameters being {name} (inputs.to(torch.{name}) makes them alike)"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that a wrapper runs on several devices, or the module itself."""
    wraps = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    inner = model.module if wraps else model
    assert isinstance(inner, nn.Module)
    return inner


def own_loss(outputs: Any) -> Tensor | None:
    """Return the loss among outputs, or None: the attribute or key `loss`, or a scalar that is first in a tuple."""
    if isinstance(outputs, Tensor):
        return None
    if isinstance(outputs, Mapping):
        found = outputs.get("loss")
    elif isinstance(outputs, tuple | list) and not hasattr(outputs, "loss"):
        # first, as transformers have it; a scalar after the logits may be a penalty
        found = outputs[0] if outputs and isinstance(outputs[0], Tensor) and outputs[0].ndim == 0 else None
    else:
        found = getattr(outputs, "loss", None)
    # DataParallel returns one for each of its devices
    return found.mean() if isinstance(found, Tensor) else None


def logits_of(outputs: Any) -> Tensor | None:
    """Return the logits among outputs: a tensor alone, `logits`, the key "out", or the first tensor but the loss."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        named = next((outputs[name] for name in ("logits", "out") if name in outputs), None)
    else:
        named = getattr(outputs, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(outputs, tuple | list):
        return next((part for part in outputs if isinstance(part, Tensor) and part.ndim), None)
    found = [tensor for tensor in tensors_of(outputs) if tensor.ndim]
    return found[0] if len(found) == 1 else None


def _rows(outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Return logits (n, classes) and labels int64 (n,) for the cross entropy.

    Classes are on the last axis of (N, V) and (N, T, V), with labels (N,) and (N, T), and else on the second, as in
    `torch.nn.functional.cross_entropy`, with labels (N, H, W).
    """
    logits = logits_of(outputs)
    if not isinstance(targets, Tensor) or logits is None:
        raise SupermaskError(
            f"Outputs of type {type(outputs).__name__} and targets of type {type(targets).__name__} have no loss of"
            " their own; give one as loss=, a function of both."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype is torch.bool:
        raise SupermaskError(
            f"The targets are {_described(targets)}, which may be numbers, probabilities or several labels; say which"
            " by loss=, e.g. torch.nn.functional.mse_loss, cross_entropy or binary_cross_entropy_with_logits."
        )
    labels = targets.long()
    if labels.ndim <= 2 and logits.ndim >= 2 and logits.shape[:-1] == labels.shape:
        rows = logits.flatten(0, -2) if logits.ndim > 2 else logits
    elif logits.ndim > 2 and (len(logits), *logits.shape[2:]) == tuple(labels.shape):
        rows = logits.movedim(1, -1).flatten(0, -2)
    else:
        raise SupermaskError(
            f"The targets are {_described(targets)} and the outputs {_described(logits)}; cross entropy takes labels"
            " (N,) or (N, T) and logits with a last axis of classes. Else give a loss=."
        )
    if rows.shape[1] < 2:
        raise SupermaskError(
            f"The outputs are {_described(logits)}: one class, whose cross entropy is always 0; give a loss=, e.g."
            " torch.nn.functional.binary_cross_entropy_with_logits of float targets."
        )
    return rows, labels.flatten()


def _counted(batch: Batch) -> int:
    targets = batch.targets
    if isinstance(targets, Tensor) and targets.ndim and not targets.is_floating_point():
        return int((targets != IGNORED).sum())
    return examples_in(batch)


def _correct(outputs: Any, targets: Any) -> int | None:
    """Return how many predictions are right, where there is one class for each example."""
    logits = logits_of(outputs)
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.dtype is torch.bool:
        return None
    if logits is None or targets.ndim != 1 or logits.ndim != 2 or len(logits) != len(targets) or logits.shape[1] < 2:
        return None
    return int((logits.argmax(1) == targets).sum())


def _refuse_broadcast(loss: Loss, outputs: Any, targets: Any) -> None:
    """Refuse outputs (N, 1) of targets (N,), which torch would compare each with all: (N, N)."""
    if loss not in _POINTWISE and not isinstance(loss, _POINTWISE_MODULES):
        return
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape != targets.shape:
        raise SupermaskError(
            f"The outputs are {_described(outputs)} and the targets {_described(targets)}; {_name(loss)} takes two of"
            " one shape."
        )


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
