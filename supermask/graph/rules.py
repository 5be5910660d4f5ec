"""What operations do with units: a line in `RULES` for each, and one rule for all that treat each number by itself.

A rule returns what is known of the result, or None where units cannot be told apart in it; they are then required. It
may say that the result does not depend on the network's input only where that holds for every input.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from supermask.graph.layers import convolution, linear, normalisation
from supermask.graph.operation import Features, GraphOp

aten = torch.ops.aten
Rule = Callable[[GraphOp], Features | None]


def rule_for(node: fx.Node) -> Rule | None:
    """Return the rule of an operation, or None where nothing is known of it."""
    return RULES.get(node.target, pointwise if _is_pointwise(node.target) else None)


def pointwise(op: GraphOp) -> Features | None:
    """Follow an operation on each number by itself, or on numbers at one place, whose units stay or go together."""
    if op.argument("training"):  # which draws random numbers
        return None
    holders = [node for node in op.operands() if node in op.known]
    places = {op.known[node].axis - op.values[node].ndim for node in holders}
    if len(places) != 1:
        return None
    (place,) = places
    size = op.result.shape[place]
    others = [node for node in op.operands() if node not in op.known]
    if any(op.values[node].ndim >= -place and op.values[node].shape[place] > 1 for node in others):
        return None  # a number of its own for each unit, which would have to go with it
    if any(len(op.known[node].units) != size for node in holders):
        return None
    first, *more = (op.known[node] for node in holders)
    fixed = torch.stack([first.fixed, *(each.fixed for each in more)]).all(0)
    for each in more:
        op.graph.tie(first.units, each.units)
    return Features(op.result.ndim + place, first.units, fixed & (not op.varying.intersection(others)))


def _same(op: GraphOp) -> Features | None:
    """Follow what leaves units where they are."""
    before = op.known.get(op.operands()[0])
    return before and Features(before.axis, before.units, before.fixed)


def _dropout(op: GraphOp) -> Features | None:
    return None if op.argument("train") else _same(op)


def _rearranged(op: GraphOp) -> Features | None:
    """Follow numbers to another place: the same is done to the numbers of the units."""
    found = _order(op)
    if found is None:
        return None
    axis, order, before = found
    return Features(axis, before.units[order], before.fixed[order])


def _picked(op: GraphOp) -> Features | None:
    """Follow units that are picked by their number, e.g. in another order: none can go."""
    found = _rearranged(op)
    before = op.known.get(op.operands()[0])
    if found is not None and before is not None and not torch.equal(found.units, before.units):
        op.graph.count(before.units, f"{op} picks them by their number")
    return found


def _order(op: GraphOp) -> tuple[int, Tensor, Features] | None:
    """Return the axis of the units in the result, and which place of the operand each place along it comes from."""
    source = op.operands()[0]
    before, shape = op.known.get(source), op.values[source].shape
    if before is None or op.varying.intersection(op.operands()[1:]):
        return None
    places = torch.arange(len(before.units)).reshape([-1 if d == before.axis else 1 for d in range(len(shape))])
    places = op.run_on({source: places.expand(shape).contiguous().to(op.result.device)}).cpu()
    axis = _axis_of(places)
    return None if axis is None else (axis, places.movedim(axis, -1).flatten(0, -2)[0], before)


def _axis_of(places: Tensor) -> int | None:
    """Return the one dimension along which places differ."""
    varied = [d for d in range(places.ndim) if bool((places != places.narrow(d, 0, 1)).any())]
    return varied[0] if len(varied) == 1 else None


def _sliced(op: GraphOp) -> Features | None:
    """Follow a slice of other dimensions, or of all units, e.g. `y[:, :, 1:]`."""
    before, source = _same(op), op.value("self")
    return before if before is not None and op.result.shape[before.axis] == source.shape[before.axis] else None


def _over_pixels(dimensions: int, op: GraphOp) -> Features | None:
    """Follow pooling and the like, over the last dimensions."""
    before = _same(op)
    return before if before is not None and before.axis < op.values[op.operands()[0]].ndim - dimensions else None


def _padded(op: GraphOp) -> Features | None:
    return _over_pixels(len(op.argument("pad")) // 2, op)


def _reduced(op: GraphOp) -> Features | None:
    """Follow sums and the like over other dimensions than that of the units."""
    before, dimensions = _same(op), op.argument("dim")
    dimensions = [dimensions] if isinstance(dimensions, int) else dimensions
    if before is None or not dimensions or op.argument("dtype") is not None:
        return None
    gone = {d % op.value("self").ndim for d in dimensions}
    if before.axis in gone:
        return None
    axis = before.axis - (0 if op.argument("keepdim") else sum(d < before.axis for d in gone))
    return Features(axis, before.units, before.fixed)


def _instance_norm(op: GraphOp) -> Features | None:
    """Follow a normalisation of each channel of each example that has no numbers of its own."""
    return None if op.argument("weight") is not None or op.argument("running_mean") is not None else _same(op)


def _concatenated(op: GraphOp) -> Features | None:
    """Follow tensors that are put beside one another; numbers without units become units that are required."""
    dimension = (op.argument("dim") or 0) % op.result.ndim
    parts = []
    for node in op.argument("tensors"):
        part = op.known.get(node)
        if part is not None and part.axis != dimension:
            return None
        parts.append(part or _unknown(op, op.values[node].shape[dimension]))
    return Features(dimension, torch.cat([part.units for part in parts]), torch.cat([part.fixed for part in parts]))


def _unknown(op: GraphOp, count: int) -> Features:
    units = op.graph.new(count)
    op.graph.require(units, "they are combined with numbers that are not units of a layer")
    return Features(0, units, torch.zeros(count, dtype=torch.bool))


def _first_of(op: GraphOp) -> Features | None:
    """Follow the first result of an operation that has several."""
    source, place = op.node.args
    return op.known.get(source) if place == 0 else None  # type: ignore[arg-type]


def _slopes(op: GraphOp) -> Features | None:
    return pointwise(op) if op.value("weight").numel() == 1 else None


_SAME = (aten.contiguous, aten.detach, aten.alias, aten.to, aten._to_copy, aten.lift_fresh_copy, aten.clone)
# PyTorch marks most of these as pointwise itself (torch.Tag), but not in every version or overload: 2.11 leaves out
# leaky_relu, and 2.14 still hardswish and where with numbers.
_POINTWISE = (aten.hardswish, aten.leaky_relu, aten.where)
_REARRANGING = (
    *(aten.view, aten.reshape, aten._unsafe_view, aten.flatten, aten.unflatten, aten.expand, aten.repeat, aten.flip),
    *(aten.permute, aten.transpose, aten.t, aten.movedim, aten.squeeze, aten.unsqueeze),
)
_PICKING = (aten.index, aten.index_select, aten.roll)
_CONVOLUTIONS = {1: aten.conv1d, 2: aten.conv2d, 3: aten.conv3d}
_REDUCING = (aten.mean, aten.sum, aten.amax, aten.amin, aten.var, aten.std)
_POOLING = {
    1: (aten.max_pool1d, aten.avg_pool1d, aten.adaptive_avg_pool1d, aten.upsample_nearest1d, aten.upsample_linear1d),
    2: (
        *(aten.max_pool2d, aten.max_pool2d_with_indices, aten.avg_pool2d, aten.adaptive_avg_pool2d),
        *(aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d),
        *(aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.upsample_bicubic2d),
    ),
    3: (
        *(aten.max_pool3d, aten.avg_pool3d, aten.adaptive_avg_pool3d),
        *(aten.upsample_nearest3d, aten.upsample_trilinear3d),
    ),
}


def _all(packets: Any, rule: Rule) -> dict[Any, Rule]:
    return {getattr(packet, name): rule for packet in packets for name in packet.overloads() if "out" not in name}


def _is_pointwise(target: Any) -> bool:
    tags = target.tags if isinstance(target, torch._ops.OpOverload) else ()
    return torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags


CHECKS = frozenset({aten._assert_tensor_metadata.default})
"""Operations that only look at a tensor's type."""

RULES: Mapping[Any, Rule] = {
    **_all((aten.linear,), linear),
    **{target: partial(convolution, n) for n, packet in _CONVOLUTIONS.items() for target in _all((packet,), linear)},
    **_all((aten.batch_norm, aten._native_batch_norm_legit_no_training), normalisation),
    **_all((aten.instance_norm,), _instance_norm),
    **_all(_SAME, _same),
    **_all(_POINTWISE, pointwise),
    **_all((aten.dropout, aten.feature_dropout, aten.alpha_dropout, aten.feature_alpha_dropout), _dropout),
    **_all(_REARRANGING, _rearranged),
    **_all(_PICKING, _picked),
    **_all((aten.slice,), _sliced),
    **{target: partial(_over_pixels, n) for n, packets in _POOLING.items() for target in _all(packets, _same)},
    **_all((aten.pad, aten.constant_pad_nd), _padded),
    **_all(_REDUCING, _reduced),
    **_all((aten.cat, aten.concat), _concatenated),
    **_all((aten.prelu,), _slopes),
    operator.getitem: _first_of,
}
"""By operator of the graph; units that come to an operation that is neither here nor pointwise are required."""
