"""Methods that prune while they train, side by side: Fashion-MNIST, LeNet-300-100, one density."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.experiment import Experiment, Group
from experiments.training import ACCURACY, trainings
from supermask.report import mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import METHODS, Job, Result, SearchOptions
from supermask.training import Recipe

METHODS_COMPARED = (
    "dense",
    "random_erk",
    "set",
    "rigl",
    "gradual",
    "admm",
    "early_bird",
    "filter_pruning",
    "imp",
)
"""Those that the registry does not have are left out."""

DENSITY = 0.1
SEEDS = (0, 1, 2)
RECIPE = Recipe(epochs=8)


def _groups() -> list[Group]:
    search = SearchOptions(density=DENSITY)
    jobs = {
        method: Job(method=method, model="lenet_300_100", data="fashion_mnist", recipe=RECIPE, search=search)
        for method in METHODS_COMPARED
        if method in METHODS
    }
    return [Group(method, trainings(job, SEEDS)) for method, job in jobs.items()]


def _plot(found: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Draw a point with its interval per method; the dense level is dashed."""
    figure, axes = new_figure(height=1.2 + 0.4 * len(found))
    means = {method: mean([100 * result["test"]["accuracy"] for result in found[method]]) for method in found}
    errors = [accuracy.half_width or 0.0 for accuracy in means.values()]
    values = [accuracy.value for accuracy in means.values()]
    axes.errorbar(values, list(means), xerr=errors, color=COLORS[0], linestyle="none", marker="o", capsize=3)
    if "dense" in means:
        axes.axvline(means["dense"].value, color=COLORS[1], linestyle="--", linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel="test accuracy (%)", title=f"Fashion-MNIST, LeNet-300-100, density {DENSITY:g}")
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="during_training",
    title="Pruning during training: LeNet-300-100 on Fashion-MNIST, density 0.1",
    source=(
        "Each method with its default options, whose sources its class names, and the same recipe: SGD 0.1, momentum"
        " 0.9, weight decay 1e-4, cosine, batch 128, 8 epochs of 55,000 examples, 5,000 for validation. All but imp,"
        " which trains once a round, are one training of these steps. Nothing was read that was published of this"
        " network, data and density, so nothing stands in the last column. Of another network, WRN-22-2 on CIFAR-10, at"
        " density 0.1, the authors of RigL give 92.9 % for RigL, 93.3 % for gradual pruning and 91.5 % for a random"
        " mask that stays (github.com/google-research/rigl, issue 8)."
    ),
    groups=tuple(_groups()),
    table=ACCURACY,
    plot=_plot,
)
