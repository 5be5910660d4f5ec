import itertools

import numpy as np
import pytest

from experiments.failure import EXPERIMENT, SHOWN, Curve, constant, proportions
from supermask.random.stream import philox
from theory import bounds


def measured(task, path):
    return task.run(path, device="cpu", data_folder=None)


def test_a_tiny_version_has_its_rows_and_its_plot(report):
    shown = report(EXPERIMENT, [Curve(eps, (6, 9, 12), draws=40) for eps in (0.1, 0.01, 0.001)])
    row = next(line for line in shown.splitlines() if line.startswith("| eps 0.001"))
    found = [cell.strip() for cell in row.split("|")[2:-1]]
    assert found[0].startswith("100.0 (91.2 to 100.0")
    assert found[1:3] == ["-", "-"]  # 15 and 18 were not measured
    assert found[3:5] == ["none", "9"]
    assert found[-1] == "C open"


def worst_on_a_grid(coefficients, grid):
    """The largest error over a grid of targets, from the sums of all subsets one by one."""
    sums = [sum(s) for k in range(len(coefficients) + 1) for s in itertools.combinations(coefficients, k)]
    return max(min(abs(s - target) for s in sums) for target in grid)


def test_failures_are_those_of_a_grid_of_targets(tmp_path):
    """The worst of all targets is above that of the grid by at most half of its spacing."""
    epsilon, draws, grid = 0.1, 25, np.linspace(-0.5, 0.5, 201)
    result = measured(Curve(epsilon, (5, 7), draws=draws), tmp_path)
    for n, failures in zip((5, 7), result.failures, strict=True):
        generator = np.random.Generator(philox(0, "failure", n))
        worst = np.array([worst_on_a_grid(generator.uniform(-1, 1, n), grid) for _ in range(draws)])
        assert (worst > epsilon).sum() <= failures <= (worst > epsilon - 0.0025).sum()
        assert 0 < failures < draws


def test_failures_are_as_often_as_they_were_found_before(tmp_path):
    """Of 1,000 draws at epsilon 0.01 about 11 % fail with 12 items and about 1 % with 15; false-alarm rate 2e-3."""
    twelve, fifteen = proportions(measured(Curve(0.01, (12, 15)), tmp_path)).values()
    assert 0.08 <= twelve.value <= 0.15
    assert fifteen.value <= 0.03


def test_the_bound_with_the_fitted_constant_holds_at_every_point(tmp_path):
    result = measured(Curve(0.1, (4, 6, 8), draws=60), tmp_path)
    fit, found = constant(result), proportions(result)
    assert fit.low <= fit.value <= fit.high
    assert all(bounds.lueker_failure(n, 0.1, constant=fit.value) >= p.value for n, p in found.items())
    assert any(bounds.lueker_failure(n, 0.1, constant=0.99 * fit.value) < p.value for n, p in found.items())


@pytest.mark.parametrize("group", EXPERIMENT.groups, ids=lambda group: group.label)
def test_every_draw_fails_below_the_range_and_the_table_is_within_it(group):
    (task,) = group.tasks
    assert bounds.information_success(task.items[0] - 1, task.epsilon) < 1
    assert set(SHOWN) <= set(task.items)
