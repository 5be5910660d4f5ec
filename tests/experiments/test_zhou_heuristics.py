"""Heuristic supermasks and what becomes of kept and pruned weights, on a small set."""

from dataclasses import replace

import pytest

from experiments import zhou_actions, zhou_heuristics
from experiments.framework.training import Training
from supermask.baselines.heuristic.criteria import CRITERIA
from supermask.training import Recipe

SMALL = replace(
    zhou_heuristics.JOB, data="synthetic", validation=100, width=0.1, recipe=Recipe(epochs=2, batch_size=50)
)


def test_every_criterion_has_a_row_and_all_share_one_dense_training(report, tmp_path):
    experiment = zhou_heuristics.EXPERIMENT
    labels = {group.label for group in experiment.groups}
    assert {*CRITERIA, "large_final, same sign", "magnitude_increase, different sign"} <= labels
    assert {group.label: group.published.value for group in experiment.groups if group.published} == {
        "large_final, same sign": "over 80 % rewound, 86 % constant"
    }
    few = [group for group in experiment.groups if group.label.endswith(("l, same sign", "l, different sign"))]
    shown = report(replace(experiment, groups=tuple(few)), [replace(group.tasks[0], job=SMALL) for group in few])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("|")]
    rows = {label: cells for label, *cells in cells}
    assert {group.label for group in few} <= set(rows)
    folders = [*(tmp_path / "runs/zhou_heuristics").glob("dense-seed*")]
    assert [folder.name for folder in folders] == ["dense-seed0"]
    # 0.5 of the weights with the sign that they had are there, and have it all
    assert rows["large_final, same sign"][-3] == "100 %"
    assert float(rows["large_final, different sign"][-3].split()[0]) < 100


def test_a_row_tells_actions_and_densities_apart():
    def result(shift):
        cells = {
            action: {
                density: zhou_heuristics.Mask(accuracy=shift + 0.1 * a + 0.01 * d, chosen=10, same_sign=9 - a)
                for d, density in enumerate(zhou_heuristics.DENSITIES)
            }
            for a, action in enumerate(zhou_heuristics.ACTIONS)
        }
        return zhou_heuristics.MasksResult(dense_accuracy=0.9, **cells)

    row = zhou_heuristics.EXPERIMENT.table.row([result(0.2), result(0.4)])
    assert [cell.split(" ")[0] for cell in row] == ["30.00", "31.00", "32.00", "40.00", "41.00", "42.00", "80"]


@pytest.mark.parametrize("label", ["kept: reinitialised, signs kept", "pruned: variant 2"])
def test_frozen_weights_are_in_the_network_and_not_among_those_trained(label, report):
    (group,) = (group for group in zhou_actions.EXPERIMENT.groups if group.label == label)
    job = replace(group.tasks[0].job, data="synthetic", validation=100, width=0.1, recipe=SMALL.recipe)
    shown = report(replace(zhou_actions.EXPERIMENT, groups=(group,)), [Training(job)])
    (row,) = (line for line in shown.splitlines() if line.startswith(f"| {label}"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    trained, present = (int(cell.replace(",", "")) for cell in cells[2:4])
    assert trained == round(0.05 * (64 * 30 + 30 * 10 + 10 * 10))
    assert (present > trained) == (label == "pruned: variant 2")


def test_every_action_of_the_paper_has_a_row():
    jobs = [group.tasks[0].job for group in zhou_actions.EXPERIMENT.groups]
    actions = {(job.algorithm.mask_1, job.algorithm.keep_sign, job.algorithm.mask_0) for job in jobs}
    assert len(actions) == len(jobs) == 11
    assert {mask_0 for _, _, mask_0 in actions} == {"zero", "freeze", "variant_1", "variant_2"}
    assert {(job.search.density, job.algorithm.criterion, job.algorithm.sign) for job in jobs} == {
        (0.05, "large_final", "any")
    }
