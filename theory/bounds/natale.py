"""Natale, Ferré, Giambartolomei, Giroire & Mallmann-Trenn 2024: subsets of a fixed size, tickets of a given density."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from supermask.errors import SupermaskError
from theory.bounds.arguments import check_between_0_and_1, check_positive, checked_count, checked_dimensions
from theory.bounds.statement import Statement, states

_QUOTED = "from a copy of the paper that looks edited in its main part"


def binary_entropy(p: float) -> float:
    """Return H2(p) = -p log2(p) - (1 - p) log2(1 - p) in bits; 0 at both ends."""
    if not 0 <= p <= 1:
        raise SupermaskError(f"p={p} must be a probability from 0 to 1.")
    if p in (0, 1):
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log1p(-p) / math.log(2)  # log1p, for p far below rounding of 1 - p


@states(
    Statement(
        source="Natale et al. 2024, Theorem 2",
        quoted=f"{_QUOTED}; not checked further",
        unit="items",
        direction="sufficient",
        constant_known=False,
    )
)
def natale_items(size: int, epsilon: float, *, constant: float) -> int:
    """Return how many items hold, for each target alone, a subset of exactly k items within epsilon.

    Proven, for some constants: for 1 <= k <= n/2, items i.i.d. with a sum-bounded density (uniform on [-1, 1] is one)
    and a target in [-sqrt(k), sqrt(k)], n >= c_hyp log2(k / epsilon) / H2(k/n) gives probability at least c_thm, a
    constant, not close to 1. Since n H2(k/n) grows with n, the smallest such n is well defined.
    Fitted: c_hyp. Measured: by the experiment natale_subsets, for the target sqrt(k), at least 77 % of draws with
    c_hyp = 2 at every k and epsilon tried, and 10 % with c_hyp = 1.

    Args:
        size: k, the size of the subset.
        epsilon: the error allowed; below 1.
        constant: the theorem's c_hyp.

    Returns:
        A number of items, at least 2k; the smallest whole number that satisfies the inequality. More than 2^53 items
        are refused: so many cannot be counted in float64.

    """
    size = checked_count(size, "size")
    check_between_0_and_1(epsilon, "epsilon")
    check_positive(constant, "constant")
    bits = constant * math.log2(size / epsilon)
    return _smallest(lambda n: n * binary_entropy(size / n) >= bits, 2 * size, "size")


@states(
    Statement(
        source="Natale et al. 2024, Theorem 3",
        quoted=f"{_QUOTED}; not checked further",
        unit="neurons",
        direction="sufficient",
        constant_known=False,
    )
)
def natale_widths(dimensions: Sequence[int], epsilon: float, density: float, *, constant: float) -> tuple[int, ...]:
    """Return the widths of a random network of depth 2l that holds every target as a ticket of the given density.

    Proven, for some constant: 2 d_(i-1) n_i neurons, n_i >= c_amp log2^2(2 l d_(i-1) d_i g n_i / epsilon) / H2(g),
    where g = density / rho and rho is the largest ratio of neighbouring dimensions; it fails with probability at most
    epsilon. Fitted: c_amp. Measured: nothing yet.

    Args:
        dimensions: of the target: inputs, then the width of each of its l layers.
        epsilon: the error and the probability of failure allowed; below 1.
        density: fraction of the prunable weights that the ticket keeps; at most rho / 2.
        constant: the theorem's c_amp.

    Returns:
        Neurons per random layer; n_i is the smallest whole number from 1 / g on that satisfies its inequality.

    """
    dimensions = checked_dimensions(dimensions)
    check_between_0_and_1(epsilon, "epsilon")
    check_between_0_and_1(density, "density")
    check_positive(constant, "constant")
    layers = list(pairwise(dimensions))
    per_item = density / max(max(inputs / outputs, outputs / inputs) for inputs, outputs in layers)
    if per_item > 0.5:
        raise SupermaskError(f"density={density} is too high for subsets of at most half of the items; use Pensia's.")

    def items(inputs: int, outputs: int) -> int:
        link = 2 * len(layers) * inputs * outputs * per_item / epsilon
        factor = constant / binary_entropy(per_item)
        return _fixed_point(lambda n: factor * math.log2(link * n) ** 2, start=math.ceil(1 / per_item))

    return tuple(2 * inputs * items(inputs, outputs) for inputs, outputs in layers)


@states(
    Statement(
        source="Natale et al. 2024, Theorem 5",
        quoted=f"{_QUOTED}; proven in the docstring",
        unit="prunable weights",
        direction="necessary",
        constant_known=True,
    )
)
def natale_parameters(width: int, kept: int, epsilon: float) -> int:
    """Return the fewest prunable weights m so that masks that keep k reach the linear d x d targets of norm sqrt(k).

    Proven: with at least half a chance for each target, C(m, k) <= 2^(m H2(k/m)) masks face a packing of
    (sqrt(k) / (2 epsilon))^(d^2) / 2, so m H2(k/m) >= d^2 log2(sqrt(k) / (2 epsilon)) - 1, which for epsilon < 1/16
    is at least (d^2 / 2) log2(k / epsilon). Since m H2(k/m) grows with m, the smallest such m is well defined.
    Fitted: nothing. Measured: nothing yet. The targets' norm is the one with which this proof gives the printed bound.

    Args:
        width: d, of the target.
        kept: k, the weights that a mask keeps.
        epsilon: the error allowed, over the unit l2 ball; below 1/16.

    Returns:
        A number of weights; the smallest whole number that satisfies the inequality. More than 2^53 are refused: so
        many cannot be counted in float64.

    """
    width = checked_count(width, "width")
    kept = checked_count(kept, "kept")
    if not 0 < epsilon < 1 / 16:
        raise SupermaskError(f"epsilon={epsilon} must lie above 0 and below 1/16.")
    bits = width**2 / 2 * math.log2(kept / epsilon)
    return _smallest(lambda m: m * binary_entropy(kept / m) >= bits, kept, "kept")


def _smallest(holds: Callable[[int], bool], start: int, name: str) -> int:
    """Return the smallest whole number from `start` on with a property that, once it holds, goes on to hold."""
    low, high = start - 1, start
    while not holds(high):
        if high >= 2**53:
            raise SupermaskError(f"{name} is too small for this error: it would take more than 2^53 items; enlarge it.")
        low, high = high, min(2 * high, 2**53)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _fixed_point(needed: Callable[[int], float], start: int) -> int:
    """Return the smallest n from `start` on with n >= needed(n), for an increasing function."""
    n = start
    while n < needed(n):
        n = math.ceil(needed(n))  # cannot step over the answer: needed(n) is at most needed(answer)
    return n
