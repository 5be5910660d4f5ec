"""What the integer program does with what its backends say, or without them."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from supermask.errors import SupermaskError
from theory.subset_sum import FewestTerms, FixedTerms, SmallestError, _backends, solve

PROBLEM = np.array([[1.0, 1.0, 2.0, 2.0]]), np.array([3.0])


def _program(backend, **options):
    return solve(*PROBLEM, solver="integer_program", backend=backend, **options)


def test_no_gap_is_allowed():
    solver = _backends.backend_solver("highs").first(None)
    assert (solver.gapAbs, solver.gapRel) == (0, 0)


@pytest.mark.parametrize("objective", [SmallestError(), FewestTerms(10.0), FixedTerms(2)])
def test_a_lying_backend_is_found_out(objective, monkeypatch):
    """It calls its last two coefficients a perfect answer."""
    lie = _backends.SolverResult([0.0, 0.0, 1.0, 1.0], objective=0.0, proven=True)
    monkeypatch.setattr(_backends, "run", lambda *_: lie)
    solution = _program("highs", objective=objective)
    assert solution.mask.tolist() == [[False, False, True, True]]
    assert solution.error.tolist() == [1.0]
    assert solution.optimal.tolist() == [False]


@pytest.mark.parametrize(
    ("result", "sol_status", "proven", "found"),
    [
        (1, 1, True, True),
        (1, 2, False, True),  # PuLP 3, out of time
        (0, 0, False, False),
        (SimpleNamespace(status=1, has_solution=True), None, True, True),  # PuLP 4
        (SimpleNamespace(status=-4, has_solution=True), None, False, True),
        (SimpleNamespace(status=-1, has_solution=False), None, False, False),
    ],
)
def test_the_status_of_both_versions_of_pulp(result, sol_status, proven, found):
    program = SimpleNamespace(solve=lambda _: result, sol_status=sol_status, objective=2.0)
    variables = [SimpleNamespace(value=lambda: 1.0), SimpleNamespace(value=lambda: None)]
    result = _backends.run(program, variables, _backends.Solver(lambda _: SimpleNamespace()), None)
    assert (result.proven, result.values) == (proven, [1.0, 0.0] if found else None)


def test_a_crash_is_rescued_but_not_believed():
    def make(name):
        return lambda _: SimpleNamespace(name=name)

    def solve_with(solver):
        if solver.name == "first":
            raise _backends.pulp.PulpError("crashed")
        return 1

    program = SimpleNamespace(solve=solve_with, sol_status=1, objective=0.0)
    result = _backends.run(program, [], _backends.Solver(make("first"), make("second")), None)
    assert (result.values, result.proven) == ([], False)
    with pytest.raises(SupermaskError, match="failed: crashed; try the other backend"):
        _backends.run(program, [], _backends.Solver(make("first")), None)


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(SupermaskError, match="no backend 'gurobi'; the backends are highs and cbc"):
        _program("gurobi")
    monkeypatch.setattr(_backends, "cbc_path", lambda: None)
    with pytest.raises(SupermaskError, match=r"install the package cbcbox, .* or give backend='highs'"):
        _program("cbc")
    monkeypatch.setattr(_backends.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SupermaskError, match="needs the package highspy"):
        _program("highs")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (lambda: {"time_limit": 0.0}, "positive number of seconds, not 0"),
        (lambda: {"time_limit": float("nan")}, "positive"),
        (lambda: {"objective": FixedTerms(5)}, "5 terms were asked for, but there are 4 coefficients"),
        (lambda: {"objective": FixedTerms(-1)}, "at least 0, not -1"),
        (lambda: {"objective": FewestTerms(-0.1)}, "at least 0, not -0.1"),
        (lambda: {"objective": FewestTerms(float("inf"))}, "finite"),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(SupermaskError, match=sentence):
        _program("highs", **options())


def test_nothing_is_printed_by_the_first_program_of_a_process():
    code = (
        "import numpy as np; from theory.subset_sum import solve; print('before');"
        " solve(np.ones((1, 2)), np.ones(1), solver='integer_program', backend='highs'); print('behind')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (found.stdout.split(), found.stderr) == (["before", "behind"], "")
