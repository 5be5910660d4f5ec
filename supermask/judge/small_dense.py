"""The dense network of a ticket's size: the same architecture, narrower, with as many parameters to train."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from supermask import models

_HALVINGS = 20  # layers of half a million units still get their width to one unit


def width_of(model: Mapping[str, Any], parameters: int) -> tuple[float, int]:
    """Return the width at which a network's number of parameters comes nearest to the one given, and that number.

    Widths are whole units, so the number is met only roughly; no width is above the network's own or leaves a hidden
    layer less than one unit.

    Args:
        model: name, input_shape, classes and width of the network, as a ticket's provenance has them.
        parameters: that the narrow network is to have.

    """
    low, high = 0.0, float(model["width"])
    # the whole width is a candidate too, which halving only approaches
    nearest = [_option(model, high, parameters)]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        nearest.append(_option(model, middle, parameters))
        low, high = (middle, high) if nearest[-1][2] <= parameters else (low, middle)
    # of all that were tried: counts jump from unit to unit, and the last need not be the nearest
    _, width, count = min(nearest, key=lambda option: option[0])
    return width, count


def build_at(model: Mapping[str, Any], width: float) -> nn.Module:
    """Return the described network in another width, freshly built."""
    return models.build(model["name"], input_shape=tuple(model["input_shape"]), classes=model["classes"], width=width)


def _option(model: Mapping[str, Any], width: float, parameters: int) -> tuple[int, float, int]:
    """Return how far the network of a width is from so many parameters, the width, and how many it has."""
    with torch.device("meta"):  # sizes alone: nothing is allocated or drawn
        network = build_at(model, width)
    count = sum(parameter.numel() for parameter in network.parameters())
    return abs(count - parameters), width, count
