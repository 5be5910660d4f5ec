"""What linear layers, convolutions and normalisation do with units."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supermask.graph.channels import Follower, Layer
from supermask.graph.operation import Features, GraphOp, Owner, named, one_for_each

Dense = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""Layers whose units can be removed."""


def linear(op: GraphOp) -> Features | None:
    """Record a linear layer: its outputs are new units."""
    if op.varies("weight", "bias"):
        return None
    return _dense(op, -1, op.value("weight") != 0, padded=False)


def convolution(dimensions: int, op: GraphOp) -> Features | None:
    """Record a convolution: its outputs are new units, and those of a depthwise one follow what it reads.

    Args:
        dimensions: of an image.
        op: the convolution.

    """
    weight, groups = op.value("weight"), op.argument("groups")
    if op.varies("weight", "bias"):
        return None
    connected, place = (weight != 0).flatten(2).any(2), -1 - dimensions
    if groups == weight.shape[0] > 1 and weight.shape[1] == 1 and op.features("input") is not None:
        return _each_by_itself(op, place, op.owner(Dense, "weight", "bias"), ~connected[:, 0])
    return _dense(op, place, connected, padded=_is_padded(op.argument("padding")), grouped=groups > 1)


def normalisation(op: GraphOp) -> Features | None:
    """Record a batch norm: it treats each unit by itself, and gives out its bias alone where its weight is 0."""
    if op.argument("training") and op.argument("running_mean") is not None:
        return None
    value, weight = op.value("input"), op.value("weight")
    silent = torch.zeros(value.shape[1], dtype=torch.bool) if weight is None else weight == 0
    owner = op.owner(_BatchNorm, "weight", "bias", "running_mean", "running_var")
    return _each_by_itself(op, 1 - value.ndim, owner, silent)


def _dense(op: GraphOp, place: int, connected: Tensor, *, padded: bool, grouped: bool = False) -> Features:
    """Record a layer whose inputs and outputs stand at this place, counted from the end."""
    connected, value = connected.cpu(), op.value("input")
    name, why = op.owner(Dense, "weight", "bias")
    why = why or ("is a grouped convolution" if grouped else None)
    outputs, inputs = connected.shape
    rows, before, fixed = op.graph.new(outputs), op.features("input"), torch.zeros(inputs, dtype=torch.bool)
    if before is not None and before.axis != value.ndim + place:
        op.graph.require(before.units, f"they reach {named(op.model, name)}, which sums over another axis")
        before = None
    elif before is not None:
        fixed = fixed if grouped else before.fixed
    if before is not None and why is not None:
        op.graph.require(before.units, f"they reach {named(op.model, name)}, which {why}")
        before = None
    if why is not None:
        op.graph.whole[name] = why
        op.graph.count(rows, f"they come from {named(op.model, name)}, which {why}")
    layer = _layer(rows, before, connected, value, padded)
    if why is None or grouped:
        op.graph.layers[name] = layer
    return Features(op.result.ndim + place, rows, ~(connected & ~fixed).any(1), torch.zeros_like(op.result))


def _layer(rows: Tensor, before: Features | None, connected: Tensor, value: Tensor, padded: bool) -> Layer:
    inputs = connected.shape[1]
    if before is None:
        return Layer(rows, None, connected, torch.full((inputs,), torch.nan), torch.zeros(inputs, dtype=torch.bool))
    assert before.at_zero is not None
    zeros = one_for_each(before.at_zero, before.axis) == 0
    return Layer(rows, before.units, connected, _constants(value, before, padded), zeros)


def _constants(value: Tensor, before: Features, padded: bool) -> Tensor:
    """Return the number of each input that always has the same everywhere, else NaN; zeros at a border differ."""
    numbers = torch.where(before.fixed, one_for_each(value, before.axis), torch.nan)
    return torch.where(numbers == 0, numbers, torch.nan) if padded else numbers


def _each_by_itself(op: GraphOp, place: int, owner: Owner, silent: Tensor) -> Features | None:
    """Record a module that treats each unit by itself.

    When its units are removed, its own weight and bias are too, so what it gives out at zero is 0. One without a weight
    keeps zeros, but does not make them.
    """
    before = op.features("input")
    if before is None or before.axis != op.value("input").ndim + place or len(before.units) != len(silent):
        return None
    assert before.at_zero is not None
    at_zero = before.at_zero if op.argument("weight") is None else _zeros(op.result)
    fixed = before.fixed | silent.cpu()
    if owner.why is not None:
        op.graph.whole[owner.name] = owner.why
        op.graph.require(before.units, f"they reach {named(op.model, owner.name)}, which {owner.why}")
        return Features(before.axis, before.units, fixed, at_zero)
    rows = op.graph.following(before.units)
    op.graph.followers[owner.name] = Follower(rows, before.units)
    return Features(before.axis, rows, fixed, at_zero)


def _zeros(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return torch.zeros_like(result if isinstance(result, Tensor) else result[0])


def _is_padded(padding: list[int] | str) -> bool:
    return padding == "same" if isinstance(padding, str) else any(padding)
