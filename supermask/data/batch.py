"""A batch of any kind: what of it goes into a network, and what its outputs are compared with."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from supermask.errors import DataError

LABELS = ("labels", "label", "targets", "target")
"""Keys under which a dictionary has its targets; the first of them is what most libraries call them."""


class Batch(NamedTuple):
    """Inputs and targets.

    Attributes:
        inputs: a tensor; or a tuple or list of inputs, or a dictionary of them, which a network takes one by one.
        targets: what the outputs are compared with; None where the batch has none.

    """

    inputs: Any
    targets: Any


def batch_of(given: Any) -> Batch:
    """Return what a data loader yields as a batch.

    A dictionary has its targets under one of `LABELS`; of a tuple or list of two or more the last are the targets, and
    several before it are several inputs. Anything else has no targets.

    Raises:
        DataError: there is nothing in it.

    """
    if isinstance(given, Batch):
        return given
    if isinstance(given, Mapping):
        name = next((label for label in LABELS if label in given), None)
        return Batch({key: value for key, value in given.items() if key != name}, given[name] if name else None)
    if not isinstance(given, tuple | list):
        return Batch(given, None)
    if not given:
        raise DataError("A batch is empty; expected (inputs, targets), a dictionary, or several inputs and targets.")
    *inputs, targets = given if len(given) > 1 else (*given, None)
    return Batch(inputs[0] if len(inputs) == 1 else tuple(inputs), targets)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as the positional arguments and the keywords of a network's call."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def with_targets(model: nn.Module, batch: Batch) -> Any:
    """Return the inputs, with the targets where they are a dictionary and the forward pass has a name for these.

    So the networks of transformers are called, which compute their loss themselves.
    """
    if batch.targets is None or not isinstance(batch.inputs, Mapping):
        return batch.inputs
    takes = inspect.signature(model.forward).parameters
    name = next((label for label in LABELS if label in takes), None)
    return batch.inputs if name is None else {**batch.inputs, name: batch.targets}


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return a tensor, or a tuple, list or dictionary of any depth, with each tensor changed and all else as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(part, change) for key, part in value.items()}
    if isinstance(value, tuple | list):  # a named tuple becomes a plain one
        return tuple(mapped(part, change) for part in value)
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in such a value, in their order."""
    found: list[Tensor] = []
    mapped(value, found.append)
    return found


def examples_in(batch: Batch) -> int:
    """Return how many examples a batch has: the length of its targets, or of its first input.

    Raises:
        DataError: it has no tensors with a first dimension.

    """
    lengths = [len(tensor) for part in (batch.targets, batch.inputs) for tensor in tensors_of(part) if tensor.ndim]
    if not lengths:
        raise DataError("A batch has no tensors with a first dimension, which counts its examples.")
    return lengths[0]
