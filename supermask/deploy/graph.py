"""The forward pass of a network as one graph of operations."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize

from supermask.baselines.structured.probe import first_line
from supermask.errors import SupermaskError


def graph_of(model: nn.Module, example: Tensor, dynamic_shapes: Any = None) -> ExportedProgram:
    """Return the graph of a network as `torch.export` finds it.

    Args:
        model: in evaluation mode, with plain parameters; left as it was.
        example: an input.
        dynamic_shapes: of `torch.export.export`; by default the graph is for inputs of the example's shape.

    Raises:
        SupermaskError: the model is parametrized, or there is no such graph.

    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise SupermaskError(
            "The network's weights are still computed from others; give a plain module, of ticket.apply(model) or"
            " search.baked()."
        )
    try:
        with warnings.catch_warnings():
            # torch's recurrent layers list their own weights anew, which is harmless
            warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights", UserWarning)
            return torch.export.export(model, (example,), dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:  # the forward is anyone's code
        raise SupermaskError(
            f"The network cannot be written as one graph ({first_line(error)}); only one whose forward pass does the"
            " same operations whatever numbers and however many examples come can be."
        ) from error
