"""Strong tickets beside weak ones: what a mask alone, a mask and training, and all else that prunes come to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.training import ACCURACY, accuracy, trainings
from supermask.report.density import draw_accuracy_by_density
from supermask.report.plot import new_figures, save_figure
from supermask.runs import METHODS, Job, JobResult, SearchOptions
from supermask.training import Recipe

DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
DENSITIES = (0.01, 0.05, 0.2, 0.5)
SEEDS = (0, 1, 2)
COMPARED = (
    "edge_popup",
    "edge_popup_trained",
    "imp",
    "snip",
    "grasp",
    "synflow",
    "magnitude_init",
    "random_uniform",
)
RECIPE = Recipe(epochs=3)


def _groups() -> list[Group]:
    groups = []
    for data, label in DATA.items():
        job = Job(model="lenet_300_100", data=data, recipe=RECIPE)
        groups.append(Group(f"{label}, dense", trainings(replace(job, method="dense"), SEEDS)))
        for density in DENSITIES:  # the lowest first: its rounds of pruning are those of the others
            for method in COMPARED:
                asked = replace(job, method=method, search=SearchOptions(density=density))
                groups.append(Group(f"{label}, {method}, {density}", trainings(asked, SEEDS)))
    return groups


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figures(2, width=11.0, height=4.4)
    for place, label in zip(axes, DATA.values(), strict=True):
        curves = {
            method: {
                density: accuracy(found[row])
                for density in DENSITIES
                if (row := f"{label}, {method}, {density}") in found
            }
            for method in COMPARED
        }
        level = found.get(f"{label}, dense", ())
        dense = {"dense": accuracy(level)} if level else {}
        draw_accuracy_by_density(place, curves, dense)
        place.set(title=f"LeNet-300-100 on {label}")
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="strong_and_weak",
    title="Strong and weak tickets of LeNet-300-100, by density",
    source=(
        "Every method with SGD 0.1, momentum 0.9, weight decay 1e-4, cosine, batch 128, 3 epochs of 55,000 examples,"
        " 5,000 for validation, and what it has by itself: edge-popup a warm-up over 40 % of its steps and, below a"
        " density of 1/2, a rate lower by sqrt(2 x density); the others no warm-up. Edge-popup trains no weight; the"
        " others train what they keep, from Kaiming normal weights; iterative magnitude pruning (imp) takes a training"
        " of that length in every round, 21 of them down to a density of 0.01, and edge-popup followed by training"
        " takes two."
    ),
    groups=tuple(_groups()),
    table=ACCURACY,
    plot=_plot,
)
assert set(COMPARED) <= METHODS.keys()
