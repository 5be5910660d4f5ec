"""Powers of two moved between the layers of a target, which changes nothing: random weights are float32, and end."""

from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch

from supermask.errors import SupermaskError
from theory.norms import exponent_of
from theory.target import FixedStep, Matrix, Node, Target, TargetLayer

MOST = 100
"""Layers whose largest weights lie between 2^-100 and 2^100 are left as they are: float32 has 26 powers more."""


def balanced(target: Target, dtype: torch.dtype) -> Target:
    """Return a target that computes the same, bit for bit, with layers of sizes that random weights reach.

    What stands between layers (ReLU, pooling, padding, flattening) passes a factor on. So one layer may be multiplied
    by a power of two and a later one divided by it, where the biases between them are multiplied too.

    Args:
        target: as it was read.
        dtype: in which it will be run.

    Raises:
        SupermaskError: its layers are not of such sizes, and it is to be run in a dtype that ends as float32 does.

    """
    sizes = [exponent_of(layer.kernel) for layer in target.layers]
    if all(abs(size) <= MOST for size in sizes):
        return target
    if dtype is not torch.float64:
        raise SupermaskError(f"The target has weights that {dtype} may not hold; give dtype=torch.float64.")
    if any(step.joins for step in target.steps):  # its branches would have to move together
        return target
    shifts = _shifts([size if layer.kernel.any() else None for size, layer in zip(sizes, target.layers, strict=True)])
    layers = [_shifted(*each) for each in zip(target.layers, shifts, accumulate(shifts), strict=True)]
    if not all(_exact(*pair) for pair in zip(target.layers, layers, strict=True)):
        return target
    moved = iter(layers)
    nodes = (
        node if isinstance(node.operation, FixedStep) else Node(next(moved), node.sources) for node in target.nodes
    )
    return replace(target, nodes=tuple(nodes))


def _shifts(sizes: list[int | None]) -> list[int]:
    """Return the power of two for each layer, together 0, after which all are of about one size."""
    there = [size for size in sizes if size is not None]
    mean = round(sum(there) / len(there)) if there else 0
    shifts = [0 if size is None else mean - size for size in sizes]
    last = max((place for place, size in enumerate(sizes) if size is not None), default=0)
    shifts[last] -= sum(shifts)
    return shifts


def _shifted(layer: TargetLayer, shift: int, so_far: int) -> TargetLayer:
    def offset(values: Matrix | None) -> Matrix | None:
        return None if values is None else np.ldexp(values, so_far)

    with np.errstate(over="ignore", under="ignore"):
        kernel = np.ldexp(layer.kernel, shift)
        return replace(layer, kernel=kernel, bias=offset(layer.bias), mass=offset(layer.mass))


def _exact(before: TargetLayer, after: TargetLayer) -> bool:
    """Whether no weight was lost or became infinite."""
    pairs = ((before.kernel, after.kernel), (before.offset, after.offset))
    return all(np.isfinite(new).all() and _mantissas(old, new) for old, new in pairs)


def _mantissas(old: Matrix, new: Matrix) -> bool:
    return bool((np.frexp(old)[0] == np.frexp(new)[0]).all())
