"""The ladder of lottery tickets with its controls, on a small set."""

from dataclasses import replace

import pytest

from experiments import lottery_tickets as module
from experiments.lottery_tickets import EXPERIMENT, EarlyStop, Rung, RungResult


@pytest.fixture
def small(monkeypatch):
    recipe = replace(module.PROTOCOL.job.recipe, evaluate_every=5)
    job = replace(module.PROTOCOL.job, data="synthetic", validation=100, recipe=recipe)
    monkeypatch.setattr(module, "PROTOCOL", replace(module.PROTOCOL, job=job))
    monkeypatch.setattr(module, "SHAPES", {**module.SHAPES, "fc1.weight": (300, 64)})


def test_a_rung_trains_its_ticket_and_both_controls_on_one_ladder(small, tmp_path):
    above = Rung(0, 1, iterations=20).run(tmp_path / "above", device="cpu", data_folder=None)
    stages = {path: path.stat().st_mtime_ns for path in tmp_path.glob("lenet*/stages/*/round-0?/metrics.jsonl")}
    rung = Rung(0, 2, iterations=20, controls=tuple(module.CONTROLS))
    found = rung.run(tmp_path / "rung", device="cpu", data_folder=None)
    assert (above.kept, found.kept) == (
        40_260,
        32_298,
    )  # 49,200 and 1,000 weights: 0.8 and 0.9 of them, and again
    assert len(stages) == 2
    assert {path: path.stat().st_mtime_ns for path in stages} == stages
    assert len({getattr(found, series).accuracy for series in module.SERIES}) > 1
    assert found.cost == 3
    for series in module.SERIES:
        stop = getattr(found, series)
        assert 0 <= stop.train <= 1
        assert 0 <= stop.last <= 1
    assert found.config["controls"] == list(module.CONTROLS)


def test_the_table_pairs_the_seeds():
    def result(seed, ticket, other):
        config = {"rounds": 7}
        return RungResult(config=config, kept=10, ticket=EarlyStop(*ticket), reinitialised=EarlyStop(*other))

    row = EXPERIMENT.table.row([result(0, (0.98, 1000), (0.97, 2000)), result(1, (0.96, 2000), (0.95, 6000))])
    assert row[0] == "10"
    assert row[5:7] == ["-", "-"]
    assert row[7].startswith("2.50 ± ")  # the mean of 2 and 3, not 8000 / 3000
    assert row[8] == "1.00 ± 0.00"
    assert row[9] == "8"  # the dense network, and the seven that followed it


def test_every_rung_of_the_paper_has_a_row():
    labels = [group.label for group in EXPERIMENT.groups]
    assert labels[0] == "100.0 % left"
    assert {"21.1 % left", "3.6 % left"} <= set(labels)
    controlled = {group.label for group in EXPERIMENT.groups if group.tasks[0].controls}
    assert {"21.1 % left", "3.6 % left"} <= controlled
