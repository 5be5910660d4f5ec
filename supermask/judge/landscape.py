"""Loss surfaces around a trained network, and its trajectory in them (Ma et al. 2021, contour plots).

A surface is spanned by two directions: random ones that were normalised filter by filter (Li et al. 2018), or the two
principal ones of the trajectory (Li et al. 2018). For a pruned network the directions are masked, so that no
point of the plane has a weight that was pruned.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.training.evaluation import evaluate

State = Mapping[str, Tensor]
"""Tensors by name, as in a state dictionary."""

Extent = tuple[float, float]
"""From where to where a coordinate goes."""


@dataclass(frozen=True)
class Plane:
    """A plane through the last state of a trajectory.

    Attributes:
        origin: the last state, float64.
        directions: two orthogonal ones of length 1 over all tensors together, float64.
        explained: the share of the trajectory's squared distances from the origin that lies along each, as fractions.
        coordinates: of each state in the plane, float64 (states, 2); the last is (0, 0).

    """

    origin: State
    directions: tuple[State, State]
    explained: tuple[float, float]
    coordinates: Tensor

    def point(self, first: float, second: float) -> dict[str, Tensor]:
        """Return the state at some coordinates, float64."""
        return _point(self.origin, self.directions, first, second)

    def extents(self, margin: float = 0.2) -> tuple[Extent, Extent]:
        """Return what holds the trajectory, with a margin on each side as a fraction of its width."""
        low, high = self.coordinates.min(0).values, self.coordinates.max(0).values
        # a coordinate that the trajectory does not use is as wide as the other
        width = torch.where(high > low, high - low, (high - low).max())
        first, second = zip((low - margin * width).tolist(), (high + margin * width).tolist(), strict=True)
        return first, second


@dataclass(frozen=True)
class Surface:
    """Errors and losses over a grid.

    Attributes:
        first: coordinates along the first direction, float64 (points,).
        second: along the second.
        errors: fraction of the examples that is wrong, float64 (points, points); rows go along the first direction.
        losses: mean cross-entropy in nats, of the same shape.

    """

    first: Tensor
    second: Tensor
    errors: Tensor
    losses: Tensor


def filter_normalised(direction: State, weights: State, masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return a direction whose filters have the lengths of the network's (Li et al. 2018).

    Each filter d of the direction becomes d * |w| / |d|, where w is that of the network, and a filter is all weights of
    one output channel or unit (one index of dimension 0). Tensors of less than two dimensions, which are biases and
    parameters of a normalisation, become zero: the surface would else change with a scale that means nothing.

    Args:
        direction: floating tensors, e.g. drawn from a normal distribution.
        weights: of the network, with the same names and shapes at least.
        masks: bool, by name; the direction is zero where a weight is pruned, and lengths are those of what is kept.

    Returns:
        New tensors of the direction's names, shapes and dtypes. A filter without any length stays zero.

    Raises:
        SupermaskError: the network has no tensor of such a name and shape, or a mask has another shape.

    """
    normalised = {}
    for name, values in direction.items():
        mask = (masks or {}).get(name)
        if (
            name not in weights
            or weights[name].shape != values.shape
            or (mask is not None and mask.shape != values.shape)
        ):
            raise SupermaskError(f"The direction of {name} does not have the shape of the network's weights and masks.")
        normalised[name] = _normalised(values, weights[name], mask) if values.ndim >= 2 else torch.zeros_like(values)
    return normalised


def principal_plane(trajectory: Sequence[State]) -> Plane:
    """Return the plane through the last state of a trajectory that is nearest to all of it (Li et al. 2018).

    Its directions are the two principal ones of theta_t - theta_T, by the singular values of these differences. They
    are not centred, so that the plane holds theta_T. Each points to the side on which the first state is.

    Args:
        trajectory: states theta_0 to theta_T, three or more, e.g. one for each epoch. All floating tensors take part:
            give the weights alone if running statistics should not. Pruned weights must be zero in all of them.

    Raises:
        SupermaskError: there are less than three states, their tensors differ, a number is not finite, or nothing
            moved.

    """
    states = [{name: each.detach() for name, each in state.items() if each.is_floating_point()} for state in trajectory]
    if len(states) < 3:
        raise SupermaskError(f"{len(states)} states do not span a plane; give three or more.")
    shapes = [{name: tuple(each.shape) for name, each in state.items()} for state in states]
    if any(each != shapes[-1] for each in shapes):
        raise SupermaskError("The states of the trajectory have other tensors; give those of one network.")
    # by the names of the last: a state may have its tensors in another order
    states = [{name: state[name] for name in states[-1]} for state in states]
    last = _flat(states[-1])
    # float64, because the differences of late states are small beside the weights
    differences = torch.stack([_flat(state) - last for state in states[:-1]])
    if not bool(differences.isfinite().all()) or not bool(differences.any()):
        raise SupermaskError("The trajectory moves nowhere or holds NaN or infinity, and has no directions.")
    _, lengths, rows = torch.linalg.svd(differences, full_matrices=False)
    if len(rows) < 2:
        raise SupermaskError("A single weight has no plane.")
    axes = rows[:2]
    along = differences @ axes.T
    signs = torch.where(along[0] < 0, -1.0, 1.0).double()
    coordinates = torch.cat([along * signs, torch.zeros(1, 2).double()])
    explained = lengths.square() / lengths.square().sum()
    first, second = (_shaped(axis, states[-1]) for axis in axes * signs[:, None])
    origin = {name: each.cpu().double() for name, each in states[-1].items()}
    return Plane(origin, (first, second), (float(explained[0]), float(explained[1])), coordinates)


def surface(
    model: nn.Module,
    origin: State,
    directions: tuple[State, State],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    extents: tuple[Extent, Extent] = ((-1.0, 1.0), (-1.0, 1.0)),
    points: int = 25,
    statistics: Callable[[nn.Module], None] | None = None,
) -> Surface:
    """Return errors and losses at origin + a * first + b * second over a grid of (a, b).

    Args:
        model: a plain module; its parameters, buffers and mode are the same afterwards.
        origin: tensors of the model's state dictionary; what it does not name stays as the model has it.
        directions: of some of these tensors; the others do not move.
        batches: inputs, and labels int64 (batch,), on the model's device; all of them are held in memory.
        extents: from where to where a and b go.
        points: along each direction, evenly spaced, both ends included.
        statistics: called at each point with the model, to estimate batch-norm statistics again; the stored ones are
            those of other weights.

    Raises:
        SupermaskError: points is below 2, a tensor of the origin is not the model's, or one of a direction is not the
            origin's.

    """
    if points < 2:
        raise SupermaskError(f"points={points} is out of range; a grid has 2 or more along each direction.")
    # the tensors of the model themselves, which are written in place
    held = {name: each.detach() for name, each in model.state_dict(keep_vars=True).items()}
    _check_same("origin", origin, "model", held)
    for direction in directions:
        _check_same("direction", direction, "origin", origin)
    examples, before = list(batches), {name: each.clone() for name, each in held.items()}
    first, second = (torch.linspace(*extent, points, dtype=torch.float64) for extent in extents)
    errors, losses = torch.empty(2, points, points, dtype=torch.float64)
    try:
        for i, a in enumerate(first.tolist()):
            for j, b in enumerate(second.tolist()):
                _write(held, _point(origin, directions, a, b))
                if statistics is not None:
                    statistics(model)
                score = evaluate(model, examples)
                errors[i, j], losses[i, j] = 1.0 - score.accuracy, score.loss
    finally:
        _write(held, before)
    return Surface(first, second, errors, losses)


def _normalised(direction: Tensor, weights: Tensor, mask: Tensor | None) -> Tensor:
    kept = torch.ones_like(direction, dtype=torch.bool) if mask is None else mask.to(direction.device)
    filters, own = ((each * kept).flatten(1).double() for each in (direction, weights.detach().to(direction.device)))
    lengths = filters.norm(dim=1, keepdim=True)
    # 1 in place of 0, where a filter is zero and stays so
    scale = own.norm(dim=1, keepdim=True) / torch.where(lengths > 0, lengths, 1.0)
    return (filters * scale).reshape(direction.shape).to(direction.dtype)


def _point(origin: State, directions: tuple[State, State], first: float, second: float) -> dict[str, Tensor]:
    """Return a point of a plane in float64, on the CPU; at (0, 0) it is the origin, bit for bit."""
    moved = {name: each.detach().cpu().double() for name, each in origin.items()}
    for direction, coordinate in zip(directions, (first, second), strict=True):
        for name, each in direction.items():
            moved[name] = moved[name] + coordinate * each.detach().cpu().double()
    return moved


@torch.no_grad()
def _write(held: State, values: State) -> None:
    for name, each in values.items():
        held[name].copy_(each)


def _check_same(what: str, part: State, of: str, whole: State) -> None:
    for name, each in part.items():
        if name not in whole or whole[name].shape != each.shape:
            raise SupermaskError(
                f"The {what} has a tensor {name} of {tuple(each.shape)}, which the {of} does not have."
            )


def _flat(state: State) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.float64), *(each.cpu().double().flatten() for each in state.values())])


def _shaped(flat: Tensor, like: State) -> dict[str, Tensor]:
    parts = flat.split([each.numel() for each in like.values()])
    return {name: part.reshape(each.shape) for (name, each), part in zip(like.items(), parts, strict=True)}
