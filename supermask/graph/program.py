"""A network as one graph of operations, as `torch.export` writes it, and running a network without a trace."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize

from supermask.data.batch import arguments
from supermask.errors import SupermaskError


def program_of(model: nn.Module, example: Any, dynamic_shapes: Any = None) -> ExportedProgram:
    """Return the graph of a network as `torch.export` finds it.

    Args:
        model: in evaluation mode, with plain parameters; left as it was.
        example: an input, a tuple of several, or a dictionary of them by name.
        dynamic_shapes: of `torch.export.export`; by default the graph is for inputs of the example's shape.

    Raises:
        SupermaskError: the model is parametrized, or there is no such graph.

    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise SupermaskError(
            "The network's weights are still computed from others; give a plain module, from ticket.apply(model) or"
            " search.baked()."
        )
    args, keywords = arguments(example)
    try:
        with quietly():
            return torch.export.export(model, args, keywords, dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:  # the forward is anyone's code
        raise SupermaskError(
            f"The network cannot be written as one graph ({first_line(error)}); that needs a forward pass that does the"
            " same operations for all numbers and for any number of examples."
        ) from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence warnings while PyTorch writes, changes or reads a graph.

    They are about PyTorch's own code, e.g. FutureWarnings of its tree utilities in version 2.11. Where warnings are
    errors, as in tests, they would look as if the network could not be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """Silence warnings, and what PyTorch logs and prints while it writes a graph: of a refusal a long trace."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with without_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and each module back into its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def tensors_in(value: Any) -> list[Tensor]:
    """Return the floating tensors in a value made of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
