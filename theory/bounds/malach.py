"""Malach, Yehudai, Shalev-Shwartz & Shamir 2020: one weight, one path, the closest of many random pairs."""

import math
from collections.abc import Sequence
from itertools import pairwise

from theory.bounds.arguments import check_at_most, check_between_0_and_1, checked_dimensions
from theory.bounds.statement import Statement, states


@states(
    Statement(
        source="Malach et al. 2020, Lemma A.1",
        quoted="lemma number and wording from memory, not checked in the paper; the count is proven in the docstring",
        unit="pairs per weight",
        direction="sufficient",
        constant_known=True,
    )
)
def malach_pairs(epsilon: float, failure: float) -> int:
    """Return how many random pairs per target weight hold one close to (weight, 1) and one close to (-weight, -1).

    Proven: let e = epsilon / 2. A pair (w, u) uniform on [-1, 1]^2 has w on the weight's side and within e of it with
    probability at least e/2, and u within e of 1 with probability e/2; then |u w - weight| <= 2 e. All of k pairs miss
    with probability at most exp(-k e^2 / 4), and two pairs are wanted, one per sign of the input. So
    k >= (16 / epsilon^2) ln(2 / failure). The lemma has error 2 epsilon and therefore 4 in place of 16.
    Fitted: nothing. Measured: the median error over random pairs falls as k^(-1/2), `laws.closest_pair_median`.

    Args:
        epsilon: the error allowed of one link, for an input of at most 1; at most 1.
        failure: probability allowed for finding no such two pairs.

    Returns:
        A number of pairs, rounded up.

    """
    check_at_most(epsilon, 1, "epsilon")
    check_between_0_and_1(failure, "failure")
    return math.ceil(16 / epsilon**2 * math.log(2 / failure))


@states(
    Statement(
        source="no paper: the construction of Malach et al. 2020 with the pair's product in place of the pair",
        quoted="proven in the docstring",
        unit="pairs per weight",
        direction="sufficient",
        constant_known=True,
    )
)
def malach_products(epsilon: float, failure: float) -> int:
    """Return how many random pairs per target weight of at most 1/2 hold two whose product is close to it.

    Proven: the product of two uniforms on [-1, 1] has density -ln|z| / 2 >= ln(2) / 2 for |z| <= 1/2. Of the interval
    within epsilon of the weight at least one half, of length epsilon, lies there; w has the wanted sign half of the
    time. So a pair hits with probability at least epsilon ln(2) / 4, and k >= 4 / (epsilon ln 2) ln(2 / failure) gives
    a pair for either sign of the input. Fitted: nothing. Measured: the median error falls as 1/k.

    Args:
        epsilon: the error allowed of one link, for an input of at most 1; at most 1/2.
        failure: probability allowed for finding no such two pairs.

    Returns:
        A number of pairs, rounded up.

    """
    check_at_most(epsilon, 0.5, "epsilon")
    check_between_0_and_1(failure, "failure")
    return math.ceil(4 / (epsilon * math.log(2)) * math.log(2 / failure))


@states(
    Statement(
        source="Malach et al. 2020, Theorem 2.1",
        quoted="the paper says poly(d, n, l, 1/epsilon, log 1/failure); the constants 64 l^2 of its appendix are from "
        "memory and are proven in the docstring",
        unit="neurons",
        direction="sufficient",
        constant_known=True,
    )
)
def malach_widths(dimensions: Sequence[int], epsilon: float, failure: float) -> tuple[int, ...]:
    """Return the width of the random layer before each target layer, in a random network of depth 2l.

    Proven: the target has l layers of spectral norm at most 1 and weights of at most 1; sup over the unit l2 ball. Each
    layer may err by epsilon / (2l) per unit of input, its n neurons by that over sqrt(n) each and a link to s inputs by
    that over s, so n s ceil(64 l^2 s^2 n / epsilon^2 ln(2 n s l / failure)) neurons are enough; the whole then errs by
    (1 + epsilon/(2l))^l - 1 <= epsilon. Fitted: nothing. Measured: nothing at this size, about 64 d^5 l^2 / epsilon^2.

    Args:
        dimensions: of the target: inputs, then the width of each of its l layers.
        epsilon: the error allowed of the network's output, in the l2 norm; at most 1.
        failure: probability allowed for the random network not to hold the target.

    Returns:
        Neurons per random layer, one number per target layer; the pairs of each weight are rounded up.

    """
    dimensions = checked_dimensions(dimensions)
    check_at_most(epsilon, 1, "epsilon")
    check_between_0_and_1(failure, "failure")
    layers = len(dimensions) - 1
    widths = []
    for inputs, outputs in pairwise(dimensions):
        link = epsilon / (2 * layers * inputs * math.sqrt(outputs))
        widths.append(inputs * outputs * malach_pairs(link, failure / (inputs * outputs * layers)))
    return tuple(widths)
