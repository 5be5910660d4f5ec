"""How far a pruned random network is from its target in the sup norm: proven from above, searched from below.

From above. After pruning, layer i of the network computes P * x+ - N * x- + c with x+- = max(+-x, 0), against W * x + b
of the target. With d_i the norm of its error operator ([P - W, W - N] where inputs can be negative, P - W where not),
nu_i the norm of W_i, s_i that of the steps behind it (ReLU, pooling), r_i a bound of the norm of the target's i-th
hidden tensor and e_i one of the difference there,

    r_i = s_i (nu_i r_(i-1) + |b_i|),    e_i = s_i (nu_i e_(i-1) + d_i (r_(i-1) + e_(i-1)) + |c_i - b_i| + rounding),

because |(x+, x-)| = |x| and a step moves outputs no further apart than s_i times. Where a sum joins two branches of
the target, their bounds add up; where tensors stand side by side, they are put together as a norm is
(`theory.norms.joined`). This is the recursion in the proof of
theorem 1 of Pensia et al. 2020 with measured operators in place of their worst case. From below: `theory.ascent`.

Both networks are taken as they run, in the dtype of the certificate: `rounding` is what their sums and stored numbers
are off by at most. The target is its own modules: batch norm that was folded into a layer rounds by the sizes of the
mean and the bias that it subtracts, which may cancel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.ascent import search_from_below
from theory.constructions.effective import Effective
from theory.domains import Around, Domain
from theory.local import bound_around
from theory.norms import SLACK, Norm, both_halves, constant_norm, joined, operator_norm, step_norm, step_rounding
from theory.precision import FLOAT64, Precision, precision_of
from theory.rounding import layer_rounding
from theory.target import FixedStep, Node, Target, TargetLayer


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
    """Bounds of the largest difference between two networks over a domain of inputs.

    Attributes:
        upper: no input in the domain gives a larger difference (proven, the rounding of both networks included).
        lower: the largest difference that was found.
        norm: of the inputs and of the outputs: "l2" (Euclidean) or "linf" (largest entry: a ball is a box).
        radius: of a ball about zero that holds the domain.
        per_layer: the terms behind `upper`; around points, those of the whole ball of that radius about zero.
        domain: of the inputs.
        dtype: in which both networks are run, by `network.to(dtype)`, on inputs of that dtype: "float64", "float32" or
            "bfloat16". Convolutions are taken as sums of products, not by the shortcuts of Winograd or Fourier.

    """

    upper: float
    lower: float
    norm: Norm
    radius: float
    per_layer: tuple[LayerBound, ...]
    domain: Domain
    dtype: str = "float64"

    @property
    def ratio(self) -> float:
        """Upper over lower, at least 1: how much the proof may give away."""
        return self.upper / self.lower if self.lower > 0.0 else float("inf")


def certify(
    target: Target,
    network: nn.Module,
    found: Sequence[Effective],
    *,
    domain: Domain,
    norm: Norm,
    seed: int,
    dtype: torch.dtype = torch.float64,
) -> Certificate:
    """Return the certificate of a network against a target.

    Args:
        target: whose layers the network's pairs stand for.
        network: float64 module.
        found: what the network's pairs compute, one for each layer.
        domain: of the inputs.
        norm: "l2" or "linf", for inputs and outputs; that of an image is over all its pixels.
        seed: of the starts of the search from below.
        dtype: in which both networks are run.

    Raises:
        SupermaskError: the domain is one of other inputs, or the norm or the dtype is not known.

    """
    check_norm(norm)
    precision, size = precision_of(dtype), domain.size(target.input_shape, norm)
    upper, bounds = proven(target, found, domain, norm, precision)
    lower = search_from_below(target, network, found, domain=domain, norm=norm, seed=seed, dtype=dtype)
    return Certificate(upper, lower, norm, size, tuple(bounds), domain, precision.name)


def proven(
    target: Target, found: Sequence[Effective], domain: Domain, norm: Norm, precision: Precision = FLOAT64
) -> tuple[float, list[LayerBound]]:
    """Return a bound of the difference over a domain, and the recursion over a ball that holds it."""
    recursion = upper_bounds(target, found, domain.size(target.input_shape, norm), norm, precision)
    upper = recursion.upper
    if isinstance(domain, Around):
        upper = min(upper, bound_around(target, found, domain, norm, precision))
    return upper, recursion.layers


def check_norm(norm: str) -> None:
    """Refuse an unknown norm."""
    if norm not in ("l2", "linf"):
        raise SupermaskError(f"Unknown norm {quoted(norm)}; known are l2, linf.")


@dataclass(frozen=True)
class Recursion:
    """What the recursion came to: a bound of the difference of the outputs, and the terms of each layer."""

    upper: float
    layers: list[LayerBound]


@dataclass(frozen=True)
class Reach:
    """Bounds r and e of a value of the target.

    Attributes:
        size: r, of the target's tensor.
        difference: e, of the difference of the two networks; 0 where they are still the same.
        of: the layer that only steps follow up to here, counted from 1; 0 behind a join.

    """

    size: float
    difference: float
    of: int = 0


def upper_bounds(
    target: Target, found: Sequence[Effective], size: float, norm: Norm, precision: Precision = FLOAT64
) -> Recursion:
    """Return the recursion, node by node, for inputs of a norm of at most `size`."""
    bounds: list[LayerBound] = []
    pairs = iter(found)

    def through(node: Node, *before: Reach) -> Reach:
        operation = node.operation
        if isinstance(operation, FixedStep):
            behind = _behind(operation, before, norm, precision)
        else:
            (incoming,) = before
            bounds.append(_layer_bound(operation, next(pairs), incoming, norm, precision))
            behind = Reach(bounds[-1].size, bounds[-1].difference, len(bounds))
        if behind.of:  # the bounds of a layer are those behind the steps that follow it
            bounds[behind.of - 1] = replace(bounds[behind.of - 1], difference=behind.difference, size=behind.size)
        return behind

    return Recursion(target.follow(Reach(size, 0.0), through)[-1].difference, bounds)


def _layer_bound(layer: TargetLayer, pair: Effective, before: Reach, norm: Norm, precision: Precision) -> LayerBound:
    """Return the bounds behind a layer."""
    error, weight = _error_norm(layer, pair, norm), operator_norm(layer, layer.kernel, norm)
    offset = constant_norm(layer, pair.offset - layer.offset, norm)
    reach = before.size + before.difference
    rounding = layer_rounding(layer, pair, reach, norm, precision)
    difference = (weight * before.difference + error * reach + offset + rounding) * SLACK
    size = weight * before.size + constant_norm(layer, layer.offset, norm)
    size = max(size * SLACK, size + 2.0 * rounding)  # that of the target is less
    return LayerBound(error, weight, offset, _number(difference), size)


def _behind(step: FixedStep, before: Sequence[Reach], norm: Norm, precision: Precision) -> Reach:
    """Return the bounds behind a step."""
    size, difference = (
        joined(step, [getattr(each, bound) for each in before], norm) for bound in ("size", "difference")
    )
    factor, rounding = step_norm(step, norm), step_rounding(step, precision)
    if not any(each.difference for each in before):  # both networks compute the same so far
        return Reach(size * factor * (1.0 + rounding), 0.0)
    difference = (difference + 2.0 * rounding * (size + difference)) * factor * SLACK
    size *= factor * max(SLACK, 1.0 + 2.0 * rounding)
    return Reach(size, _number(difference), 0 if step.joins else before[0].of)


def _number(difference: float) -> float:
    return math.inf if math.isnan(difference) else difference  # infinity times zero


def own_rounding(target: Target, size: float, norm: Norm, precision: Precision = FLOAT64) -> float:
    """Return a bound of the difference of two ways to run a target itself, with or without batch norm folded."""
    return upper_bounds(target, [itself(layer) for layer in target.layers], size, norm, precision).upper


def itself(layer: TargetLayer) -> Effective:
    """Return a layer as if a pair had met it exactly, with no more rounding than its own."""
    negative, mass = layer.kernel if layer.signed else None, np.abs(layer.kernel)
    sizes = mass, layer.offset_mass
    return Effective(layer.kernel, negative, layer.offset, *sizes, layer.terms, float(mass.sum()), gathered=1)


def _error_norm(layer: TargetLayer, found: Effective, norm: Norm) -> float:
    return operator_norm(layer, both_halves(*found.missed(layer), norm), norm)
