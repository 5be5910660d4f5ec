"""How far a pruned random network is from its target in the sup norm: proven from above, searched from below.

From above. After pruning, layer i of the network computes P * x+ - N * x- + c with x+- = max(+-x, 0), against W * x + b
of the target. With d_i the norm of its error operator ([P - W, W - N] where inputs can be negative, P - W where not),
nu_i the norm of W_i, s_i that of the steps behind it (ReLU, pooling), r_i a bound of the norm of the target's i-th
hidden tensor and e_i one of the difference there,

    r_i = s_i (nu_i r_(i-1) + |b_i|),    e_i = s_i (nu_i e_(i-1) + d_i (r_(i-1) + e_(i-1)) + |c_i - b_i| + rounding),

because |(x+, x-)| = |x| and a step moves outputs no further apart than s_i times. This is the recursion in the proof of
theorem 1 of Pensia et al. 2020 with measured operators in place of their worst case. From below: `theory.ascent`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.ascent import search_from_below
from theory.constructions.effective import Effective
from theory.norms import (
    SLACK,
    Norm,
    constant_norm,
    operator_norm,
    rounding_rate,
    schur_norm,
    step_norm,
    step_rounding,
)
from theory.target import FixedStep, Matrix, Target, TargetLayer


@dataclass(frozen=True)
class LayerBound:
    """One layer of the recursion: d, nu, |c - b|, and the bounds e and r that come out behind its steps."""

    operator_error: float
    target_norm: float
    offset_error: float
    difference: float
    size: float


@dataclass(frozen=True)
class Certificate:
    """Bounds of the largest difference between two networks over a ball about zero.

    Attributes:
        upper: no input in the ball gives a larger difference (proven, rounding of float64 included).
        lower: the largest difference that was found.
        norm: of the inputs and of the outputs: "l2" (Euclidean) or "linf" (largest entry: the ball is a box).
        radius: of the ball.
        per_layer: the terms behind `upper`.

    """

    upper: float
    lower: float
    norm: Norm
    radius: float
    per_layer: tuple[LayerBound, ...]

    @property
    def ratio(self) -> float:
        """Upper over lower, at least 1: how much the proof may give away."""
        return self.upper / self.lower if self.lower > 0.0 else float("inf")


def certify(
    target: Target, network: nn.Module, found: Sequence[Effective], *, radius: float, norm: Norm, seed: int
) -> Certificate:
    """Return the certificate of a network against a target.

    Args:
        target: whose layers the network's pairs stand for.
        network: float64 module.
        found: what the network's pairs compute, one for each layer.
        radius: of the ball of inputs, positive.
        norm: "l2" or "linf", for inputs and outputs; that of an image is over all its pixels.
        seed: of the starts of the search from below.

    """
    check_ball(radius, norm)
    bounds = upper_bounds(target, found, radius, norm)
    lower = search_from_below(target, network, found, radius=radius, norm=norm, seed=seed)
    return Certificate(bounds[-1].difference, lower, norm, radius, tuple(bounds))


def check_ball(radius: float, norm: str) -> None:
    """Refuse a ball that has no size or an unknown shape."""
    if not 0.0 < radius < float("inf"):
        raise SupermaskError(f"radius={radius} must be a positive number.")
    if norm not in ("l2", "linf"):
        raise SupermaskError(f"Unknown norm {quoted(norm)}; known are l2, linf.")


def upper_bounds(target: Target, found: Sequence[Effective], radius: float, norm: Norm) -> list[LayerBound]:
    """Return the recursion, layer by layer."""
    size, difference, bounds = radius, 0.0, []
    for step in target.before:  # both networks take the same steps here
        size *= step_norm(step, norm)
    for layer, pair in zip(target.layers, found, strict=True):
        error, weight = _error_norm(layer, pair, norm), operator_norm(layer, layer.kernel, norm)
        offset = constant_norm(layer, pair.offset - layer.offset, norm)
        reach = size + difference
        difference = (weight * difference + error * reach + offset + _rounding(layer, pair, reach, norm)) * SLACK
        size = (weight * size + constant_norm(layer, layer.offset, norm)) * SLACK
        size, difference = _behind(layer.after, size, difference, norm)
        bounds.append(LayerBound(error, weight, offset, difference, size))
    return bounds


def _behind(steps: Sequence[FixedStep], size: float, difference: float, norm: Norm) -> tuple[float, float]:
    """Return the bounds of size and difference behind some steps."""
    for step in steps:
        factor = step_norm(step, norm)
        difference = (difference + 2.0 * step_rounding(step) * (size + difference)) * factor * SLACK
        size *= factor * SLACK
    return size, difference


def _error_norm(layer: TargetLayer, found: Effective, norm: Norm) -> float:
    error = found.positive - layer.kernel
    if found.negative is None:
        return operator_norm(layer, error, norm)
    other = layer.kernel - found.negative
    if norm == "linf":  # x+ and x- never share an entry, so the larger of the two errors counts
        return operator_norm(layer, np.maximum(np.abs(error), np.abs(other)), norm)
    return operator_norm(layer, np.concatenate([error, other], axis=1), norm)


def _rounding(layer: TargetLayer, found: Effective, reach: float, norm: Norm) -> float:
    """Return a bound of what rounding moves an output of one layer by, in both networks, for inputs up to `reach`."""
    of_network = _sums(layer, found.mass, found.offset_mass, reach, norm) * rounding_rate(found.terms + 4)
    of_target = _sums(layer, np.abs(layer.kernel), np.abs(layer.offset), reach, norm)
    # twice: the first hop and the bias in the one, and the recomputation of P, N and c
    return 2.0 * (of_network + of_target * rounding_rate(layer.inputs * layer.taps + 4))


def _sums(layer: TargetLayer, kernel: Matrix, offset: Matrix, reach: float, norm: Norm) -> float:
    """Return a bound of the sum of sizes behind an output."""
    return schur_norm(layer, kernel, norm) * reach + constant_norm(layer, offset, norm)
