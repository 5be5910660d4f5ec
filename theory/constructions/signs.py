"""Random networks of signs: a weight of the target becomes so many equal paths.

Where every weight of the random network is plus or minus one number, all paths of a pair contribute one step up or
down, and a weight is met to half a step by as many of one sign as it takes. Two layers of signs for a layer of the
target therefore need a width of the order of 1 / error, where uniform weights need log(1 / error). (Sreenivasan et al.
2022 get along with a logarithm too, by Theta(log(1 / error)) layers for each layer of the target.)
"""

import math
from collections.abc import Callable

import numpy as np

from theory.constructions.prune import PathProblem
from theory.constructions.random_pair import Mask
from theory.target import Matrix, TargetLayer


def choose_signs(problem: PathProblem, tolerance: float) -> tuple[Mask, Matrix]:
    """Meet each weight by the first paths of its sign, as many as come nearest to it, or as there are."""
    items, wanted = problem.items, problem.wanted
    own = (items != 0.0) & (np.sign(items) == np.sign(wanted)[:, None])
    count = np.rint(np.abs(wanted) / problem.scale)
    mask: Mask = own & (own.cumsum(axis=1) <= count[:, None])
    return mask, np.abs(np.where(mask, items, 0.0).sum(axis=1) - wanted)


def sign_width(layer: TargetLayer, error: float, halves: int, density: float = 1.0) -> int:
    """Return hidden units per input with which all weights have paths enough with probability 0.99.

    Args:
        layer: of the target.
        error: that a weight may have, over twice the largest weight.
        halves: signs of the input that are served.
        density: share of the random weights that there are.

    """
    from scipy.stats import binom  # scipy.stats takes a third of a second to import

    steps = math.ceil(0.25 / error) + 1  # a step is twice the error
    share = 0.25 * density**2  # half of the units have the sign of the input, half of their paths that of the weight
    weights = layer.kernel.size * halves + layer.outputs
    return smallest(lambda width: bool(binom.cdf(steps - 1, width, share) <= 0.01 / weights), steps)


def sign_step(largest: float, error: float, width: int, density: float = 1.0) -> float:
    """Return the size of a step: twice the error of a weight, or more where the width does not reach the largest."""
    expected = 0.25 * density**2 * width
    reached = max(1.0, expected - 3.0 * math.sqrt(expected))
    return max(2.0 * error, largest / reached)


def smallest(enough: Callable[[int], bool], least: int) -> int:
    """Return the smallest number from `least` on that is enough, where all larger ones are too."""
    high = max(1, least)
    while not enough(high):
        high *= 2
    low = max(1, least) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
