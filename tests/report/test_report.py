from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from supermask.report import mean, plot, plot_accuracy_over_steps, plot_bars, table
from supermask.training.result import Evaluation, Scored, TrainingResult


def trained(accuracies):
    """Return a result of a training with these validation accuracies, by step."""
    score = Scored(correct=0, total=100, loss=1.0, accuracy=0.0)
    history = tuple(Evaluation(step, 1.0, accuracy, 1.0, 0.1) for step, accuracy in accuracies)
    return TrainingResult(validation=score, test=score, best_step=0, steps=10, seconds=1.0, history=history)


def test_the_interval_is_students():
    values = [0.91, 0.94, 0.93, 0.95]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = mean(values)
    assert found.value == pytest.approx(fmean(values))
    assert found.half_width == pytest.approx((high - low) / 2)
    assert found.percent() == "93.25 ± 2.72 %"


def test_the_interval_holds_the_mean_as_often_as_it_says():
    """Of 4,000 samples of five normals 95 % cover 0: between 93.8 and 96.2 %, at a false-alarm rate below 1e-3."""
    samples = np.random.default_rng(0).normal(size=(4000, 5))
    covered = [abs(found.value) <= found.half_width for found in map(mean, samples.tolist())]
    assert stats.binomtest(sum(covered), 4000, 0.95).pvalue > 1e-3


def test_one_run_has_no_interval():
    assert mean([0.5]).half_width is None
    assert mean([0.5]).percent() == "50.00 %"


def test_a_table_is_aligned_markdown():
    assert table(["name", "n"], [["a", "1"], ["longer", "1,000"]]).splitlines() == [
        "| name   |     n |",
        "| ------ | ----: |",
        "| a      |     1 |",
        "| longer | 1,000 |",
    ]


def test_plots_are_equal_for_equal_results(tmp_path):
    result = trained([(step, step / 10) for step in range(5)])
    for name in "ab":
        plot_accuracy_over_steps({"edge_popup": [result, result]}, tmp_path / name, "title")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    plot_bars({"fc1.weight": 30.0, "fc2.weight": 50.0}, tmp_path / "bars.png", "title", "x", "y")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_no_method_is_missing_from_the_plot_over_steps(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    result = trained([(step, step / 10) for step in range(5)])
    plot_accuracy_over_steps({str(number): [result] for number in range(15)}, tmp_path / "plot.png", "title")
    lines = figures[0].axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(lines) == 15


def test_the_plot_over_steps_ends_with_the_shortest_run(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    history = [(step, 0.5) for step in (0, 7, 9)]
    results = [trained(history), trained(history[:2])]
    plot_accuracy_over_steps({"imp": results}, tmp_path / "plot.png", "title")
    (line,) = figures[0].axes[0].lines
    assert line.get_xydata().tolist() == [[0, 50], [7, 50]]
