"""How many random numbers it takes until their subset sums reach every target."""

import math

from theory.bounds.arguments import check_between_0_and_1, check_positive, checked_count
from theory.bounds.statement import Statement, states

# With a smaller constant Lueker's theorem would contradict the information bound as epsilon goes to 0: it promises
# success from n = 2 C ln(2 / epsilon) (1 + o(1)) on, and nothing succeeds below n = log2(1 / epsilon) - 1.
LUEKER_CONSTANT_FLOOR = 1 / (2 * math.log(2))

_COUNTING = Statement(
    source="counting argument, used in Pensia et al. 2020, Theorem 2",
    quoted="proven in the docstring",
    unit="items",
    direction="necessary",
    constant_known=True,
)
_LUEKER = Statement(
    source="Lueker 1998, Theorem 2.4",
    quoted="as quoted by Pensia et al. 2020 and in Papailiopoulos' lecture slides of 2021; not checked in the paper",
    unit="items",
    direction="sufficient",
    constant_known=False,
)


@states(_COUNTING)
def information_items(epsilon: float, *, length: float = 1.0) -> int:
    """Return the fewest items whose subset sums can reach every target of an interval.

    Proven: n items have at most 2^n subset sums, each serves targets on a length of at most 2 epsilon, so
    2^n 2 epsilon >= length, that is n >= log2(length / (2 epsilon)). It holds for every choice of the items.
    Fitted: nothing. Measured: at epsilon = 0.01 it says 6; 12 uniform items still miss some target in 12 % of draws.

    Args:
        epsilon: the error allowed, in the unit of the targets.
        length: of the interval of targets; 1 for [-1/2, 1/2].

    Returns:
        A number of items, the smallest whole number that satisfies the inequality (0 where one sum is enough).

    """
    check_positive(epsilon, "epsilon")
    check_positive(length, "length")
    (numerator, up), (denominator, down) = math.frexp(length), math.frexp(epsilon)
    # length / (2 epsilon) = numerator / denominator 2^shift: no logarithm, which would round at powers of two
    shift = up - down - 1
    return max(0, next(shift + k for k in (-1, 0, 1) if numerator / denominator <= 2.0**k))


@states(
    Statement(
        source="counting argument",
        quoted="proven in the docstring",
        unit="probability",
        direction="necessary",
        constant_known=True,
    )
)
def information_success(items: int, epsilon: float, *, length: float = 1.0) -> float:
    """Return what the fraction of targets that n items reach within epsilon cannot exceed.

    Proven: the 2^n sums serve at most the length 2^n 2 epsilon, so of targets spread evenly over the interval at
    most the fraction 2^(n+1) epsilon / length is reached, whatever the items are. Fitted: nothing. Measured: the
    errors of an exact solver keep to it.

    Args:
        items: n.
        epsilon: the error allowed.
        length: of the interval that the targets are spread over.

    Returns:
        A probability, at most 1.

    """
    items = checked_count(items, "items", least=0)
    check_positive(epsilon, "epsilon")
    check_positive(length, "length")
    return min(1.0, epsilon / length * 2.0 ** min(items + 1, 1000))  # 2^1024 is no float


@states(
    Statement(
        source=_LUEKER.source,
        quoted=_LUEKER.quoted,
        unit="probability",
        direction="failure",
        constant_known=False,
    )
)
def lueker_failure(items: int, epsilon: float, *, constant: float) -> float:
    """Return what the probability cannot exceed that n uniform items miss some target in [-1/2, 1/2] by over epsilon.

    Proven, for some constant C that the paper does not give: with X_i i.i.d. uniform on [-1, 1], eta = epsilon / 2
    and n/2 >= C ln(1/eta), it is at most exp(-(n/2 - C ln(1/eta))^2 / (2n)). Fitted: C, by `laws.fit_constant`; it is
    at least LUEKER_CONSTANT_FLOOR = 0.72. Measured: failure falls much faster than this form, whose best rate is
    exp(-n/8), so a fit at moderate n can only bound C from below.

    Args:
        items: n.
        epsilon: the error allowed, 2 eta in the theorem; below 1.
        constant: the theorem's C.

    Returns:
        A probability; 1, which says nothing, where the theorem's condition on n fails.

    """
    items = checked_count(items, "items")
    check_between_0_and_1(epsilon, "epsilon")
    check_positive(constant, "constant")
    margin = items / 2 - constant * math.log(2 / epsilon)
    return math.exp(-(margin**2) / (2 * items)) if margin > 0 else 1.0


@states(_LUEKER)
def lueker_items(epsilon: float, failure: float, *, constant: float) -> int:
    """Return how many uniform items reach all targets in [-1/2, 1/2] within epsilon, but with this probability.

    Proven, for some constant C: the smallest n with `lueker_failure(n, epsilon, constant=C) <= failure`, which is
    n = (a + sqrt(a^2 + 2 c))^2 rounded up, with a = sqrt(2 ln(1 / failure)) and c = C ln(2 / epsilon). Fitted: C.
    Measured: 15 items are enough at epsilon = 0.01 and failure = 0.03.

    Args:
        epsilon: the error allowed, 2 eta in the theorem; below 1.
        failure: probability allowed for missing some target.
        constant: the theorem's C.

    Returns:
        A number of items, rounded up.

    """
    check_between_0_and_1(epsilon, "epsilon")
    check_between_0_and_1(failure, "failure")
    check_positive(constant, "constant")
    a = math.sqrt(2 * math.log(1 / failure))
    return math.ceil((a + math.sqrt(a**2 + 2 * constant * math.log(2 / epsilon))) ** 2)
