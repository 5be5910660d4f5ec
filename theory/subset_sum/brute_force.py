"""All 2^n subsets, one after another: the oracle of the tests."""

import numpy as np

from supermask.errors import SupermaskError
from theory.subset_sum.problem import Answer, Problem

MOST = 20  # 2^20 sums of one problem are 8 MiB


def brute_force(problem: Problem) -> Answer:
    """Compare the sums of all subsets with the target.

    Optimal to the rounding of float64 sums. Of equal errors the mask that is the lowest binary number is returned, the
    first coefficient being the lowest digit.

    Raises:
        SupermaskError: n is above 20.

    """
    if problem.n > MOST:
        raise SupermaskError(
            f"brute_force takes n up to {MOST}, not {problem.n}: it would compare 2^{problem.n} subsets of each "
            "problem; use meet_in_the_middle."
        )
    best = np.zeros(problem.batch, np.int64)  # the number whose binary digits are the mask
    for row in range(problem.batch):
        sums = np.zeros(1)
        for coefficient in problem.coefficients[row]:
            sums = np.concatenate([sums, sums + coefficient])
        best[row] = np.abs(sums - problem.targets[row]).argmin()
    mask = (best[:, None] >> np.arange(problem.n)) & 1 == 1
    return Answer(mask, np.ones(problem.batch, np.bool_))
