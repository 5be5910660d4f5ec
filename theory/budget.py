"""How large the error of each weight may be for a network to be within epsilon, before anything is drawn."""

import math
from collections.abc import Sequence

from theory.norms import Norm, constant_norm, operator_norm, step_norm
from theory.target import Layer, Step, Target


def shares(target: Target, epsilon: float, radius: float, norm: Norm) -> list[float]:
    """Return the error that each weight of a layer may have, so that the network's stays below epsilon / 2.

    Layer i of l may add epsilon / 2l. What it adds is its error operator, at most `_growth` times the error of a
    weight, times the size of its input and the norms of all that is behind it.

    Args:
        target: whose layers are met.
        epsilon: the largest difference wanted.
        radius: of the ball of inputs.
        norm: of inputs and outputs.

    """
    weights = [operator_norm(layer, layer.kernel, norm) for layer in target.layers]
    steps = [_steps_norm(layer.after, norm) for layer in target.layers]
    size, found = radius * _steps_norm(target.before, norm), []
    for i, layer in enumerate(target.layers):
        moved = _growth(layer, norm) * size + _spread(layer, norm)
        behind = math.prod(steps[i:]) * math.prod(weights[i + 1 :])
        found.append(epsilon / (2 * len(weights)) / max(moved * behind, 1e-300))
        size = steps[i] * (weights[i] * size + constant_norm(layer, layer.offset, norm))
    return found


def _steps_norm(steps: Sequence[Step], norm: Norm) -> float:
    return math.prod(step_norm(step, norm) for step in steps)


def _growth(layer: Layer, norm: Norm) -> float:
    """Return the largest norm of an error operator whose entries are at most 1; two halves count as one matrix."""
    row = layer.inputs * layer.taps
    if norm == "linf":
        return float(row)
    return math.sqrt((1 + layer.signed) * row * layer.outputs * layer.taps)


def _spread(layer: Layer, norm: Norm) -> float:
    """Return the norm of an offset of ones, where there is a bias."""
    if layer.bias is None:
        return 0.0
    return math.sqrt(layer.outputs * layer.places) if norm == "l2" else 1.0
