import json
from dataclasses import replace

import pytest
from trials import trial

from supermask import RunError
from supermask.judge import judge

ACCURACIES = {"ticket": [0.90, 0.92, 0.94], "reinitialised": [0.80, 0.80, 0.83], "dense": [0.95, 0.95, 0.96]}


def seeds(**more):
    made = trial(ACCURACIES, **more)
    for each in made:
        counts = {"kept": 1000, "prunable": 4000}
        each["ticket"] = replace(each["ticket"], **counts)
        moved = {"moved": {"a": 3, "b": 1500}, "reweighted": True}
        each["reinitialised"] = replace(each["reinitialised"], **counts, **moved)
    return made


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_a_row_per_network():
    rows = [cells(line) for line in judge(seeds()).table().splitlines()]
    assert rows[0] == ["network", "untrained", "trained", "ticket - it, trained", "p", "moved", "kept", "parameters"]
    assert rows[2] == ["ticket", "10.00 ± 0.00 %", "92.00 ± 4.97 %", "", "", "", "1,000", "30"]
    assert rows[3][0] == "reinitialised"
    assert rows[3][3:] == ["+11.00 ± 2.48", "0.25", "1,503", "1,000", "30"]
    assert rows[4][3:] == ["-3.33 ± 3.79", "0.25", "", "", "100"]
    assert len(rows) == 5


def test_a_strong_ticket_is_compared_untrained_with_the_trained_dense_network():
    rows = [cells(line) for line in judge(seeds(strong=True)).table().splitlines()]
    assert rows[0][3:7] == ["ticket - it, untrained", "p", "ticket - it, trained", "p"]
    assert rows[3][3:5] == ["+0.00 ± 0.00", "1"]
    assert rows[4][3:5] == ["-85.33 ± 1.43", "0.25"]


def test_the_values_are_all_that_the_table_and_the_lines_say():
    judged = judge(seeds())
    values = json.loads(json.dumps(judged.values(), allow_nan=False))
    assert values["networks"]["ticket"]["trained_accuracy"] == ACCURACIES["ticket"]
    assert values["networks"]["reinitialised"]["moved"] == [{"a": 3, "b": 1500}] * 3
    assert values["networks"]["reinitialised"]["ticket_minus_it"]["trained"]["p"] == 0.25
    assert [verdict["claim"] for verdict in values["verdicts"]] == ["matching", "winning", "passes the sanity checks"]
    assert judged.lines() == [verdict.line() for verdict in judged.verdicts]


def test_the_plot_is_a_picture_that_equal_results_give_again(tmp_path):
    for name in "ab":
        judge(seeds()).plot(tmp_path / name, "title")
    assert (tmp_path / "a").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_seed_makes_a_table_without_intervals():
    rows = [cells(line) for line in judge(seeds()[:1]).table().splitlines()]
    assert rows[3][2:5] == ["80.00 %", "+10.00", "1"]


def test_runs_that_are_no_seeds_of_one_trial_are_refused():
    with pytest.raises(RunError, match="no runs to judge"):
        judge([])
    with pytest.raises(RunError, match="Runs of one ticket and one seed are there twice"):
        judge([*seeds(), seeds()[0]])
    with pytest.raises(RunError, match=r"Runs 1 have other controls than runs 0 \(dense\)"):
        judge([seeds()[0], {name: run for name, run in seeds()[1].items() if name != "dense"}])
    for option in ("data", "recipe", "validation"):
        other = seeds()
        other[2]["ticket"].config[option] = "another"
        with pytest.raises(RunError, match=f"Runs 2 have {option} another, runs 0 "):
            judge(other)
