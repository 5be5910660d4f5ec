"""A weight of few bits as an exact subset sum over the random integers of its input's block."""

from collections.abc import Iterator

import numpy as np

from theory.constructions.prune import PathProblem
from theory.constructions.random_pair import Mask
from theory.subset_sum import FewestTerms, solve
from theory.target import Matrix

FIRST_ITEMS = 7
"""Items that a weight is given at first, above the binary digits of the largest: fewer leave more weights for longer
sums, and more are longer for all; between 5 and 9 the ticket's bytes differ by 1 %."""
MORE_ITEMS = 4
"""Items more for those that no subset meets; each four make misses about 16 times rarer."""
MOST_ITEMS = 40
"""Items at most."""
HALF = 0.25
"""An error below one half is none: the sums are integers, and the solver's are exact below 2^53."""


def choose_exactly(problem: PathProblem, tolerance: float = HALF) -> tuple[Mask, Matrix]:
    """Meet each weight by the fewest of its first paths that add up to it; by more paths where these do not.

    A weight that no subset meets gets the nearest one, and its error says so.
    """
    items, wanted = problem.items, problem.wanted
    chosen, missed = np.zeros(items.shape, np.bool_), np.abs(wanted)
    digits = int(np.abs(problem.second).max(initial=0.0)).bit_length()
    for count in _counts(digits + FIRST_ITEMS, items.shape[1]):
        left = np.flatnonzero(missed > tolerance)
        if not len(left):
            break
        # the columns of a layer already share the cores
        solution = solve(items[left, :count], wanted[left], objective=FewestTerms(tolerance), threads=1)
        met = left[solution.optimal]
        chosen[met, :count], missed[met] = solution.mask[solution.optimal], 0.0
    left, count = np.flatnonzero(missed > tolerance), min(MOST_ITEMS, items.shape[1])
    if len(left) and count:
        solution = solve(items[left, :count], wanted[left], threads=1)
        chosen[left, :count], missed[left] = solution.mask, solution.error
    return chosen, missed


def _counts(first: int, units: int) -> Iterator[int]:
    """Yield how many items to try."""
    yield from range(first, min(MOST_ITEMS, units), MORE_ITEMS)
    if units:
        yield min(MOST_ITEMS, units)
