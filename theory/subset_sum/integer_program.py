"""A mixed-integer program for each problem, solved by HiGHS or CBC through PuLP."""

import math
import time
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from theory.subset_sum import _backends
from theory.subset_sum._backends import Backend
from theory.subset_sum._program import ScaledProblem, build
from theory.subset_sum.objectives import FewestTerms, Objective, SmallestError, check_terms
from theory.subset_sum.problem import Answer, Floats, Mask, Problem

TOLERANCE = 1e-8  # of sum |coefficients|
_MOST_EXCLUDED = 50  # masks that a solver's tolerance let through, before giving up


def integer_program(
    problem: Problem,
    *,
    objective: Objective | None = None,
    backend: Backend = "highs",
    time_limit: float | None = None,
) -> Answer:
    """Minimise z subject to -z <= target - sum <= z over binary variables, or the number of terms within an error.

    The form with z is that of the experiments of Pensia et al. 2020. The masks are rounded from the variables.

    `optimal` says that the search was completed and that the rounded mask is as good as the solver held it to be. It
    holds to 1e-8 of sum |coefficients|: there may be a subset whose error is smaller by less than that, or, of
    `FewestTerms`, a smaller subset whose error is below `max_error` by less than that. Both solvers' default tolerances
    (CBC's increment 1e-5, HiGHS's gap 1e-6) are far wider, so each problem is scaled and the tolerances are set.

    A subset of `FewestTerms` that is within `max_error` only by the solver's tolerance is excluded and the search
    repeated. Where no subset is within `max_error` (or the time was too short to find one) the mask is empty and
    `optimal` False. Where the time was too short for `FixedTerms`, the mask holds the first `terms` coefficients.

    Args:
        problem: the batch; its problems are solved one by one, on one core.
        objective: `SmallestError()` (the default), `FewestTerms(max_error)` or `FixedTerms(terms)`.
        backend: "highs" or "cbc".
        time_limit: most seconds for each problem; the best mask found by then is not optimal. None for no limit.

    Raises:
        SupermaskError: the backend is unknown, not installed or failed; there are fewer coefficients than terms asked
            for; or `time_limit` is not positive.

    """
    objective = SmallestError() if objective is None else objective
    check_terms(objective, problem.n)
    if time_limit is not None and not time_limit > 0:
        raise SupermaskError(f"time_limit must be a positive number of seconds, not {time_limit}.")
    search = _Search(objective, _backends.backend_solver(backend), math.inf if time_limit is None else time_limit)
    mask = np.zeros((problem.batch, problem.n), np.bool_)
    optimal = np.zeros(problem.batch, np.bool_)
    rows = zip(problem.coefficients, problem.targets, strict=True)
    bar = tqdm(rows, total=problem.batch, desc="integer programs", unit="problem", disable=None, delay=2)
    for i, (coefficients, target) in enumerate(bar):
        mask[i], optimal[i] = search.solve(coefficients, float(target))
    return Answer(mask, optimal)


@dataclass(frozen=True)
class _Search:
    """How each problem of a batch is solved."""

    objective: Objective
    solver: _backends.Solver
    seconds: float

    def solve(self, coefficients: Floats, target: float) -> tuple[Mask, bool]:
        """Return the mask (n,) of one problem, and whether it is optimal."""
        fallback = self.objective.fallback(coefficients.size)
        if not coefficients.any():  # PuLP 4 cannot give CBC a program without rows
            return fallback, self._allows(coefficients, target, fallback)
        slack = 0.0
        if isinstance(self.objective, FewestTerms):
            slack = self.objective.max_error
            if not self._in_reach(coefficients, target):
                return fallback, False
        row = ScaledProblem.of(coefficients, target, slack)
        end = time.monotonic() + self.seconds
        excluded: list[Mask] = []
        while len(excluded) <= _MOST_EXCLUDED and (left := end - time.monotonic()) > 0:
            program, chosen = build(row, self.objective, excluded)
            result = _backends.run(program, chosen, self.solver, left if math.isfinite(left) else None)
            if result.values is None:
                break
            mask = np.array(result.values) > 0.5
            if self._allows(coefficients, target, mask):
                return mask, result.proven and self._as_good(row, mask, result.objective)
            excluded.append(mask)
        return fallback, False

    def _allows(self, coefficients: Floats, target: float, mask: Mask) -> bool:
        error = Problem(coefficients[None], np.array([target])).error(mask[None])[0]
        return self.objective.allows(mask, float(error))

    def _in_reach(self, coefficients: Floats, target: float) -> bool:
        """Return whether the target is between the least and the largest sum, or one of these is close enough to it."""
        negative, positive = coefficients < 0, coefficients > 0
        between = coefficients[negative].sum() < target < coefficients[positive].sum()
        return between or any(self._allows(coefficients, target, mask) for mask in (negative, positive))

    def _as_good(self, row: ScaledProblem, mask: Mask, claimed: float) -> bool:
        """Return whether a mask reaches, when recomputed, the objective that the solver claims for it."""
        if isinstance(self.objective, FewestTerms):
            return bool(mask.sum() < claimed + 0.5)
        total = row.coefficients[mask].sum()
        error = max(row.lower - total, total - row.upper)
        rounding = 1e-6 * claimed  # CBC writes eight digits
        return bool(error <= claimed + rounding + TOLERANCE * np.abs(row.coefficients).sum())
