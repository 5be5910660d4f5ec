"""What linear layers, convolutions and batch norm do with units."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supermask.deploy.step import Step, one_for_each
from supermask.deploy.units import Features, Layer

Dense = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def linear(step: Step) -> Features | None:
    """Take down a linear layer: its outputs are new units."""
    if step.varies("weight", "bias"):
        return None
    return _dense(step, -1, step.value("weight") != 0, padded=False)


def convolution(dimensions: int, step: Step) -> Features | None:
    """Take down a convolution: its outputs are new units, but those of a depthwise one, which are what they were.

    Args:
        dimensions: of an image.
        step: the convolution.

    """
    weight, groups = step.value("weight"), step.argument("groups")
    if step.varies("weight", "bias"):
        return None
    if groups == 1:
        return _dense(step, -1 - dimensions, (weight != 0).flatten(2).any(2), _is_padded(step.argument("padding")))
    if groups == weight.shape[0] and weight.shape[1] == 1:
        return _each_by_itself(
            step, -1 - dimensions, _module(step, Dense, "weight", "bias"), (weight == 0).flatten(1).all(1)
        )
    return None


def normalisation(step: Step) -> Features | None:
    """Take down a batch norm by its statistics: each unit by itself, and its bias alone where its weight is 0."""
    if step.argument("training"):
        return None
    weight = step.value("weight")
    silent = torch.zeros(step.value("input").shape[1], dtype=torch.bool) if weight is None else weight == 0
    owner = _module(step, _BatchNorm, "weight", "bias", "running_mean", "running_var")
    return _each_by_itself(step, 1 - step.value("input").ndim, owner, silent)


def _dense(step: Step, place: int, connected: Tensor, padded: bool) -> Features:
    """Take down a layer whose inputs and outputs stand at this place, counted from the end."""
    connected = connected.cpu()
    before, value, owner = step.features("input"), step.value("input"), _module(step, Dense, "weight", "bias")
    outputs, inputs = connected.shape
    rows, fixed, constants = (
        step.ledger.new(outputs),
        torch.zeros(inputs, dtype=torch.bool),
        torch.full((inputs,), torch.nan),
    )
    if before is not None and before.axis != value.ndim + place:  # units stand across what is summed
        step.ledger.need(before.units)
        before = None
    if before is not None:
        fixed, constants = before.fixed, _constants(value, before, padded)
    if owner is None:
        step.ledger.need(rows)
        if before is not None:
            step.ledger.need(before.units)
    else:
        columns = None if before is None else before.units
        step.ledger.layers.append(Layer(owner, rows, columns, connected, constants))
    return Features(step.result.ndim + place, rows, ~(connected & ~fixed).any(1))


def _module(step: Step, kind: Any, *leaves: str) -> str | None:
    name = step.owner(*leaves)
    return name if name is not None and isinstance(step.model.get_submodule(name), kind) else None


def _constants(value: Tensor, before: Features, padded: bool) -> Tensor:
    """Return the number of each input that always has the same everywhere, else NaN; zeros at a border differ."""
    numbers = torch.where(before.fixed, one_for_each(value, before.axis), torch.nan)
    return torch.where(numbers == 0, numbers, torch.nan) if padded else numbers


def _each_by_itself(step: Step, place: int, owner: str | None, silent: Tensor) -> Features | None:
    before = step.features("input")
    if before is None or before.axis != step.value("input").ndim + place:
        return None
    if owner is None or len(before.units) != len(silent):
        step.ledger.need(before.units)
    else:
        step.ledger.followers[owner] = before.units
    return Features(before.axis, before.units, before.fixed | silent.cpu())


def _is_padded(padding: list[int] | str) -> bool:
    return padding == "same" if isinstance(padding, str) else any(padding)
