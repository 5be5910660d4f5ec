"""What operations do with units: a line in `RULES` for each, and one rule for all that treat each number by itself.

A rule returns what is known of the result, or None where units cannot be told apart in it; they are then needed. It may
say that the result does not depend on the network's input only where that holds for every input.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supermask.deploy.layers import convolution, linear, normalisation
from supermask.deploy.step import Step
from supermask.deploy.units import Features

aten = torch.ops.aten
Rule = Callable[[Step], Features | None]


def pointwise(step: Step) -> Features | None:
    """Follow an operation on each number by itself, or on numbers at one place, whose units stay or go together."""
    if step.argument("training"):  # which draws random numbers
        return None
    holders = [node for node in step.operands() if node in step.known]
    places = {step.known[node].axis - step.values[node].ndim for node in holders}
    if len(places) != 1:
        return None
    (place,) = places
    size = step.result.shape[place]
    others = [node for node in step.operands() if node not in step.known]
    if any(step.values[node].ndim >= -place and step.values[node].shape[place] > 1 for node in others):
        return None  # a number of its own for each unit, which would have to go with it
    if any(len(step.known[node].units) != size for node in holders):
        return None
    first, *more = (step.known[node] for node in holders)
    fixed = torch.stack([first.fixed, *(each.fixed for each in more)]).all(0)
    for each in more:
        step.ledger.unite(first.units, each.units)
    return Features(step.result.ndim + place, first.units, fixed & (not step.varying.intersection(others)))


def _same(step: Step) -> Features | None:
    """Follow what changes no number."""
    return step.known.get(step.operands()[0])


def _dropout(step: Step) -> Features | None:
    return None if step.argument("train") else _same(step)


def _rearranged(step: Step) -> Features | None:
    """Follow numbers to another place: the same is done to the numbers of the units."""
    (source,) = step.operands()
    before, shape = step.known.get(source), step.values[source].shape
    if before is None:
        return None
    places = torch.arange(len(before.units)).reshape([-1 if d == before.axis else 1 for d in range(len(shape))])
    arguments = [places.expand(shape).contiguous() if each is source else each for each in step.node.args]
    places = step.node.target(*arguments, **step.node.kwargs)  # type: ignore[operator]
    axis = _axis_of(places)
    if axis is None:
        return None
    order = places.movedim(axis, -1).flatten(0, -2)[0]
    return Features(axis, before.units[order], before.fixed[order])


def _axis_of(places: Tensor) -> int | None:
    """Return the one dimension along which places differ."""
    varied = [d for d in range(places.ndim) if bool((places != places.narrow(d, 0, 1)).any())]
    return varied[0] if len(varied) == 1 else None


def _over_pixels(dimensions: int, step: Step) -> Features | None:
    """Follow pooling and the like, over the last dimensions."""
    before = _same(step)
    return before if before is not None and before.axis < step.values[step.operands()[0]].ndim - dimensions else None


def _padded(step: Step) -> Features | None:
    return _over_pixels(len(step.argument("pad")) // 2, step)


def _reduced(step: Step) -> Features | None:
    """Follow sums and the like over other dimensions than that of the units."""
    before, dimensions = _same(step), step.argument("dim")
    if before is None or not dimensions or step.argument("dtype") is not None:
        return None
    gone = {d % step.value("self").ndim for d in dimensions}
    if before.axis in gone:
        return None
    axis = before.axis - (0 if step.argument("keepdim") else sum(d < before.axis for d in gone))
    return Features(axis, before.units, before.fixed)


def _concatenated(step: Step) -> Features | None:
    """Follow tensors that are put beside one another; what was no unit becomes units that are needed."""
    dimension = (step.argument("dim") or 0) % step.result.ndim
    parts = []
    for node in step.argument("tensors"):
        part = step.known.get(node)
        if part is not None and part.axis != dimension:
            return None
        parts.append(part or _unknown(step, step.values[node].shape[dimension]))
    return Features(dimension, torch.cat([part.units for part in parts]), torch.cat([part.fixed for part in parts]))


def _unknown(step: Step, count: int) -> Features:
    units = step.ledger.new(count)
    step.ledger.need(units)
    return Features(0, units, torch.zeros(count, dtype=torch.bool))


def _first_of(step: Step) -> Features | None:
    """Follow the first result of an operation that has several."""
    source, place = step.node.args
    return step.known.get(source) if place == 0 else None  # type: ignore[arg-type]


def _slopes(step: Step) -> Features | None:
    return pointwise(step) if step.value("weight").numel() == 1 else None


_SAME = (aten.contiguous, aten.detach, aten.alias, aten.to, aten._to_copy, aten.lift_fresh_copy, aten.hardswish)
_REARRANGING = (
    *(aten.view, aten.reshape, aten._unsafe_view, aten.flatten, aten.unflatten, aten.expand),
    *(aten.permute, aten.transpose, aten.t, aten.movedim, aten.squeeze, aten.unsqueeze),
)
_CONVOLUTIONS = {1: aten.conv1d, 2: aten.conv2d, 3: aten.conv3d}
_POOLING = {
    1: (aten.max_pool1d, aten.avg_pool1d, aten.adaptive_avg_pool1d, aten.upsample_nearest1d),
    2: (
        *(aten.max_pool2d, aten.max_pool2d_with_indices, aten.avg_pool2d, aten.adaptive_avg_pool2d),
        *(aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d, aten.upsample_nearest2d, aten.upsample_bilinear2d),
    ),
    3: (aten.max_pool3d, aten.avg_pool3d, aten.adaptive_avg_pool3d, aten.upsample_nearest3d),
}


def _all(packets: Any, rule: Rule) -> dict[Any, Rule]:
    return {getattr(packet, name): rule for packet in packets for name in packet.overloads() if "out" not in name}


CHECKS = frozenset({aten._assert_tensor_metadata.default})
"""Operations that only look at a tensor's type."""

RULES: Mapping[Any, Rule] = {
    **_all((aten.linear,), linear),
    **{target: partial(convolution, n) for n, packet in _CONVOLUTIONS.items() for target in _all((packet,), linear)},
    **_all((aten.batch_norm, aten._native_batch_norm_legit_no_training), normalisation),
    **_all(_SAME, _same),
    **_all((aten.dropout, aten.feature_dropout, aten.alpha_dropout, aten.feature_alpha_dropout), _dropout),
    **_all(_REARRANGING, _rearranged),
    **{target: partial(_over_pixels, n) for n, packets in _POOLING.items() for target in _all(packets, _same)},
    **_all((aten.pad, aten.constant_pad_nd), _padded),
    **_all((aten.mean, aten.sum, aten.amax, aten.amin), _reduced),
    **_all((aten.cat, aten.concat), _concatenated),
    **_all((aten.prelu,), _slopes),
    operator.getitem: _first_of,
}
"""By operator of the graph; whatever is not here and is not pointwise needs all units that come to it."""
