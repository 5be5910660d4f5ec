"""Methods that prune while they train, side by side: Fashion-MNIST, LeNet-300-100, one density."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.training import ACCURACY, trainings
from supermask.report import mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.training import Recipe

COMPARED = ("dense", "random_erk", "set", "rigl", "gradual", "admm", "filter_pruning", "imp")
DENSITY = 0.1
CHANNELS = 0.5
SEEDS = (0, 1, 2)
RECIPE = Recipe(epochs=5)
RESNET = "resnet20, a quarter wide"


def _groups() -> list[Group]:
    job = Job(model="lenet_300_100", data="fashion_mnist", recipe=RECIPE, search=SearchOptions(density=DENSITY))
    groups = [Group(method, trainings(replace(job, method=method), SEEDS)) for method in COMPARED]
    recipe, search = replace(RECIPE, epochs=7), SearchOptions(density=CHANNELS)
    early_bird = replace(job, model="resnet20", width=0.25, method="early_bird", recipe=recipe, search=search)
    return [*groups, Group(f"early_bird, {RESNET}", trainings(early_bird, SEEDS[:1]))]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    """Draw a point with its interval per method; the dense level is dashed."""
    found = {label: results for label, results in found.items() if not label.endswith(RESNET)}
    figure, axes = new_figure(height=1.2 + 0.4 * len(found))
    means = {method: mean([100 * result.test.accuracy for result in found[method]]) for method in found}
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
        " 0.9, weight decay 1e-4, cosine, batch 128, 5 epochs of 55,000 examples, 5,000 for validation. All but imp,"
        " which trains once a round, and filter pruning, which trains twice, are one training of these steps. The"
        " density of filter pruning is the fraction of the hidden units that is kept. Early-Bird ranks the scales of"
        f" batch norm, so it has a network of its own, {RESNET}, of whose channels it keeps {CHANNELS:.0%}, 7 epochs,"
        " one seed. Nothing was read that was published of this"
        " network, data and density, so nothing stands in the last column. Of another network, WRN-22-2 on CIFAR-10, at"
        " density 0.1, the authors of RigL give 92.9 % for RigL, 93.3 % for gradual pruning and 91.5 % for a random"
        " mask that stays (github.com/google-research/rigl, issue 8)."
    ),
    groups=tuple(_groups()),
    table=ACCURACY,
    plot=_plot,
)
