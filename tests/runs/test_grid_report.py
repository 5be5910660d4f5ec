"""The report of a grid: which rows and columns there are, and which plot."""

import json
from dataclasses import replace

import pytest

from supermask.baselines.rounds.engine import RoundsDetails, Scanned
from supermask.runs import JobResult
from supermask.runs import report as module
from supermask.runs.report import COLUMNS, GridReport, Row
from supermask.training.result import Evaluation, Scored


def result(accuracy, best_step=10, kept=300, size=1000):
    score = Scored(correct=0, total=100, loss=1.0, accuracy=accuracy)
    return JobResult(
        validation=score,
        test=score,
        kept=kept,
        prunable=1000,
        best_step=best_step,
        steps=20,
        bytes=size,
        seconds=1.5,
        history=tuple(Evaluation(step, 1.0, accuracy, 1.0, 0.1) for step in (0, 10)),
    )


SPARSE = Row("imp", "conv2", "digits", 0.3, "sgd", 2, {"a": result(0.8, 10, 301), "b": result(0.9, 13, 302, 1200)})
SPARSER = Row("imp", "conv2", "digits", 0.1, "sgd", 2, {"c": result(0.5)})
DENSE = Row("dense", "conv2", "digits", None, "sgd", 1, {"d": result(0.95)})
EMPTY = Row("snip", "conv2", "digits", 0.1, "sgd", 2, {})


def cells(report):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in report.table().splitlines()]


def test_a_row_shows_means_and_how_many_of_its_runs_are_finished():
    header, _, sparse, sparser, dense = cells(GridReport("t", [SPARSE, SPARSER, EMPTY, DENSE]))
    assert header == ["method", "density", *COLUMNS]
    assert sparse[:2] == ["imp", "0.3"]
    assert sparse[2].startswith("85.00 ± ")
    # 301.5 weights are kept in the mean, which is written to the even one
    assert sparse[3:] == ["2", "302", "1,000", "12", "1,200", "1.5"]
    assert sparser == ["imp", "0.1", "50.00 %", "1 of 2", "300", "1,000", "10", "1,000", "1.5"]
    assert dense[:4] == ["dense", "-", "95.00 %", "1"]


def test_the_cost_is_a_column_where_a_method_trains_more_than_once():
    twice = RoundsDetails((), whole=20, scan=(Scanned(5, 0.1, 40),))
    priced = Row("imp_rewind", "conv2", "digits", 0.3, "sgd", 1, {"a": replace(result(0.8), details=twice)})
    header, _, first, second = cells(GridReport("t", [priced, DENSE]))
    assert header == ["method", "density", *COLUMNS, "cost"]
    assert (first[-1], second[-1]) == ("2", "1")


def test_model_and_data_set_are_columns_where_the_grid_has_several_even_if_few_are_finished():
    more = [SPARSE, Row("imp", "conv4", "digits", 0.3, "sgd", 1, {})]
    assert cells(GridReport("t", more))[0][:3] == ["method", "model", "density"]
    more.append(Row("imp", "conv2", "mnist", 0.3, "sgd", 1, {}))
    assert [row[:4] for row in cells(GridReport("t", more))][::2] == [
        ["method", "model", "data", "density"],
        ["imp", "conv2", "digits", "0.3"],
    ]


def test_the_values_are_those_of_the_runs():
    first, *_ = rows = GridReport("t", [SPARSE, EMPTY, DENSE]).values()["rows"]
    assert [row["method"] for row in rows] == ["imp", "dense"]
    assert first["half_width"] > 0.1
    del first["half_width"]
    assert first == {
        "method": "imp",
        "model": "conv2",
        "data": "digits",
        "density": 0.3,
        "recipe": "sgd",
        "test_accuracy": pytest.approx(0.85),
        "n": 2,
        "planned": 2,
        "kept": 301.5,
        "prunable": 1000,
        "best_step": 11.5,
        "seconds": 1.5,
        "bytes": 1200,
        "runs": {"a": 0.8, "b": 0.9},
    }
    assert isinstance(first["prunable"], int)


@pytest.fixture
def drawn(monkeypatch):
    """List the plots that are drawn: which, and its first arguments."""
    plots = []
    for name in ("plot_accuracy_by_density", "plot_accuracy_over_steps"):
        monkeypatch.setattr(module, name, lambda *given, name=name: plots.append((name, *given)))
    return plots


def test_several_densities_are_drawn_by_density_and_what_has_none_as_a_level(drawn, tmp_path):
    nothing = Row("imp", "conv2", "digits", 0.0, "sgd", 1, {"e": result(0.1)})
    GridReport("t", [SPARSE, SPARSER, nothing, EMPTY, DENSE]).plot(tmp_path)
    accuracy = {row.density: row.accuracy for row in (SPARSE, SPARSER, nothing)}
    assert drawn == [("plot_accuracy_by_density", {"imp": accuracy}, {"dense": DENSE.accuracy}, tmp_path, "t")]


def test_the_plot_does_not_change_its_kind_while_the_grid_is_under_way(drawn, tmp_path):
    GridReport("t", [SPARSE, EMPTY, DENSE]).plot(tmp_path)
    assert drawn == [
        ("plot_accuracy_by_density", {"imp": {0.3: SPARSE.accuracy}}, {"dense": DENSE.accuracy}, tmp_path, "t")
    ]


def test_a_single_density_is_drawn_over_steps(drawn, tmp_path):
    GridReport("t", [SPARSE, DENSE, Row("imp", "conv4", "digits", 0.3, "sgd", 1, {"e": result(0.7)})]).plot(tmp_path)
    results = {"imp, conv2": [*SPARSE.results.values()], "dense, conv2": [*DENSE.results.values()]}
    results["imp, conv4"] = [result(0.7)]
    assert drawn == [("plot_accuracy_over_steps", results, tmp_path, "t")]


def test_a_report_is_a_table_a_plot_and_values(tmp_path):
    report = GridReport("title", [SPARSE, SPARSER, DENSE])
    report.write(tmp_path, "values.json")
    assert (tmp_path / "table.md").read_text() == f"title\n\n{report.table()}\n\nTrained with:\n\n- imp, dense: sgd\n"
    assert json.loads((tmp_path / "values.json").read_text()) == report.values()
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "values.json", "accuracy.png"}
