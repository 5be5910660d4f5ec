"""The comparison of methods that prune during training, on a small set."""

from dataclasses import replace

from experiments.during_training import EXPERIMENT, METHODS_COMPARED
from experiments.training import Training
from supermask.runs import METHODS
from supermask.training import Recipe


def test_every_method_has_a_row_of_the_density(report):
    jobs = [group.tasks[0].job for group in EXPERIMENT.groups]
    assert [job.method for job in jobs] == [method for method in METHODS_COMPARED if method in METHODS]
    assert {"dense", "gradual", "rigl", "set", "admm"} <= {job.method for job in jobs}
    assert {(job.model, job.data, job.recipe.epochs, job.search.density) for job in jobs} == {
        ("lenet_300_100", "fashion_mnist", 8, 0.1)
    }
    small = Recipe(epochs=1, batch_size=100)
    shown = report(EXPERIMENT, [Training(replace(job, data="synthetic", recipe=small)) for job in jobs])
    for method in ("gradual", "rigl", "set", "admm"):
        (row,) = (line for line in shown.splitlines() if line.startswith(f"| {method} "))
        assert " 5,020 |" in row  # a tenth of 64 x 300 + 300 x 100 + 100 x 10
