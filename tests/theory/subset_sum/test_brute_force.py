import itertools

import numpy as np
import pytest

from supermask.errors import SupermaskError
from theory.subset_sum import solve


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_oracle_compares_all_subsets(n):
    random = np.random.default_rng(n)
    coefficients, targets = random.normal(size=(20, n)), random.normal(size=20)
    solution = solve(coefficients, targets, solver="brute_force")
    for row in range(20):
        sums = [sum(c) for k in range(n + 1) for c in itertools.combinations(coefficients[row], k)]
        assert len(sums) == 2**n
        assert solution.error[row] == pytest.approx(min(abs(s - targets[row]) for s in sums), abs=1e-14)


def test_of_equal_errors_the_lowest_binary_number():
    solution = solve(np.ones((1, 3)), np.array([2.0]), solver="brute_force")
    assert solution.mask.tolist() == [[True, True, False]]


def test_too_many_coefficients_are_refused():
    with pytest.raises(SupermaskError, match=r"n up to 20, not 21.*meet_in_the_middle"):
        solve(np.ones((1, 21)), np.zeros(1), solver="brute_force")
