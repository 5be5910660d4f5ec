"""One subset-sum problem as a mixed-integer program, scaled so that the solvers' absolute tolerances are small."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pulp  # type: ignore[import-untyped, unused-ignore]

from theory.subset_sum._backends import add_variable
from theory.subset_sum.objectives import FewestTerms, FixedTerms, Objective
from theory.subset_sum.problem import Floats, Mask

_SCALE = 10  # the largest coefficient becomes 2^9 to 2^10: an error of 1e-9 of it is 1e-6 to the solver


@dataclass(frozen=True)
class ScaledProblem:
    """One problem in the solver's unit: its coefficients (n,), and the interval that its sum is wanted in.

    The target is moved to the nearest sum that is in reach, which changes no answer. The unit is a power of two, so
    scaling rounds nothing but numbers that underflow.
    """

    coefficients: Floats
    lower: float
    upper: float

    @classmethod
    def of(cls, coefficients: Floats, target: float, slack: float) -> "ScaledProblem":
        """Scale the sums that are wanted, target - slack to target + slack."""
        reach = np.minimum(coefficients, 0).sum(), np.maximum(coefficients, 0).sum()
        exponent = _SCALE - int(np.frexp(np.abs(coefficients).max())[1])
        lower, upper = np.ldexp(np.clip([target - slack, target + slack], *reach), exponent)
        return cls(np.ldexp(coefficients, exponent), float(lower), float(upper))


def build(row: ScaledProblem, objective: Objective, excluded: list[Mask]) -> tuple[Any, list[Any]]:
    """Return the program and its n binary variables; masks in `excluded` are not allowed."""
    program = pulp.LpProblem("subset_sum", pulp.LpMinimize)
    chosen = [add_variable(program, f"x{i}", cat="Binary") for i in range(len(row.coefficients))]
    terms = pulp.lpSum(chosen)
    total = pulp.lpSum(float(a) * x for a, x in zip(row.coefficients, chosen, strict=True) if a)
    if isinstance(objective, FewestTerms):
        program += terms
        slack: Any = 0.0
    else:
        slack = add_variable(program, "z", lowBound=0)
        program += 1.0 * slack
    program += total - slack <= row.upper
    program += total + slack >= row.lower
    if isinstance(objective, FixedTerms):
        program += terms == objective.terms
    for mask in excluded:
        program += pulp.lpSum(1 - x if m else x for x, m in zip(chosen, mask, strict=True)) >= 1
    return program, chosen
