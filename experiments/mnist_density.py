"""Edge-popup against the dense network on MNIST and Fashion-MNIST, LeNet-300-100, by density."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.training import ACCURACY, accuracy, trainings
from supermask.report.density import plot_accuracy_by_density
from supermask.runs import Job, JobResult, SearchOptions
from supermask.training import Recipe

DENSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0, 1, 2)
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
RECIPE = Recipe(epochs=8, warm_up=0.4)


def _groups() -> list[Group]:
    groups = []
    for data, label in DATA.items():
        job = Job(model="lenet_300_100", data=data, recipe=RECIPE)
        groups.append(Group(f"{label}, dense", trainings(replace(job, method="dense"), SEEDS)))
        for density in DENSITIES:
            found = replace(job, search=SearchOptions(density=density))
            groups.append(Group(f"{label}, density {density}", trainings(found, SEEDS)))
    return groups


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    curves = {
        label: {d: accuracy(found[row]) for d in DENSITIES if (row := f"{label}, density {d}") in found}
        for label in DATA.values()
    }
    levels = {f"{label}, dense": accuracy(found[row]) for label in DATA.values() if (row := f"{label}, dense") in found}
    plot_accuracy_by_density(curves, levels, path, "LeNet-300-100: edge-popup by density, and dense")


EXPERIMENT = Experiment(
    name="mnist_density",
    title="LeNet-300-100 on MNIST and Fashion-MNIST, by density",
    source=(
        "Edge-popup of Ramanujan et al. 2020, which prints no figure for this network, so nothing stands in the last"
        " column. Signed constant weights scaled by 1/sqrt(density), SGD 0.1 (below a density of 1/2 times sqrt(2 x"
        " density)), momentum 0.9, weight decay 1e-4, cosine after a warm-up over 40 % of the steps, batch 128, 8"
        " epochs of 55,000 examples, 5,000 for validation. The dense network has the same recipe, its rate being 0.1,"
        " with Kaiming normal weights and trained biases."
    ),
    groups=tuple(_groups()),
    table=ACCURACY,
    plot=_plot,
)
