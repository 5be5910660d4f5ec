from dataclasses import replace

import numpy as np
import pytest

from experiments.subset_sum_rates import EXPERIMENT, HIGHS, _rounded, random_problems, rate
from supermask import SupermaskError
from theory.subset_sum import _backends, solve

SMALL = [replace(group.tasks[0], n=5, problems=min(group.tasks[0].problems, 20)) for group in EXPERIMENT.groups]
SMALL = [replace(task, problems=10) if task.solver == "integer_program" else task for task in SMALL]
needs_cbc = pytest.mark.skipif(_backends.cbc_path() is None, reason="there is no CBC")


@needs_cbc
def test_a_tiny_version_has_its_rows_and_its_plot(report):
    shown = report(EXPERIMENT, SMALL)
    highs = next(line for line in shown.splitlines() if line.startswith("| integer program, HiGHS"))
    cells = [cell.strip() for cell in highs.split("|")[2:-1]]
    assert cells[1] == "1"  # as fast as itself: it was timed once
    assert cells[3:5] == ["10 x 1", "10"]
    assert " 77,266 s |" in shown


def test_a_rate_is_that_of_the_median_repeat(tmp_path):
    result = SMALL[0].run(tmp_path, device="cpu", data_folder=None)
    assert len(result.timed.seconds) == 5
    assert rate(result.timed) == pytest.approx(20 / sorted(result.timed.seconds)[2])
    assert result.timed.optimal == 20
    assert result.reference.problems == HIGHS.problems
    assert min(result.reference.seconds) > 0


def test_all_solvers_have_the_same_problems():
    few, many = random_problems(10, 5, 0), random_problems(50, 5, 0)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:10])
    assert np.abs(many[1]).max() <= 0.5 < np.abs(many[0]).max() <= 1
    np.testing.assert_allclose(solve(*few).error, solve(*few, solver="integer_program").error, atol=1e-9)


def test_a_solver_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(_backends, "cbc_path", lambda: None)
    with pytest.raises(SupermaskError, match="needs a CBC program"):
        SMALL[-1].run(tmp_path, device="cpu", data_folder=None)


def test_numbers_have_three_digits_and_no_power_of_ten():
    assert [_rounded(value) for value in (0.1789, 3.27, 43851.2, 2216327.0)] == ["0.179", "3.27", "43,900", "2,220,000"]
