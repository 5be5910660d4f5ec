import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from theory.subset_sum import FewestTerms, FixedTerms, _sums_by_size, solve

SIZES = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.25, 3.0, 0.1, 0.7, -0.3, 1e-3, 1e6, -1e6, 1e-9])
ANY = st.floats(-10, 10, allow_nan=False, width=32)


@st.composite
def problems(draw):
    """A batch with ties, zeros, duplicates and mixed magnitudes; some targets in reach, some not, of both signs."""
    n, batch = draw(st.integers(1, 9)), draw(st.integers(0, 4))
    numbers = st.one_of(SIZES, ANY)
    coefficients = np.array([[draw(numbers) for _ in range(n)] for _ in range(batch)]).reshape(batch, n)
    planted = [draw(st.booleans()) for _ in range(n)]
    targets = np.array([row[planted].sum() if draw(st.booleans()) else draw(numbers) for row in coefficients])
    return coefficients, targets.reshape(batch)


def _subsets(coefficients):
    """Return each mask (2^n, n) and its sum, added up exactly as an error of a mask is."""
    masks = np.array(list(itertools.product([False, True], repeat=coefficients.size)))
    return masks, np.where(masks, coefficients, 0.0).sum(axis=1)


def _rounding(coefficients, target):
    return coefficients.size * 2.0**-52 * (np.abs(coefficients).sum() + abs(target))


def _check_fewest(coefficients, targets, max_error, solution):
    """No subset that is smaller than the answer is within the error by more than rounding."""
    for row, target in enumerate(targets):
        masks, sums = _subsets(coefficients[row])
        errors, terms = np.abs(sums - target), masks.sum(axis=1)
        slack = _rounding(coefficients[row], target)
        if not solution.optimal[row]:
            assert not solution.mask[row].any()
            assert (errors > max_error - slack).all()
            continue
        size = solution.mask[row].sum()
        assert solution.error[row] <= max_error
        assert (errors[terms < size] > max_error - slack).all()
        assert solution.error[row] <= errors[terms == size].min() + slack


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([0.0, 1e-12, 0.05, 1.0, 1e7]))
def test_fewest_terms_against_all_subsets(problem, max_error):
    _check_fewest(*problem, max_error, solve(*problem, objective=FewestTerms(max_error), threads=1))


@settings(max_examples=150, deadline=None)
@given(problems(), st.data())
def test_fixed_terms_against_all_subsets(problem, data):
    coefficients, targets = problem
    terms = data.draw(st.integers(0, coefficients.shape[1]))
    solution = solve(coefficients, targets, objective=FixedTerms(terms), threads=1)
    assert solution.optimal.all()
    assert (solution.mask.sum(axis=1) == terms).all()
    for row, target in enumerate(targets):
        masks, sums = _subsets(coefficients[row])
        best = np.abs(sums - target)[masks.sum(axis=1) == terms].min()
        assert abs(solution.error[row] - best) <= _rounding(coefficients[row], target)


@pytest.mark.parametrize("n", [10, 11, 12, 13, 14, 15, 16])
def test_both_objectives_equal_brute_force(n):
    random = np.random.default_rng(n)
    for draw in (random.uniform(-1, 1, (25, n)), random.integers(-9, 10, (25, n)).astype(float)):
        targets = random.uniform(-n / 4, n / 4, 25).round(2)
        for objective in (FewestTerms(0.02), FewestTerms(0.5), FixedTerms(0), FixedTerms(3), FixedTerms(n - 1)):
            found, best = (
                solve(draw, targets, solver=solver, objective=objective)
                for solver in ("meet_in_the_middle", "brute_force")
            )
            np.testing.assert_array_equal(found.optimal, best.optimal)
            np.testing.assert_array_equal(found.mask.sum(axis=1), best.mask.sum(axis=1))
            np.testing.assert_allclose(found.error, best.error, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "n", [6, 10, pytest.param(16, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_both_objectives_equal_the_integer_program(n):
    random = np.random.default_rng(n)
    problems = random.uniform(-1, 1, (6, n)), random.uniform(-0.5, 0.5, 6)
    for objective in (FewestTerms(0.05), FewestTerms(2e-3), FixedTerms(n // 2)):
        found, program = (
            solve(*problems, solver=solver, objective=objective) for solver in ("meet_in_the_middle", "integer_program")
        )
        assert program.optimal[found.optimal].all()
        np.testing.assert_array_equal(found.mask.sum(axis=1), program.mask.sum(axis=1))
        if isinstance(objective, FixedTerms):
            np.testing.assert_allclose(found.error, program.error, rtol=1e-9, atol=1e-8)


def test_a_subset_that_is_close_enough_only_by_rounding_is_passed_over():
    coefficients, targets = np.array([[1.0 + 2**-50, 0.5, 0.5, -3.0]]), np.array([1.0])
    solution = solve(coefficients, targets, objective=FewestTerms(0.0))
    assert solution.mask.tolist() == [[False, True, True, False]]
    assert solution.error.tolist() == [0.0]
    alone = solve(coefficients[:, [0, 3]], targets, objective=FewestTerms(0.0))
    assert (alone.mask.any(), alone.optimal[0]) == (False, False)


def test_decimals_whose_sums_depend_on_the_order_are_met_to_rounding():
    random = np.random.default_rng(0)
    coefficients = random.integers(1, 1000, (200, 14)) / 1000
    targets = np.where(random.random((200, 14)) < 0.5, coefficients, 0.0).sum(axis=1)
    solution = solve(coefficients, targets, objective=FewestTerms(1e-14))
    assert solution.optimal.all()
    assert solution.error.max() <= 1e-14


@pytest.mark.parametrize(
    ("coefficients", "objective", "mask"),
    [
        ([1, 1, 1, 1, 1, 1], FixedTerms(2), [0, 0, 0, 1, 1, 0]),  # the second half, and the first of it
        ([1, 1, 1, 1, 1, 1], FewestTerms(0), [0, 0, 0, 1, 1, 0]),
        ([2, 1, 1, 0, 0, 0], FewestTerms(0), [1, 0, 0, 0, 0, 0]),
        ([2, 1, 1, 0, 0, 0], FewestTerms(2), [0, 0, 0, 0, 0, 0]),
        ([9, 9, 9, 9, 9, 9], FewestTerms(1), [0, 0, 0, 0, 0, 0]),
    ],
)
def test_which_of_equal_masks_is_returned(coefficients, objective, mask):
    solution = solve(np.array([coefficients], float), np.array([2.0]), objective=objective)
    assert solution.mask.astype(int).tolist() == [mask]


def test_the_mask_does_not_depend_on_threads_or_on_the_rest_of_the_batch():
    random = np.random.default_rng(3)
    coefficients, targets = random.integers(-5, 6, (101, 9)).astype(float), random.integers(-9, 10, 101).astype(float)
    for objective in (FewestTerms(0.0), FixedTerms(4)):
        whole = solve(coefficients, targets, objective=objective, threads=1).mask
        for threads in (2, 7):
            again = solve(coefficients, targets, objective=objective, threads=threads).mask
            np.testing.assert_array_equal(again, whole)
        backwards = solve(coefficients[::-1], targets[::-1], objective=objective).mask
        np.testing.assert_array_equal(backwards[::-1], whole)


def test_few_of_many_need_little_memory():
    random = np.random.default_rng(0)
    coefficients = random.integers(-(2**40), 2**40, (2, 60)).astype(float)
    planted = np.arange(60) % 13 == 4  # five of them
    targets = coefficients[:, planted].sum(axis=1)
    solution = solve(coefficients, targets, objective=FixedTerms(5), memory=0.02)
    assert solution.error.tolist() == [0, 0]
    np.testing.assert_array_equal(solution.mask, [planted, planted])


def test_the_numbers_of_scratch_are_those_of_the_lists():
    for n, terms in ((1, 0), (1, 1), (7, 2), (8, 8), (9, 3)):
        halves = (n // 2, n - n // 2)
        lists = [
            sum(bin(subset).count("1") <= terms for k in range(half + 1) for subset in range(1 << k)) for half in halves
        ]
        assert _sums_by_size.numbers_needed(n, terms) == sum(lists)


def test_what_cannot_be_done_is_refused():
    ones = np.ones((1, 66)), np.zeros(1)
    needed = 8 * _sums_by_size.numbers_needed(66, 66) / 2**30
    with pytest.raises(
        SupermaskError, match=re.escape(f"needs {needed:,.1f} GiB for n = 66, and memory = 4.0 GiB fits")
    ):
        solve(*ones, objective=FewestTerms(0.1))
    with pytest.raises(SupermaskError, match="67 terms were asked for, but there are 66 coefficients"):
        solve(*ones, objective=FixedTerms(67))
    with pytest.raises(SupermaskError, match=r"4 terms were asked for, but there are 3"):
        solve(np.ones((1, 3)), np.zeros(1), objective=FixedTerms(4), solver="brute_force")
    with pytest.raises(SupermaskError, match=r"smallest error alone.*leave out device, or FixedTerms\(terms=2\)"):
        solve(*ones, objective=FixedTerms(2), device="cpu")
