"""Subset sum in batches: which of n coefficients add up to the target, as nearly as possible."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.subset_sum.brute_force import brute_force
from theory.subset_sum.integer_program import integer_program
from theory.subset_sum.meet_in_the_middle import meet_in_the_middle
from theory.subset_sum.objectives import FewestTerms, FixedTerms, SmallestError
from theory.subset_sum.problem import Answer, Problem, Solution, as_floats

__all__ = ["SOLVERS", "FewestTerms", "FixedTerms", "Problem", "SmallestError", "Solution", "solve"]

SOLVERS: dict[str, Callable[..., Answer]] = {
    "meet_in_the_middle": meet_in_the_middle,
    "integer_program": integer_program,
    "brute_force": brute_force,
}


def solve(coefficients: object, targets: object, *, solver: str = "meet_in_the_middle", **options: object) -> Solution:
    """Choose for each problem of a batch the subset of the coefficients whose sum is closest to the target.

    Args:
        coefficients: (batch, n), float32 or float64, a NumPy array or a torch tensor on any device; n is at least 1,
            the batch may be empty. All computation is in float64.
        targets: (batch,), likewise.
        solver: a name in `SOLVERS`.
        options: those of the solver, which its docstring explains.

    Returns:
        The masks, their errors (recomputed from the masks in float64, in the unit of the targets), and which
        of them are optimal.

    Raises:
        SupermaskError: a shape or dtype is wrong, a number is NaN, infinite or so large that sums overflow, the solver
            or an option is unknown, or the solver cannot do what it is asked for.

    """
    if solver not in SOLVERS:
        raise SupermaskError(f"There is no solver {quoted(solver)}; the solvers are {', '.join(SOLVERS)}.")
    known = _options(SOLVERS[solver])
    for option in options:
        if option not in known:
            raise SupermaskError(
                f"The solver {solver} has no option {option!r}; its options are {', '.join(known) or 'none'}."
            )
    problem = Problem(as_floats("coefficients", coefficients), as_floats("targets", targets))
    return Solution.of(problem, SOLVERS[solver](problem, **options))


@cache  # reading a signature takes as long as a few small problems
def _options(solver: Callable[..., Answer]) -> list[str]:
    return [p.name for p in inspect.signature(solver).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _check(solvers: dict[str, Any]) -> None:
    """Refuse a solver that does not take a problem and keyword-only options with defaults, or goes by another name."""
    for name, solver in solvers.items():
        first, *rest = inspect.signature(solver).parameters.values()
        fits = first.annotation is Problem and all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in rest)
        if not (fits and solver.__name__ == name and solver.__doc__):
            raise TypeError(
                f"solver {name!r} must be a documented function {name}(problem: Problem, *, option=default)"
            )


_check(SOLVERS)
