"""The permutations of MNIST, on synthetic data."""

from dataclasses import replace

import pytest

from experiments.framework.report import RESULTS, read_results, render
from experiments.superposition import EXPERIMENT, Permutations
from supermask.data import load

SMALL = Permutations((2, 3), outputs=20, iterations=4, images=30, few=6)


@pytest.fixture(autouse=True)
def synthetic(monkeypatch):
    monkeypatch.setattr(
        "experiments.superposition.data.load",
        lambda name, *, folder, seed: load("synthetic", seed=seed, validation=100),
    )
    monkeypatch.setattr("experiments.superposition.INPUT_SHAPE", (1, 8, 8))


def test_counts_are_of_as_many_images_as_are_said(tmp_path):
    result = SMALL.run(tmp_path / "run", device="cpu", data_folder=None)
    assert list(result.by_count) == [2, 3]
    for counted in result.by_count.values():
        assert {way: found.total for way, found in counted.items()} == {
            "task given": 30,
            "one-shot": 30,
            "one-shot, G": 30,
            "binary": 6,
            "lowest entropy": 30,
        }
        assert counted["task given"].inferred == 30
        assert all(found.correct <= min(found.inferred, found.shared) for found in counted.values())
    assert result.density == 0.5
    group = replace(EXPERIMENT.groups[0], tasks=(SMALL,))
    one = replace(EXPERIMENT, groups=(group,))
    assert "94.91" in render(one, {group.label: [result]})
    one.plot({group.label: [result], "other": [result]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_network_without_superfluous_outputs_has_no_g(tmp_path):
    result = replace(SMALL, outputs=10).run(tmp_path / "run", device="cpu", data_folder=None)
    assert "one-shot, G" not in result.by_count[2]
    row = dict(zip(EXPERIMENT.table.header, EXPERIMENT.table.row([result]), strict=True))
    assert row["one-shot, G"] == "-"
    assert row["tasks"] == "3"


def test_no_two_tasks_are_tested_on_one_image():
    mnist = load("synthetic", seed=0, validation=100)
    labels = mnist.test().labels
    tests = SMALL._tests(mnist, 3, 30)
    assert [len(test[1]) for test in tests] == [10, 10, 10]
    assert [label for test in tests for label in test[1].tolist()] == labels[:30].tolist()


def test_the_results_that_lie_there_are_of_the_experiment():
    if not (RESULTS / "superposition.json").exists():
        pytest.skip("not run yet")
    found = read_results(EXPERIMENT)
    for group in EXPERIMENT.groups:
        assert [result.config for result in found[group.label]] == [task.config() for task in group.tasks]
