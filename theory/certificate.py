"""How far a pruned random network is from its target in the sup norm: proven from above, searched from below.

From above. After pruning, layer i of the network computes P x+ - N x- + c with x+- = max(+-x, 0), against W x + b of
the target. With d_i the norm of its error operator ([P - W, W - N] where inputs can be negative, P - W where not), nu_i
the norm of W_i, r_i a bound of the norm of the target's i-th hidden vector and e_i one of the difference there,

    r_i = nu_i r_(i-1) + |b_i|,    e_i = nu_i e_(i-1) + d_i (r_(i-1) + e_(i-1)) + |c_i - b_i| + rounding,

because |(x+, x-)| = |x| and a ReLU is 1-Lipschitz. This is the recursion in the proof of theorem 1 of Pensia et al.
2020 with measured operators in place of their worst case. From below: projected gradient ascent from many starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from theory.target import Layer, Matrix

Norm = Literal["l2", "linf"]
STARTS = 128
"""Random inputs that the search from below starts at, besides both ends of as many axes."""
STEPS = 200
RUN = 16
"""Inputs, of those it came to, that the networks themselves are run on."""
ROUNDING = 2.0**-53
_SLACK = 1.0 + 1e-9  # over LAPACK's singular values, whose relative error is of the order of size * 2^-53


@dataclass(frozen=True)
class LayerBound:
    """One layer of the recursion: d, nu, |c - b|, and the bounds e and r that come out."""

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
        norm: of the inputs and of the outputs.
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


@dataclass(frozen=True, eq=False)
class Effective:
    """What a pruned pair of layers computes: P x+ - N x- + c.

    Attributes:
        positive: P, float64 (outputs, inputs).
        negative: N, likewise; None where inputs are never negative.
        offset: c, float64 (outputs,).
        mass: |second hop| |first hop| summed over paths, by which rounding is bounded; float64 (outputs, inputs + 1).
        terms: additions behind one output.

    """

    positive: Matrix
    negative: Matrix | None
    offset: Matrix
    mass: Matrix
    terms: int


def certify(
    target: nn.Module,
    network: nn.Module,
    layers: Sequence[Layer],
    effective: Sequence[Effective],
    *,
    radius: float,
    norm: Norm,
    seed: int,
) -> Certificate:
    """Return the certificate of a network whose layers compute `effective`, against a target of these layers.

    Args:
        target: float64 module.
        network: float64 module.
        layers: of the target.
        effective: of the network.
        radius: of the ball of inputs, positive.
        norm: "l2" (Euclidean) or "linf" (largest entry: the ball is a box), for inputs and outputs.
        seed: of the starts of the search from below.

    """
    check_ball(radius, norm)
    bounds = upper_bounds(layers, effective, radius, norm)
    lower = search_from_below(target, network, layers, effective, radius=radius, norm=norm, seed=seed)
    return Certificate(bounds[-1].difference, lower, norm, radius, tuple(bounds))


def check_ball(radius: float, norm: str) -> None:
    """Refuse a ball that has no size or an unknown shape."""
    if not 0.0 < radius < float("inf"):
        raise SupermaskError(f"radius={radius} must be a positive number.")
    if norm not in ("l2", "linf"):
        raise SupermaskError(f"Unknown norm {norm!r}; known are l2, linf.")


def upper_bounds(
    layers: Sequence[Layer], effective: Sequence[Effective], radius: float, norm: Norm
) -> list[LayerBound]:
    """Return the recursion, layer by layer."""
    size, difference, bounds = radius, 0.0, []
    for layer, found in zip(layers, effective, strict=True):
        error, weight = _error_norm(layer, found, norm), _operator_norm(layer.weight, norm)
        offset = _vector_norm(found.offset - layer.offset, norm)
        reach = size + difference
        rounding = _rounding(layer, found, norm) * (1.0 + reach)
        difference = (weight * difference + error * reach + offset + rounding) * _SLACK
        size = (weight * size + _vector_norm(layer.offset, norm)) * _SLACK
        bounds.append(LayerBound(error, weight, offset, difference, size))
    return bounds


def _error_norm(layer: Layer, found: Effective, norm: Norm) -> float:
    error = found.positive - layer.weight
    if found.negative is None:
        return _operator_norm(error, norm)
    other = layer.weight - found.negative
    if norm == "linf":  # x+ and x- never share an entry, so the larger of the two errors counts
        return float(np.maximum(np.abs(error), np.abs(other)).sum(axis=1).max()) * _SLACK
    return _operator_norm(np.concatenate([error, other], axis=1), norm)


def _operator_norm(matrix: Matrix, norm: Norm) -> float:
    if norm == "linf":
        return float(np.abs(matrix).sum(axis=1).max()) * _SLACK
    return float(np.linalg.norm(matrix, 2)) * _SLACK


def _vector_norm(vector: Matrix, norm: Norm) -> float:
    return float(np.abs(vector).max() if norm == "linf" else np.linalg.norm(vector)) * _SLACK


def _rounding(layer: Layer, found: Effective, norm: Norm) -> float:
    """Return a bound of what rounding moves an output of one layer by, in both networks, per unit of (1 + |input|).

    A sum of n products in float64, in any order, is off by at most n 2^-53 / (1 - n 2^-53) times the sum of their sizes
    (Higham 2002, section 3.1).
    """
    n = found.terms + layer.inputs + 4
    rate = n * ROUNDING / (1.0 - n * ROUNDING)
    mass = np.concatenate([found.mass, np.abs(layer.weight), np.abs(layer.offset)[:, None]], axis=1)
    total = np.abs(mass).sum(axis=1).max() if norm == "linf" else np.linalg.norm(mass)
    return 4.0 * rate * float(total)  # both networks, both hops, and the recomputation of P, N and c


def search_from_below(
    target: nn.Module,
    network: nn.Module,
    layers: Sequence[Layer],
    effective: Sequence[Effective],
    *,
    radius: float,
    norm: Norm,
    seed: int,
) -> float:
    """Return the largest difference found over the ball.

    Projected gradient ascent from random inputs and from both ends of each axis, over the algebra of the two networks,
    which is small; the networks themselves are then run on the inputs that it came to.
    """
    x = _starts(layers[0].inputs, seed)
    best, reached = x.clone(), torch.zeros(len(x), dtype=torch.float64)
    for step in range(STEPS):
        at = (x * radius).requires_grad_()
        differences = _norms(run_target(layers, at) - _run_effective(layers, effective, at), norm)
        (gradient,) = torch.autograd.grad(differences.sum(), at)
        higher = differences.detach() > reached  # a step can leave the region of a ReLU and lose what it had
        best[higher], reached[higher] = x[higher], differences.detach()[higher]
        pace = 0.5 * (1.0 - step / STEPS)
        x = _to_ball(x + pace * _direction(gradient, norm), norm)
    chosen = best[reached.topk(min(RUN, len(best))).indices] * radius
    with torch.no_grad():
        return float(_norms(target(chosen) - network(chosen), norm).max())


def _starts(inputs: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STARTS, inputs, dtype=torch.float64, generator=generator)
    axes = torch.eye(inputs, dtype=torch.float64)[:STARTS]
    return _to_ball(torch.cat([x, axes, -axes]), "l2")


def run_target(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Return what the layers compute of inputs, float64 (batch, inputs)."""
    for layer in layers:
        x = x @ torch.from_numpy(layer.weight).T + torch.from_numpy(layer.offset)
        x = x.relu() if layer.relu else x
    return x


def _run_effective(layers: Sequence[Layer], effective: Sequence[Effective], x: Tensor) -> Tensor:
    for layer, found in zip(layers, effective, strict=True):
        y = x.relu() @ torch.from_numpy(found.positive).T + torch.from_numpy(found.offset)
        if found.negative is not None:
            y = y - (-x).relu() @ torch.from_numpy(found.negative).T
        x = y.relu() if layer.relu else y
    return x


def _direction(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)


def _to_ball(x: Tensor, norm: Norm) -> Tensor:
    """Return the rows projected into the unit ball."""
    if norm == "linf":
        return x.clamp(-1.0, 1.0)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1.0)


def _norms(rows: Tensor, norm: Norm) -> Tensor:
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def effective_layers(
    pairs: Sequence[tuple[Matrix, Matrix | None, Matrix]], *, relu: bool, signed: Sequence[bool]
) -> list[Effective]:
    """Return what masked pairs compute, from their masked tensors (first, offset, second).

    Args:
        pairs: float64 (hidden, inputs), (hidden,) or None, (outputs, hidden).
        relu: whether a ReLU stands between the hops; then each hidden unit reads one input or is a bias.
        signed: for each pair, whether its inputs can be negative.

    """
    return [
        _effective_relu(*pair, signed=sign) if relu else _effective_linear(*pair)
        for pair, sign in zip(pairs, signed, strict=True)
    ]


def _effective_relu(first: Matrix, offset: Matrix | None, second: Matrix, *, signed: bool) -> Effective:
    reads = (first != 0.0).sum(axis=1) + (0 if offset is None else offset != 0.0)
    assert int(reads.max(initial=0)) <= 1, "a hidden unit reads more than one input"
    constant = np.zeros(len(first)) if offset is None else offset
    sizes = np.concatenate([np.abs(first), np.abs(constant)[:, None]], axis=1)
    return Effective(
        positive=second @ np.maximum(first, 0.0),
        negative=-(second @ np.maximum(-first, 0.0)) if signed else None,
        offset=second @ np.maximum(constant, 0.0),
        mass=np.abs(second) @ sizes,
        terms=_terms(first, second),
    )


def _effective_linear(first: Matrix, offset: Matrix | None, second: Matrix) -> Effective:
    constant = np.zeros(len(first)) if offset is None else offset
    sizes = np.concatenate([np.abs(first), np.abs(constant)[:, None]], axis=1)
    product = second @ first
    return Effective(product, product, second @ constant, np.abs(second) @ sizes, _terms(first, second))


def _terms(first: Matrix, second: Matrix) -> int:
    return int(first.shape[1] + second.shape[1])
