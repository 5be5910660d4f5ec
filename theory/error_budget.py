"""How large the error of each weight may be for a network to be within epsilon, before anything is drawn."""

import math

from theory.certificate import itself
from theory.domains import Around, Domain
from theory.local import Walk
from theory.norms import Norm, constant_norm, joined, operator_norm, step_norm
from theory.precision import FLOAT64
from theory.target import FixedStep, Node, Target, TargetLayer

PLANNED = 16
"""Points that are looked at to plan a network around points; its certificate is for all of them."""
LEAST = 1e-200
"""The smallest error that a weight is given: far below what float64 resolves, and not 0, which has no logarithm."""


def per_weight(target: Target, epsilon: float, domain: Domain, norm: Norm, *, by_weights: bool = False) -> list[float]:
    """Return the error that each weight of a layer may have, so that the network's stays below epsilon / 2.

    Layer i of l may add epsilon / 2l, or its part of epsilon / 2 by its number of weights. What it adds is its error
    operator, `_growth` times the error of a weight, times the size of its input and the norms of all that is behind it.
    This is a plan; the certificate is what holds.

    Args:
        target: whose layers are met.
        epsilon: the largest difference wanted.
        domain: of the inputs; around points, hidden tensors and what is behind them are taken as they are near some.
        norm: of inputs and outputs.
        by_weights: whether layers of more weights may add more. A bit less for each of n weights is n bits less, so
            this takes the fewest for the same sum.

    """
    reaches = _over_all(target, domain.size(target.input_shape, norm), norm)
    if isinstance(domain, Around):
        near = _near(target, domain, norm)
        reaches = [(min(a, c), min(b, d)) for (a, b), (c, d) in zip(reaches, near, strict=True)]
    total, found = sum(layer.kernel.size for layer in target.layers), []
    for layer, (size, behind) in zip(target.layers, reaches, strict=True):
        part = total / layer.kernel.size if by_weights else len(target.layers)
        moved = _growth(layer, norm) * size + _spread(layer, norm)
        # half of epsilon: `_growth` is what is expected of random errors, and not a bound; 1e-300: a layer of zeros
        found.append(max(epsilon / (2 * part) / max(moved * behind, 1e-300), LEAST))
    return found


def _over_all(target: Target, size: float, norm: Norm) -> list[tuple[float, float]]:
    """Return for each layer the norm of what it reads, and how much a change behind it grows, at most by norms."""
    sizes, behind = _sizes(target, size, norm), _behind(target, norm)
    return [
        (sizes[node.sources[0]], behind[number])
        for number, node in enumerate(target.nodes, start=1)
        if isinstance(node.operation, TargetLayer)
    ]


def _near(target: Target, domain: Around, norm: Norm) -> list[tuple[float, float]]:
    """Return the same near some of the points."""
    points = domain.points[:: -(-len(domain.points) // PLANNED)]
    walk = Walk(target, [itself(layer) for layer in target.layers], norm, FLOAT64)
    chunks = [walk.sensitivities(part, domain.radius) for part in points.split(walk.points_at_a_time())]
    return [(max(size for size, _ in layer), max(grown for _, grown in layer)) for layer in zip(*chunks, strict=True)]


def _sizes(target: Target, size: float, norm: Norm) -> list[float]:
    """Return a bound of the norm of the input and of what each node gives."""

    def through(node: Node, *before: float) -> float:
        operation = node.operation
        if isinstance(operation, FixedStep):
            return joined(operation, before, norm) * step_norm(operation, norm)
        return operator_norm(operation, operation.kernel, norm) * before[0] + constant_norm(
            operation, operation.offset, norm
        )

    return target.follow(size, through)


def _behind(target: Target, norm: Norm) -> list[float]:
    """Return how much a change of the input and of what each node gives grows at most on its way to the output."""
    found = [0.0] * len(target.nodes) + [1.0]
    for number, node in reversed(list(enumerate(target.nodes, start=1))):
        operation = node.operation
        if isinstance(operation, FixedStep):
            factor = step_norm(operation, norm)
        else:
            factor = operator_norm(operation, operation.kernel, norm)
        for source in node.sources:
            found[source] += factor * found[number]
    return found


def _growth(layer: TargetLayer, norm: Norm) -> float:
    """Return the norm of an error operator whose entries are at most 1, as it is to be expected.

    Errors of independent subset sums have random signs, so their l2 norm is near that of a random matrix, the sum of
    the roots of its two sides, where the worst case is the root of their product; two halves count as one matrix.
    """
    row, column = layer.reads * layer.taps, layer.outputs // layer.groups * layer.taps
    if norm == "linf":
        return float(row)
    row *= 1 + layer.signed
    return min(math.sqrt(row) + math.sqrt(column), math.sqrt(row * column))


def _spread(layer: TargetLayer, norm: Norm) -> float:
    """Return the norm of an offset of ones, where there is a bias."""
    if layer.bias is None:
        return 0.0
    return math.sqrt(layer.outputs * layer.places) if norm == "l2" else 1.0
