"""Dropout for networks that have none of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import dropout


@contextmanager
def dropping(model: nn.Module, fraction: float) -> Iterator[None]:
    """Let a model drop a fraction of the inputs of its linear layers while it is in training mode.

    A linear layer that comes first of all layers with weights is left out: it would drop pixels. Frankle & Carbin
    2019, section 3, train conv2, conv4 and conv6 with a fraction of 0.5 and leave unsaid where it is dropped.

    Args:
        model: changed for the duration of the context only.
        fraction: in [0, 1); with 0 nothing is done.

    """

    def drop(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], fraction, module.training), *inputs[1:])

    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    chosen = [layer for layer in layers[1:] if isinstance(layer, nn.Linear)] if fraction else []
    # hooks and not modules of dropout, which would change the names of the parameters
    handles = [layer.register_forward_pre_hook(drop) for layer in chosen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
