"""The passes that the rows of the experiment are compared at."""

import pytest
import torch

from experiments.no_backward import BATCH, EXPERIMENT, MULTIPLY_ADDS, STEPS, whole_passes, worked_passes
from supermask import models
from supermask.search import NodePerturbation


def test_a_step_makes_the_passes_that_the_experiment_counts():
    search = NodePerturbation(models.build("lenet_300_100"), density=0.5, directions=3)
    search.estimate(torch.randn(2, 1, 28, 28), torch.tensor([3, 4]))
    assert search.forward_passes == 2 * whole_passes(3) == 2 * 7
    assert search.multiply_adds == round(2 * sum(MULTIPLY_ADDS) * worked_passes(3))


@pytest.mark.parametrize(
    ("label", "passes"),
    [
        ("multiply-adds of 8 directions", worked_passes(8)),
        ("passes of 2 directions", 5),
        ("passes of 8 directions", 17),
    ],
)
def test_edge_popup_ends_at_the_passes_of_the_row_that_it_names(label, passes):
    (group,) = [group for group in EXPERIMENT.groups if group.label == f"edge_popup, {label}"]
    steps = group.tasks[0].job.recipe.steps(55_000)
    assert abs(steps * BATCH * 3 - STEPS * BATCH * passes) <= BATCH * 3 / 2
