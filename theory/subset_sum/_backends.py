"""PuLP and the programs behind it: HiGHS and CBC, with tolerances that resolve small errors, under PuLP 3 and 4."""

import importlib.util
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

import pulp  # type: ignore[import-untyped, unused-ignore]

from supermask.errors import SupermaskError
from supermask.shown import quoted

Backend: TypeAlias = Literal["highs", "cbc"]

# The least distance from an integer and from a row that counts as none. The defaults, 1e-6, hide errors of that size.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class SolverResult:
    """What a backend returns: the values of the variables (None where it found none), their objective, its status."""

    values: list[float] | None
    objective: float
    proven: bool


def add_variable(program: Any, name: str, **bounds: Any) -> Any:
    """Add a variable in the way of this version of PuLP (3.3.0 has no `add_variable`, 4 nothing else)."""
    if hasattr(program, "add_variable"):
        return program.add_variable(name, **bounds)
    return pulp.LpVariable(name, **bounds)


@dataclass(frozen=True)
class Solver:
    """How to make PuLP's solver for a time limit in seconds (None for no limit).

    Attributes:
        first: the one whose result is used.
        rescue: another for programs that crash the first, or None; its results never count as proven.

    """

    first: Callable[[float | None], Any]
    rescue: Callable[[float | None], Any] | None = None


def backend_solver(backend: str) -> Solver:
    """Return the solver of a backend.

    Raises:
        SupermaskError: the backend is unknown or not installed; the sentence says what to install.

    """
    if backend == "highs":
        return _highs()
    if backend == "cbc":
        return _cbc()
    raise SupermaskError(f"There is no backend {quoted(backend)}; the backends are highs and cbc.")


def run(program: Any, variables: list[Any], solver: Solver, seconds: float | None) -> SolverResult:
    """Solve a program. A search that was cut short is not proven, whatever status PuLP gives it.

    Raises:
        SupermaskError: the backend failed.

    """
    try:
        return _run(program, variables, solver.first(seconds))
    except (pulp.PulpError, KeyError, OSError) as error:  # KeyError: a status of HiGHS that PuLP 3 does not know
        failure = SupermaskError(f"The integer program's backend failed: {error}; try the other backend.")
    if solver.rescue is None:
        raise failure
    try:
        return replace(_run(program, variables, solver.rescue(seconds)), proven=False)
    except (pulp.PulpError, OSError):
        raise failure from None


def _run(program: Any, variables: list[Any], solver: Any) -> SolverResult:
    with tempfile.TemporaryDirectory() as folder:
        solver.tmpDir = folder  # what a crash leaves behind goes with it
        result = program.solve(solver)
    if isinstance(result, int):  # PuLP 3: `status` calls a search that ran out of time optimal, `sol_status` does not
        status, found = program.sol_status, program.sol_status in (1, 2)
    else:  # PuLP 4
        status, found = int(result.status), result.has_solution
    if not found:
        return SolverResult(None, math.inf, proven=False)
    values = [variable.value() or 0.0 for variable in variables]  # None where the program does not mention it
    return SolverResult(values, float(pulp.value(program.objective)), proven=status == 1)


def _highs() -> Solver:
    if importlib.util.find_spec("highspy") is None:
        raise SupermaskError("The backend highs needs the package highspy; install it, or give backend='cbc'.")
    _greet()
    return Solver(
        lambda seconds: pulp.HiGHS(
            msg=False,
            threads=1,
            timeLimit=seconds,
            gapAbs=0.0,  # the default is 1e-6
            gapRel=0.0,
            mip_feasibility_tolerance=_TOLERANCE,
            primal_feasibility_tolerance=_TOLERANCE,
            dual_feasibility_tolerance=_TOLERANCE,
        )
    )


@cache
def _greet() -> None:
    """Let HiGHS print its banner to nowhere: its first model does, to the standard output, before any option."""
    import highspy

    if sys.stdout is not None:
        sys.stdout.flush()  # what was printed before does not go with it
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


def _cbc() -> Solver:
    """Return CBC without its preprocessing.

    With it, 14 of 720 programs of fewest terms were called optimal with a term too many (CBC 2.10.3, the one in PuLP
    3.3.2, under any tolerances); without it CBC crashes on some programs that have no solution, 11 of the 720.
    """
    path = cbc_path()
    if path is None:
        raise SupermaskError(
            f"The backend cbc needs a CBC program, and PuLP {pulp.__version__} brings none here; "
            "install the package cbcbox, put cbc on the PATH, or give backend='highs'."
        )

    def make(seconds: float | None, *options: str) -> Any:
        tolerances = [f"{name} {_TOLERANCE}" for name in ("increment", "primalT", "dualT", "integerT")]
        return pulp.COIN_CMD(
            msg=False, path=path, timeLimit=seconds, gapAbs=0.0, gapRel=0.0, options=[*tolerances, *options]
        )

    return Solver(lambda seconds: make(seconds, "preprocess off"), rescue=make)


def cbc_path() -> str | None:
    """Return CBC's program: of PuLP 3, of the package cbcbox, or on the PATH; None where there is none."""
    bundled = getattr(getattr(pulp.apis, "coin_api", None), "pulp_cbc_path", None)
    if bundled and os.path.exists(bundled):
        return str(bundled)
    if importlib.util.find_spec("cbcbox") is not None:
        return str(importlib.import_module("cbcbox").cbc_bin_path())
    return shutil.which("cbc")
