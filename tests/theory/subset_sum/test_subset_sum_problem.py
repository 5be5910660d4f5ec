import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from supermask.errors import SupermaskError
from theory import subset_sum
from theory.subset_sum import SOLVERS, Problem, solve
from theory.subset_sum.problem import Answer, as_floats

GOOD = np.array([[0.5, -0.25, 1.0], [2.0, 0.0, 3.0]]), np.array([0.3, 4.9])


def _close(solution, coefficients, targets):
    """Every error must be that of the best of all subsets, to the rounding of sums."""
    problem = Problem(np.asarray(coefficients, np.float64), np.asarray(targets, np.float64))
    best = problem.error(SOLVERS["brute_force"](problem).mask)
    size = np.abs(problem.coefficients).sum(axis=1) + np.abs(problem.targets)
    return np.all(np.abs(solution.error - best) <= 1e-14 * size)


@pytest.mark.parametrize("solver", ["meet_in_the_middle", "brute_force", "integer_program"])
def test_every_solver_finds_a_small_problem_by_hand(solver):
    solution = solve(*GOOD, solver=solver)
    assert solution.mask.tolist() == [[True, True, False], [True, False, True]]
    np.testing.assert_allclose(solution.error, [0.05, 0.1], atol=1e-15)
    assert solution.optimal.all()
    assert (solution.mask.dtype, solution.error.dtype, solution.optimal.dtype) == (bool, np.float64, bool)


finite = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(1, 9), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_any_shape_dtype_and_container(data, batch, n, dtype, as_tensor):
    coefficients = data.draw(hnp.arrays(dtype, (batch, n), elements=finite))
    targets = data.draw(hnp.arrays(dtype, batch, elements=finite))
    give = torch.from_numpy if as_tensor else np.asarray
    solution = solve(give(coefficients), give(targets))
    assert solution.mask.shape == (batch, n)
    assert solution.error.shape == solution.optimal.shape == (batch,)
    assert _close(solution, coefficients, targets)
    exact = np.abs((coefficients.astype(np.float64) * solution.mask).sum(axis=1) - targets.astype(np.float64))
    np.testing.assert_array_equal(solution.error, exact)


def test_arrays_in_any_memory_order_and_tensors_with_gradients():
    coefficients = np.asfortranarray(np.random.default_rng(0).normal(size=(7, 10)))
    targets = np.linspace(-1, 1, 14)[::2]
    plain = solve(np.ascontiguousarray(coefficients), targets.copy())
    assert as_floats("coefficients", coefficients).flags.c_contiguous
    for c, t in ((coefficients, targets), (torch.tensor(coefficients, requires_grad=True), torch.tensor(targets))):
        for name, value in dataclasses.asdict(solve(c, t)).items():
            np.testing.assert_array_equal(value, getattr(plain, name))


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_empty_batch_has_an_empty_solution(solver):
    solution = solve(np.zeros((0, 5)), np.zeros(0), solver=solver)
    assert solution.mask.shape == (0, 5)
    assert solution.error.shape == solution.optimal.shape == (0,)


@pytest.mark.parametrize(
    ("coefficients", "targets", "sentence"),
    [
        (np.zeros(3), np.zeros(3), r"coefficients must have shape \(batch, n\), not \(3,\)"),
        (np.zeros((2, 0)), np.zeros(2), "n = 0"),
        (np.zeros((2, 3)), np.zeros(3), r"targets must have shape \(batch,\) = \(2,\)"),
        (np.zeros((2, 3)), np.zeros((2, 1)), r"not \(2, 1\)"),
        (np.zeros((1, 3)), np.array(0.5), r"not \(\)"),
        (np.array([[0.0, np.nan]]), np.zeros(1), r"coefficients\[0, 1\] is nan"),
        (np.array([[0.0, -np.inf]]), np.zeros(1), r"coefficients\[0, 1\] is -inf"),
        (np.zeros((2, 1)), np.array([0.0, np.inf]), r"targets\[1\] is inf"),
        (np.array([[1.0], [1e308]]), np.array([0.0, 1e308]), "problem 1 add up to more"),
        (np.full((1, 4), 1.7e308), np.zeros(1), "overflow"),
        (np.zeros((1, 3), np.int64), np.zeros(1), "coefficients must be float32 or float64, not int64"),
        (torch.zeros(1, 3), torch.zeros(1, dtype=torch.float16), r"targets must be .* not torch.float16"),
        ([[0.0]], np.zeros(1), "not list"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(coefficients, targets, sentence):
    with pytest.raises(SupermaskError, match=sentence):
        solve(coefficients, targets)


def test_an_unknown_solver_or_option_lists_the_known():
    with pytest.raises(SupermaskError, match="meet_in_the_middle, integer_program, brute_force"):
        solve(*GOOD, solver="gurobi")
    with pytest.raises(SupermaskError, match="no option 'thread'; its options are objective, threads, device, memory"):
        solve(*GOOD, thread=2)
    with pytest.raises(SupermaskError, match="its options are objective"):
        solve(*GOOD, solver="brute_force", threads=2)


def test_a_solver_is_judged_by_its_mask(monkeypatch):
    def liar(problem: Problem) -> Answer:
        return Answer(np.ones((problem.batch, problem.n), bool), np.ones(problem.batch, bool))

    monkeypatch.setitem(SOLVERS, "liar", liar)
    np.testing.assert_allclose(solve(*GOOD, solver="liar").error, [0.95, 0.1])


def test_a_solver_that_returns_something_else_is_refused(monkeypatch):
    for answer in (Answer(np.ones((2, 3)), np.ones(2, bool)), Answer(np.ones((2, 2), bool), np.ones(2, bool))):
        monkeypatch.setitem(SOLVERS, "odd", lambda problem, answer=answer: answer)
        with pytest.raises(TypeError, match="mask as bool"):
            solve(*GOOD, solver="odd")


def test_the_registry_is_checked():
    def positional(problem: Problem, limit=3):
        """Take an option by position."""

    def undocumented(problem: Problem): ...

    for name, solver in {
        "positional": positional,
        "undocumented": undocumented,
        "other": SOLVERS["brute_force"],
    }.items():
        with pytest.raises(TypeError, match=name):
            subset_sum._check({name: solver})
