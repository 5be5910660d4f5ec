"""The comparison of methods that prune during training, on a small set."""

from dataclasses import replace

from experiments.during_training import COMPARED, EXPERIMENT, RESNET
from experiments.framework.training import Training
from supermask.training import Recipe


def test_every_method_has_a_row_of_the_density(report):
    jobs = {group.label: group.tasks[0].job for group in EXPERIMENT.groups}
    assert {"gradual", "rigl", "set", "admm", "filter_pruning"} <= set(COMPARED)
    assert list(jobs) == [*COMPARED, f"early_bird, {RESNET}"]
    assert {(job.data, job.search.density) for job in jobs.values()} == {("fashion_mnist", 0.1), ("fashion_mnist", 0.5)}
    small = Recipe(epochs=1, batch_size=100)
    shown = report(EXPERIMENT, [Training(replace(job, data="synthetic", recipe=small)) for job in jobs.values()])
    for method in ("gradual", "rigl", "set", "admm"):
        (row,) = (line for line in shown.splitlines() if line.startswith(f"| {method} "))
        assert " 5,020 |" in row  # a tenth of 64 x 300 + 300 x 100 + 100 x 10
