from dataclasses import replace

import pytest
import torch

from experiments.measuring import sparse_times
from experiments.measuring.sparse_layers import Shape, ways
from experiments.measuring.sparse_times import Speed, SpeedResult, Times, crossover
from experiments.sparse_speed import EXPERIMENT
from theory.laws import Estimate

SHAPES = [Shape(7, 5, 3), Shape(4, 4, 2, kernel=1, side=3), Shape(4, 3, 2, kernel=3, side=4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_all_ways_compute_the_same(shape, density):
    work = ways(shape, density)
    assert set(work) == {"dense", "torch"} | ({"scipy", "compiled"} if not shape.kernel else set())
    weight = shape.weight(density)
    assert int((weight != 0).sum()) == round(density * weight.numel())
    for one in work.values():
        torch.testing.assert_close(one(), work["dense"](), rtol=1e-5, atol=1e-5)
    assert work["dense"]().any() == (density > 0)


def result(ratios):
    times = {density: Times({}, {"way": Estimate(ratio, ratio, ratio, 0.95)}) for density, ratio in ratios.items()}
    return SpeedResult(density=times)


@pytest.mark.parametrize(
    ("ratios", "density"),
    [
        ({0.4: 4.0, 0.1: 1.0, 0.01: 0.5}, 0.1),
        ({0.4: 2.0, 0.1: 0.5, 0.01: 0.5}, 0.2),
        ({0.4: 0.5, 0.1: 2.0, 0.025: 0.5}, 0.05),  # faster again above, which may be chance
        ({0.4: 0.9, 0.1: 0.5}, 0.4),
        ({0.4: 2.0, 0.1: 1.0}, 0.0),
    ],
)
def test_the_crossover_is_where_the_ratio_meets_one(ratios, density):
    assert crossover(result(ratios), "way") == pytest.approx(density)


def test_times_are_those_of_the_thread(monkeypatch):
    clock = iter([5.0, 5.25])
    monkeypatch.setattr(sparse_times.time, "thread_time", lambda: next(clock))
    assert sparse_times.thread_milliseconds(lambda: None) == 250.0


def test_ratios_are_of_turns_of_the_same_round_on_one_thread(monkeypatch):
    threads, clock = [], iter(range(1, 10**6))

    def turn(self, work):
        threads.append(torch.get_num_threads())
        return float(next(clock))

    monkeypatch.setattr(Speed, "_turn", turn)
    torch.set_num_threads(2)
    found = Speed(SHAPES[0], rounds=6, densities=(0.5, 0.1))._measure().density
    assert set(threads) == {1}
    assert torch.get_num_threads() == 2
    assert len(threads) == 6 * 2 * 4
    for each in found.values():
        assert set(each.ratio) == {"torch", "scipy", "compiled"}
        assert all(0 < ratio.value < 5 for ratio in each.ratio.values())


def test_a_tiny_version_has_its_rows_and_its_plot(report):
    groups = (EXPERIMENT.groups[0], EXPERIMENT.groups[2], EXPERIMENT.groups[-2])
    tasks = [Speed(shape, rounds=6, burst=1) for shape in SHAPES]
    shown = report(replace(EXPERIMENT, groups=groups), tasks)
    rows = [row for row in shown.splitlines() if row.startswith("| ")]
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:]] for row in rows}
    assert {group.label for group in groups} <= cells.keys()
    assert cells[groups[-1].label][7:9] == ["-", "-"]  # a convolution has no other library
    assert all(float(cell) >= 0 for cell in cells[groups[0].label][1:9])
