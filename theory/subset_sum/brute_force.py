"""All 2^n subsets, one after another: the oracle of the tests."""

import numpy as np
from numpy.typing import NDArray

from supermask.errors import SupermaskError
from theory.subset_sum.objectives import FewestTerms, FixedTerms, Objective, SmallestError, check_terms
from theory.subset_sum.problem import Answer, Floats, Problem

MOST = 20  # 2^20 sums of one problem are 8 MiB


def brute_force(problem: Problem, *, objective: Objective | None = None) -> Answer:
    """Compare the sums of all subsets with the target.

    Optimal to the rounding of float64 sums. Of equal errors the mask that is the lowest binary number is returned, the
    first coefficient being the lowest digit. Of `FewestTerms` the best of the smallest subsets within `max_error` is
    returned, an empty mask that is not optimal where there is none.

    Args:
        problem: the batch.
        objective: `SmallestError()` (the default), `FewestTerms(max_error)` or `FixedTerms(terms)`.

    Raises:
        SupermaskError: n is above 20, or there are fewer coefficients than terms asked for.

    """
    objective = SmallestError() if objective is None else objective
    check_terms(objective, problem.n)
    if problem.n > MOST:
        raise SupermaskError(
            f"brute_force takes n up to {MOST}, not {problem.n}: it would compare 2^{problem.n} subsets of each "
            "problem; use meet_in_the_middle."
        )
    best = np.zeros(problem.batch, np.int64)  # the number whose binary digits are the mask
    terms = np.zeros(1, np.int64)
    for _ in range(problem.n):
        terms = np.concatenate([terms, terms + 1])
    for row in range(problem.batch):
        sums = np.zeros(1)
        for coefficient in problem.coefficients[row]:
            sums = np.concatenate([sums, sums + coefficient])
        best[row] = _best(np.abs(sums - problem.targets[row]), terms, objective)
    mask = (best[:, None] >> np.arange(problem.n)) & 1 == 1
    return Answer(mask & (best >= 0)[:, None], best >= 0)


def _best(errors: Floats, terms: NDArray[np.int64], objective: Objective) -> int:
    """Return the first of the best subsets that the objective allows, -1 where it allows none."""
    if isinstance(objective, FixedTerms):
        allowed = terms == objective.terms
    elif isinstance(objective, FewestTerms):
        close = errors <= objective.max_error
        allowed = close & (terms == terms[close].min(initial=MOST))
    else:
        allowed = np.ones(len(errors), np.bool_)
    return int(np.where(allowed, errors, np.inf).argmin()) if allowed.any() else -1
