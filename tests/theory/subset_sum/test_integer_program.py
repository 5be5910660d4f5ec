import itertools

import numpy as np
import pytest

from theory.subset_sum import FewestTerms, FixedTerms, SmallestError, _backends, solve

BACKENDS = [
    "highs",
    pytest.param("cbc", marks=pytest.mark.skipif(_backends.cbc_path() is None, reason="no CBC program is installed")),
]
TOLERANCE = 1e-8


def _draw(kind, count, n, seed=0):
    random = np.random.default_rng([seed, n])
    coefficients = random.uniform(-1, 1, (count, n))
    if kind == "products":
        coefficients *= random.uniform(-1, 1, (count, n))
    if kind == "integers":
        coefficients = random.integers(-4, 5, (count, n)).astype(float)
    return coefficients, random.uniform(-0.5, 0.5, count)


def _program(coefficients, targets, backend, **options):
    return solve(coefficients, targets, solver="integer_program", backend=backend, **options)


def _subsets(n):
    return np.array(list(itertools.product([False, True], repeat=n)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("n", "count"),
    [(1, 4), (2, 4), (3, 4), (6, 4), (9, 4), (12, 4), (15, 3), pytest.param(18, 2, marks=pytest.mark.slow)],
)
def test_equals_meet_in_the_middle(n, count, backend):
    for kind in ("uniform", "products"):
        problems = _draw(kind, count, n)
        solution = _program(*problems, backend)
        np.testing.assert_allclose(solution.error, solve(*problems).error, rtol=0, atol=1e-6)
        np.testing.assert_allclose(solution.error, solve(*problems).error, rtol=1e-9, atol=1e-11)
        assert solution.optimal.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-5, 1e-300, 1e300])
def test_small_errors_that_default_tolerances_call_optimal(scale, backend):
    """With their own tolerances both solvers call 12 of 12 wrong answers optimal where coefficients are below 1e-4."""
    coefficients, targets = (x * scale for x in _draw("uniform", 6, 11))
    solution = _program(coefficients, targets, backend)
    np.testing.assert_allclose(
        solution.error / scale, solve(coefficients, targets).error / scale, rtol=1e-9, atol=1e-11
    )
    assert solution.optimal.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("seed", "n"), [(0, 9), (20, 14), (99, 8)])
def test_coefficients_of_many_sizes(seed, n, backend):
    """Of these HiGHS, with tolerances of 1e-6, calls a wrong answer optimal (99), and so does CBC's increment (20)."""
    random = np.random.default_rng([seed, 2])
    problems = np.exp(random.normal(0, 4, (4, n))), random.uniform(-0.5, 0.5, 4) * 10
    solution = _program(*problems, backend)
    np.testing.assert_allclose(solution.error, solve(*problems).error, rtol=1e-9, atol=1e-11)
    assert solution.optimal.all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_zeros_and_targets_out_of_reach(backend):
    coefficients = np.array(
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 2.0, -1.0], [1e-3, 2e-3, -1e-3], [1.0, -2.0, -1.0]]
    )
    targets = np.array([3.0, 0.9, 1e9, 1e9, -1e9])
    solution = _program(coefficients, targets, backend)
    assert solution.mask.tolist() == [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1]]
    assert solution.optimal.all()
    fewest = _program(coefficients, targets, backend, objective=FewestTerms(0.5))
    assert fewest.mask.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert fewest.optimal.tolist() == [False, True, False, False, False]
    fixed = _program(coefficients, targets, backend, objective=FixedTerms(3))
    assert fixed.mask.all()
    assert fixed.optimal.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("target", [1e300, -1e300])
def test_targets_that_a_solver_would_take_for_infinite(target, backend):
    coefficients = np.array([[1.0, -2.0, 3.0], [1e-300, -2e-300, 3e-300]])
    solution = _program(coefficients, np.full(2, target), backend)
    np.testing.assert_array_equal(solution.mask, coefficients * target > 0)
    assert solution.optimal.all()


def test_what_is_out_of_reach_is_not_searched_for(monkeypatch):
    monkeypatch.setattr(_backends, "run", lambda *_: pytest.fail("searched"))
    solution = _program(np.array([[1.0, 2.0, -1.0]] * 2), np.array([9.0, -9.0]), "highs", objective=FewestTerms(1.0))
    assert not solution.mask.any()
    assert not solution.optimal.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["uniform", "products", "integers"])
@pytest.mark.parametrize("n", [1, 4, 8])
def test_fewest_terms_against_all_subsets(n, kind, backend):
    """Of these CBC's preprocessing calls some answers optimal that are not, and CBC crashes on some without it."""
    coefficients, targets = _draw(kind, 30, n, seed=5)
    for max_error in (0.05, 0.01):
        solution = _program(coefficients, targets, backend, objective=FewestTerms(max_error))
        for row in range(30):
            allowed = np.abs(_subsets(n) @ coefficients[row] - targets[row]) <= max_error
            if allowed.any():
                assert solution.error[row] <= max_error
                assert solution.mask[row].sum() == _subsets(n)[allowed].sum(axis=1).min()
            else:
                assert not solution.mask[row].any()
            assert solution.optimal[row] == allowed.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["uniform", "integers"])
@pytest.mark.parametrize("n", [1, 5, 9])
def test_fixed_terms_against_all_subsets(n, kind, backend):
    coefficients, targets = _draw(kind, 5, n)
    for terms in sorted({0, 1, n // 2, n}):
        solution = _program(coefficients, targets, backend, objective=FixedTerms(terms))
        subsets = _subsets(n)[_subsets(n).sum(axis=1) == terms]
        best = np.abs(subsets @ coefficients.T - targets).min(axis=0)
        np.testing.assert_allclose(solution.error, best, rtol=1e-9, atol=1e-11)
        assert (solution.mask.sum(axis=1) == terms).all()
        assert solution.optimal.all()


def test_a_subset_within_the_error_only_by_tolerance_is_excluded():
    """One coefficient misses the bound by less than a solver can see; two reach it."""
    coefficients = np.array([[1.0, 0.5, 0.5, -3.0]])
    solution = _program(coefficients, np.array([1.0 + 1e-14]), "highs", objective=FewestTerms(5e-15))
    assert (solution.mask.any(), solution.optimal[0]) == (False, False)
    coefficients = np.array([[1.0 + 1e-13, 0.5, 0.5, -3.0]])
    solution = _program(coefficients, np.array([1.0]), "highs", objective=FewestTerms(0.0))
    assert solution.mask.tolist() == [[False, True, True, False]]
    assert solution.optimal.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("objective", [SmallestError(), FewestTerms(1e-11), FixedTerms(20)])
def test_a_search_out_of_time_is_not_optimal(objective, backend):
    coefficients, targets = _draw("uniform", 1, 40)
    solution = _program(coefficients, targets, backend, objective=objective, time_limit=0.3)
    assert solution.optimal.tolist() == [False]
    assert solution.error[0] == np.abs((coefficients * solution.mask).sum() - targets[0])
    if isinstance(objective, FixedTerms):
        assert solution.mask.sum() == 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_solvers_print_nothing(backend, capfd):
    _program(*_draw("uniform", 2, 6), backend)
    assert capfd.readouterr() == ("", "")
