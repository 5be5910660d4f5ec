"""How large the error of each weight may be for a network to be within epsilon, before anything is drawn."""

import math
from collections.abc import Sequence

from theory.norms import Norm, constant_norm, operator_norm, step_norm
from theory.target import FixedStep, Target, TargetLayer

LEAST = 1e-200
"""The smallest error that a weight is given: far below what float64 resolves, and not 0, which has no logarithm."""


def per_weight(target: Target, epsilon: float, size: float, norm: Norm, *, by_weights: bool = False) -> list[float]:
    """Return the error that each weight of a layer may have, so that the network's stays below epsilon / 2.

    Layer i of l may add epsilon / 2l, or its part of epsilon / 2 by its number of weights. What it adds is its error
    operator, `_growth` times the error of a weight, times the size of its input and the norms of all that is behind it.
    This is a plan; the certificate is what holds.

    Args:
        target: whose layers are met.
        epsilon: the largest difference wanted.
        size: of the inputs, in the norm.
        norm: of inputs and outputs.
        by_weights: whether layers of more weights may add more. A bit less for each of n weights is n bits less, so
            this takes the fewest for the same sum.

    """
    weights = [operator_norm(layer, layer.kernel, norm) for layer in target.layers]
    steps = [_steps_norm(layer.after, norm) for layer in target.layers]
    total = sum(layer.kernel.size for layer in target.layers)
    parts = [total / layer.kernel.size if by_weights else len(weights) for layer in target.layers]
    size, found = size * _steps_norm(target.before, norm), []
    for i, layer in enumerate(target.layers):
        moved = _growth(layer, norm) * size + _spread(layer, norm)
        behind = math.prod(steps[i:]) * math.prod(weights[i + 1 :])
        # half of epsilon: `_growth` is what is expected of random errors, and not a bound; 1e-300: a layer of zeros
        found.append(max(epsilon / (2 * parts[i]) / max(moved * behind, 1e-300), LEAST))
        size = steps[i] * (weights[i] * size + constant_norm(layer, layer.offset, norm))
    return found


def _steps_norm(steps: Sequence[FixedStep], norm: Norm) -> float:
    return math.prod(step_norm(step, norm) for step in steps)


def _growth(layer: TargetLayer, norm: Norm) -> float:
    """Return the norm of an error operator whose entries are at most 1, as it is to be expected.

    Errors of independent subset sums have random signs, so their l2 norm is near that of a random matrix, the sum of
    the roots of its two sides, where the worst case is the root of their product; two halves count as one matrix.
    """
    row, column = layer.inputs * layer.taps, layer.outputs * layer.taps
    if norm == "linf":
        return float(row)
    row *= 1 + layer.signed
    return min(math.sqrt(row) + math.sqrt(column), math.sqrt(row * column))


def _spread(layer: TargetLayer, norm: Norm) -> float:
    """Return the norm of an offset of ones, where there is a bias."""
    if layer.bias is None:
        return 0.0
    return math.sqrt(layer.outputs * layer.places) if norm == "l2" else 1.0
