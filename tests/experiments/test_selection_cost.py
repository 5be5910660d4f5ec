from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.measuring import selection_times, stopwatch
from experiments.measuring.score_walk import Walk, WalkPlan
from experiments.measuring.selection_times import Selection, SelectionTimes, _others, kth_largest, wrong_entries
from experiments.selection_cost import EXPERIMENT, ON_GPU
from supermask.masking import keep_largest

PLAN = WalkPlan(fast=(20, 35), equal=(45, 48))
SMALL = SelectionTimes(size=10_000, steps=60, plan=PLAN, repeats=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch):
    monkeypatch.setattr(stopwatch.bandwidth, "__defaults__", (1 << 20, 3))
    monkeypatch.setattr(stopwatch.os, "cpu_count", lambda: 1)


@pytest.mark.parametrize("experiment", [EXPERIMENT, ON_GPU], ids=lambda experiment: experiment.name)
def test_a_tiny_version_has_its_row_and_its_plot(experiment, report):
    shown = report(experiment, [SMALL])
    row = next(line for line in shown.splitlines() if line.startswith("| 25,000,000 scores"))
    assert [cell.strip() for cell in row.split("|")[-4:-1]] == ["0 of 60", "1", "-"]
    assert len(row) <= 130


def test_a_run_has_its_phases_and_all_its_times(tmp_path):
    result = SMALL.run(tmp_path, device="cpu", data_folder=None)
    phases = result.walk.phases
    assert {kind: phase.steps for kind, phase in phases.items()} == {
        "first": 1,
        "steady": 26,
        "jump": 30,
        "equal": 3,
    }
    assert len(result.walk.ms) == result.walk.steps_checked == result.walk.steps_equal == 60
    assert phases["first"].median_ms == result.walk.ms[0]
    assert phases["equal"].max_ms == max(result.walk.ms[45:48])
    assert {way: len(times) for way, times in result.others_ms.items()} == dict.fromkeys(
        ("cold", "sort", "kthvalue", "topk", "partition"), 2
    )
    assert result.floor_ms == pytest.approx(5 * 10_000 / result.bytes_per_second * 1000, abs=1e-3)
    assert 1e-5 < phases["steady"].moved < 3e-3
    assert phases["equal"].moved == 0


class Forgetful(Selection):
    """Swaps one kept entry for a pruned one at its fifth selection."""

    calls = 0

    def select(self, pools, scores, masks):
        super().select(pools, scores, masks)
        Forgetful.calls += 1
        if Forgetful.calls == 5 + 2:  # the first two only compile
            (mask,) = masks.values()
            kept, pruned = mask.nonzero()[0], (~mask).nonzero()[0]
            mask[kept], mask[pruned] = False, True


class Idle(Selection):
    """Does nothing from its fourth selection on, when the mask before might still be right."""

    calls = 0

    def select(self, pools, scores, masks):
        Idle.calls += 1
        if Idle.calls <= 3 + 2:
            super().select(pools, scores, masks)


def test_a_wrong_mask_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(selection_times, "Selection", Forgetful)
    result = SMALL.run(tmp_path, device="cpu", data_folder=None)
    assert (result.walk.entries_wrong, result.walk.steps_checked, result.walk.steps_equal) == (2, 60, 59)


def test_a_mask_that_is_not_written_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(selection_times, "Selection", Idle)
    still = replace(SMALL, plan=WalkPlan(equal=(1, 60)))  # the right mask is the same from step 1 on
    result = still.run(tmp_path, device="cpu", data_folder=None)
    assert (result.walk.entries_wrong, result.walk.steps_equal) == (57 * 5_000, 3)


@given(
    scores=arrays(
        np.float32, st.integers(1, 60), elements=st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, 1.0])
    ),
    share=st.floats(0, 1),
)
def test_the_sorts_answer_is_that_of_a_plain_sort(scores, share):
    k = 1 + int(share * (scores.size - 1))
    threshold = kth_largest(scores, k)
    assert threshold == np.sort(np.abs(scores))[-k]
    mask = keep_largest(torch.from_numpy(np.abs(scores)), k).numpy()
    assert wrong_entries(scores, k, mask, threshold) == 0
    assert wrong_entries(scores, k, ~mask, threshold) == scores.size


def test_ties_go_to_the_lowest_index():
    scores = np.float32([1, -1, 2, 1])
    assert wrong_entries(scores, 2, np.array([True, False, True, False]), np.float32(1)) == 0
    assert wrong_entries(scores, 2, np.array([False, True, True, False]), np.float32(1)) == 2
    assert wrong_entries(scores, 2, np.array([True, False, True, True]), np.float32(1)) == 1


def walked(seed, steps=60):
    walk = Walk(2000, PLAN, seed, CPU)
    found = []
    for step in range(steps):
        walk.advance(step)
        found.append(walk.scores.clone())
    return torch.stack(found)


def test_a_walk_is_that_of_its_plan():
    scores = walked(0)
    assert torch.equal(scores, walked(0))
    assert not torch.equal(scores[0], walked(1)[0])
    assert [int(step) for step in range(60) if scores[step].unique().numel() == 1] == [45, 46, 47]
    moved = (scores[1:] - scores[:-1]).std(1) / scores[1:].abs().median(1).values
    assert 0.002 < moved[10:19].mean() < 0.01  # momentum has built up
    assert 5 < moved[30:34].mean() / moved[10:19].mean() < 15
    assert 2 < moved[15:19].mean() / moved[0] < 3  # 1 / sqrt(1 - 0.9^2) in the end, 2.3
    assert scores[48].abs().median() == pytest.approx(0.67, abs=0.05)


def test_phases():
    phases = [WalkPlan().phase(step) for step in range(1000)]
    assert phases[:2] == ["first", "steady"]
    assert phases[249:261] == ["steady", *["jump"] * 10, "steady"]
    assert phases[509:511] == ["jump", "steady"]
    assert phases[699:716] == ["steady", *["equal"] * 5, *["jump"] * 10, "steady"]
    assert [WalkPlan().rate_at(step) for step in (249, 250, 499, 500)] == [1e-3, 1e-2, 1e-2, 1e-3]


def test_the_others_select_the_same():
    scores = walked(0)[-1]
    expected = keep_largest(scores.abs(), 700)
    for way, work in _others(scores, 700).items():
        mask = work()
        if way != "cold":
            assert torch.equal(torch.as_tensor(mask).bool(), expected), way
