"""Pensia, Rajput, Nagle, Vishwakarma & Papailiopoulos 2020: many paths per weight, and how few there can be."""

import math
from collections.abc import Sequence
from itertools import pairwise

from theory.bounds.arguments import (
    check_at_most,
    check_between_0_and_1,
    check_positive,
    checked_count,
    checked_dimensions,
)
from theory.bounds.statement import Statement, states

_QUOTED = (
    "explicit form from Natale et al. 2024 (appendix), equal to Theorem 10 of Otsuka et al. 2025 up to the factor 2 "
    "of the width; not checked in the paper"
)
_PACKING_QUOTED = "steps as in Natale et al. 2024 (appendix); proven in the docstring"


@states(
    Statement(
        source="Pensia et al. 2020, Theorem 1",
        quoted=_QUOTED,
        unit="items",
        direction="sufficient",
        constant_known=False,
    )
)
def pensia_items(inputs: int, outputs: int, layers: int, epsilon: float, failure: float, *, constant: float) -> int:
    """Return how many paths a weight needs for each sign of its input.

    Proven, for some constant C: n = C ln(4 l d_(i-1) d_i / min(epsilon, failure)), where C is the one with which
    n >= C ln(2/e) products of uniforms reach all of [-1, 1] within e, except with probability e (Corollary 2, from
    Lueker's theorem). Fitted: C, by `laws.fit_constant`. Measured: by the constructions.

    Args:
        inputs: d_(i-1), of the target layer.
        outputs: d_i.
        layers: l, of the target.
        epsilon: the error allowed of the network's output; below 1.
        failure: probability allowed for the random network not to hold every target.
        constant: the theorem's C.

    Returns:
        A number of paths, rounded up.

    """
    inputs, outputs = checked_count(inputs, "inputs"), checked_count(outputs, "outputs")
    layers = checked_count(layers, "layers")
    check_between_0_and_1(epsilon, "epsilon")
    check_between_0_and_1(failure, "failure")
    check_positive(constant, "constant")
    return math.ceil(constant * math.log(4 * layers * inputs * outputs / min(epsilon, failure)))


@states(
    Statement(
        source="Pensia et al. 2020, Theorem 1",
        quoted=_QUOTED,
        unit="neurons",
        direction="sufficient",
        constant_known=False,
    )
)
def pensia_widths(dimensions: Sequence[int], epsilon: float, failure: float, *, constant: float) -> tuple[int, ...]:
    """Return the width of the random layer before each target layer, in a random network of depth 2l.

    Proven, for some constant C: with 2 d_(i-1) n_i neurons, n_i of `pensia_items`, and weights i.i.d. uniform on
    [-1, 1], every target with layers of spectral norm at most 1 is reached within epsilon over the unit l2 ball, all at
    once but with probability `failure`. Fitted: C. Measured: by the constructions; half of the width is idle after the
    first layer, whose outputs are never negative.

    Args:
        dimensions: of the target: inputs, then the width of each of its l layers.
        epsilon: the error allowed of the network's output; below 1.
        failure: probability allowed for the random network not to hold every target.
        constant: the theorem's C.

    Returns:
        Neurons per random layer, one number per target layer; the items per weight are rounded up.

    """
    dimensions = checked_dimensions(dimensions)
    layers = len(dimensions) - 1
    return tuple(
        2 * inputs * pensia_items(inputs, outputs, layers, epsilon, failure, constant=constant)
        for inputs, outputs in pairwise(dimensions)
    )


def parameter_count(dimensions: Sequence[int], widths: Sequence[int]) -> int:
    """Return the weights of a network of depth 2l: one random layer of the given width before each target layer."""
    dimensions = checked_dimensions(dimensions)
    hops = zip(dimensions, widths, dimensions[1:], strict=False)
    return sum(width * (inputs + outputs) for inputs, width, outputs in hops)


@states(
    Statement(
        source="Pensia et al. 2020, Theorem 1",
        quoted=_QUOTED,
        unit="prunable weights",
        direction="sufficient",
        constant_known=False,
    )
)
def pensia_parameters(dimensions: Sequence[int], epsilon: float, failure: float, *, constant: float) -> int:
    """Return the number of weights of the random network of `pensia_widths`.

    Proven, for some constant C: the sum of 2 d_(i-1)^2 n_i + 2 d_(i-1) d_i n_i. Fitted: C. Measured: kept weights are
    fewer, see the constructions.

    Args:
        dimensions: of the target: inputs, then the width of each of its l layers.
        epsilon: the error allowed of the network's output; below 1.
        failure: probability allowed for the random network not to hold every target.
        constant: the theorem's C.

    Returns:
        A number of weights, exact for the rounded items per weight.

    """
    return parameter_count(dimensions, pensia_widths(dimensions, epsilon, failure, constant=constant))


@states(
    Statement(
        source="Pensia et al. 2020, Theorem 2",
        quoted=_PACKING_QUOTED,
        unit="prunable weights",
        direction="necessary",
        constant_known=True,
    )
)
def packing_parameters(width: int, epsilon: float, *, probability: float = 0.5) -> int:
    """Return the fewest prunable weights with which each linear d x d target is reached with this probability.

    Proven: at least (1 / (2 epsilon))^(d^2) matrices of spectral norm at most 1 lie more than 2 epsilon apart, and a
    masked network is within epsilon of at most one. There are 2^m masks; if each target is reached with probability p,
    then 2^m >= p (1 / (2 epsilon))^(d^2), so m >= d^2 log2(1 / (2 epsilon)) + log2(p), which is ... - 1 at p = 1/2. It
    holds for every architecture and every distribution of the weights. It bounds nothing for one given target, which
    may be contained in a smaller network. Fitted: nothing. Measured: the networks that widths from epsilon give for
    targets of norm 1 are above it.

    Args:
        width: d, of the target.
        epsilon: the error allowed, over the unit l2 ball.
        probability: p, of reaching each target.

    Returns:
        A number of weights, rounded up; 0 where the bound says nothing.

    """
    width = checked_count(width, "width")
    check_positive(epsilon, "epsilon")
    check_between_0_and_1(probability, "probability")
    return max(0, math.ceil(_packing_bits(width, epsilon, probability)))


@states(
    Statement(
        source="Natale et al. 2024, appendix, after Pensia et al. 2020, Theorem 2",
        quoted=_PACKING_QUOTED,
        unit="prunable weights",
        direction="necessary",
        constant_known=True,
    )
)
def packing_parameters_at_density(width: int, epsilon: float, density: float, *, probability: float = 0.5) -> int:
    """Return `packing_parameters` for masks that keep at most this fraction of the m prunable weights.

    Proven: at most (e / density)^(density m) masks are as sparse, which takes the place of 2^m, so
    m density log2(e / density) >= d^2 log2(1 / (2 epsilon)) + log2(p). The larger of both bounds is returned.
    Fitted: nothing. Measured: nothing, and it bounds nothing for one given target.

    Args:
        width: d, of the target.
        epsilon: the error allowed, over the unit l2 ball.
        density: fraction of the prunable weights that a mask may keep.
        probability: p, of reaching each target.

    Returns:
        A number of weights, rounded up; 0 where the bound says nothing.

    """
    check_at_most(density, 1, "density")
    dense = packing_parameters(width, epsilon, probability=probability)
    bits = _packing_bits(width, epsilon, probability)
    return max(dense, math.ceil(bits / (density * math.log2(math.e / density))))


def _packing_bits(width: int, epsilon: float, probability: float) -> float:
    most = min(epsilon, 1.0)  # from 1/2 on there is nothing to pack, and 2 epsilon may overflow
    return -(width**2) * math.log2(2 * most) + math.log2(probability)
