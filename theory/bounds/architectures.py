"""Bounds for other distributions, convolutions and depths; their formulas could not be checked in the papers."""

import math
from collections.abc import Sequence
from itertools import pairwise

from supermask.errors import SupermaskError
from theory.bounds.arguments import check_between_0_and_1, check_positive, checked_count, checked_dimensions
from theory.bounds.statement import Statement, states


@states(
    Statement(
        source="Orseau, Hutter & Rivasplata 2020",
        quoted="order only, from the abstract, Figure 1's caption and a review; not checked in the paper",
        unit="sampled neurons per weight",
        direction="sufficient",
        constant_known=False,
    )
)
def orseau_neurons_per_weight(epsilon: float, *, constant: float) -> int:
    """Return how many neurons per target weight are enough, with weights sampled from a hyperbolic distribution.

    Claimed, for some constant C: C log2(1 / epsilon) with density ~ 1/|w|, by a binary decomposition of the weight
    (2 log2(1 / epsilon) intermediate neurons) instead of subset sums. The uniform distribution is not covered. This is
    the order of growth: the paper's theorem has further logarithmic terms (in all variables but the depth), which
    stand in `constant` here. Fitted: C. Measured: nothing yet.

    Args:
        epsilon: the error allowed of one weight, not of the network; below 1.
        constant: C.

    Returns:
        A number of neurons, rounded up.

    """
    check_between_0_and_1(epsilon, "epsilon")
    check_positive(constant, "constant")
    return math.ceil(constant * math.log2(1 / epsilon))


_CUNHA_QUOTED = "from memory, not checked in the paper; the abstract confirms the logarithmic factor"


@states(
    Statement(
        source="da Cunha, Natale & Viennot 2022, main theorem",
        quoted=_CUNHA_QUOTED,
        unit="channels",
        direction="sufficient",
        constant_known=False,
    )
)
def cunha_channels(
    channels: Sequence[int], kernels: Sequence[int], epsilon: float, failure: float, *, constant: float
) -> tuple[int, ...]:
    """Return the channels between the random 1x1 and the random k x k convolution that stand for each target layer.

    Claimed, for some constant C: 2 n c_(i-1) with n = C ln(c_(i-1) c_i k_i^2 l / min(epsilon, failure)), for kernels of
    l1 norm at most 1, inputs in [-1, 1] and weights i.i.d. uniform on [-1, 1]; the error is the largest over outputs.
    Fitted: C. Measured: by the convolution construction.

    Args:
        channels: of the target: of the input, then of each of its l layers.
        kernels: k_i, the side of each layer's square kernels.
        epsilon: the error allowed of any output; below 1.
        failure: probability allowed for the random network not to hold the target.
        constant: the theorem's C.

    Returns:
        Channels per target layer; n is rounded up.

    """
    channels = checked_dimensions(channels, "channels")
    kernels = _checked_kernels(channels, kernels)
    check_between_0_and_1(epsilon, "epsilon")
    check_between_0_and_1(failure, "failure")
    check_positive(constant, "constant")
    smallest = min(epsilon, failure) / len(kernels)
    return tuple(
        2 * inputs * math.ceil(constant * math.log(inputs * outputs * side**2 / smallest))
        for inputs, outputs, side in zip(channels, channels[1:], kernels, strict=False)
    )


@states(
    Statement(
        source="da Cunha, Natale & Viennot 2022, main theorem",
        quoted=_CUNHA_QUOTED,
        unit="prunable weights",
        direction="sufficient",
        constant_known=False,
    )
)
def cunha_parameters(
    channels: Sequence[int], kernels: Sequence[int], epsilon: float, failure: float, *, constant: float
) -> int:
    """Return the number of weights of the random network of `cunha_channels`.

    Claimed, for some constant C: each of 2 n c_(i-1) channels has c_(i-1) weights in the 1x1 convolution and k_i^2 c_i
    in the other. Fitted: C. Measured: by the convolution construction.

    Args:
        channels: of the target: of the input, then of each of its l layers.
        kernels: k_i, the side of each layer's square kernels.
        epsilon: the error allowed of any output; below 1.
        failure: probability allowed for the random network not to hold the target.
        constant: the theorem's C.

    Returns:
        A number of weights, exact for the rounded n.

    """
    between = cunha_channels(channels, kernels, epsilon, failure, constant=constant)
    layers = zip(channels, between, kernels, channels[1:], strict=False)
    return sum(width * (inputs + side**2 * outputs) for inputs, width, side, outputs in layers)


_BURKHOLZ_QUOTED = (
    "idea and order as described by Kumar & Natale 2025 and Natale et al. 2024; the logarithm's argument is a union "
    "bound made here, and nothing was checked in the papers"
)


@states(
    Statement(
        source="Burkholz 2022 (ICML and NeurIPS)",
        quoted=_BURKHOLZ_QUOTED,
        unit="neurons",
        direction="sufficient",
        constant_known=False,
    )
)
def burkholz_widths(dimensions: Sequence[int], epsilon: float, failure: float, *, constant: float) -> tuple[int, ...]:
    """Return the widths of the L hidden layers of a random network of depth L + 1 that holds a target of depth L.

    Claimed, for some constant C: hidden layer i has d_(i-1) n_i neurons with n_i = C ln(d_(i-1) d_i L / min(epsilon,
    failure)). The first is the random hop of Pensia's diamond; each later one holds n copies of every target neuron,
    which serve as the random hop of the next layer, so that no layers are spent on hops. The price is a second
    logarithm in the number of weights, see `burkholz_parameters`. The two signs of the input are in C.
    Fitted: C. Measured: nothing yet.

    Args:
        dimensions: of the target: inputs, then the width of each of its L layers.
        epsilon: the error allowed of the network's output; below 1.
        failure: probability allowed for the random network not to hold the target.
        constant: C.

    Returns:
        Neurons per hidden layer, one number per target layer; n_i is rounded up.

    """
    dimensions = checked_dimensions(dimensions)
    check_between_0_and_1(epsilon, "epsilon")
    check_between_0_and_1(failure, "failure")
    check_positive(constant, "constant")
    smallest = min(epsilon, failure) / (len(dimensions) - 1)
    return tuple(
        inputs * math.ceil(constant * math.log(inputs * outputs / smallest)) for inputs, outputs in pairwise(dimensions)
    )


@states(
    Statement(
        source="Burkholz 2022 (ICML and NeurIPS)",
        quoted=_BURKHOLZ_QUOTED,
        unit="prunable weights",
        direction="sufficient",
        constant_known=False,
    )
)
def burkholz_parameters(dimensions: Sequence[int], epsilon: float, failure: float, *, constant: float) -> int:
    """Return the number of weights of the random network of `burkholz_widths`.

    Claimed, for some constant C: the products of neighbouring widths of the L + 1 layers; quadratic in the logarithm
    for L > 1, where Pensia's network is linear in it. Fitted: C. Measured: nothing yet.

    Args:
        dimensions: of the target: inputs, then the width of each of its L layers.
        epsilon: the error allowed of the network's output; below 1.
        failure: probability allowed for the random network not to hold the target.
        constant: C.

    Returns:
        A number of weights, exact for the rounded n_i.

    """
    hidden = burkholz_widths(dimensions, epsilon, failure, constant=constant)
    widths = (dimensions[0], *hidden, dimensions[-1])
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def _checked_kernels(channels: Sequence[int], kernels: Sequence[int]) -> tuple[int, ...]:
    if len(kernels) != len(channels) - 1:
        raise SupermaskError(
            f"kernels={tuple(kernels)} does not fit channels={tuple(channels)}; give one kernel side per target layer."
        )
    return tuple(checked_count(side, "each of kernels") for side in kernels)
