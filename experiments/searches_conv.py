"""All searches with a small convolutional network on Fashion-MNIST, and the low densities at which searches fail."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.search_jobs import BY_DENSITY, beside_dense, draw_searches, searches_at
from experiments.framework.training import ACCURACY_AND_DENSITY, trainings
from supermask.runs import Job, JobResult
from supermask.search.learned import LearnedRule
from supermask.training import Recipe

SEEDS = (0, 1, 2)
DENSE_RATE = 0.02  # at that of the scores it does not learn
WARM_UP = 0.4  # that of the searches
LOW = (0.1, 0.0372, 0.014)
AT_LOW = ("edge_popup", "edge_popup, global", "edge_popup, global gradual", "gem_miner")
JOB = Job(model="lenet5", data="fashion_mnist", recipe=Recipe(epochs=4))
NORMED = replace(JOB, model="small_conv", recipe=replace(JOB.recipe, epochs=3))
assert set(AT_LOW) <= BY_DENSITY.keys()


def groups_of(half: Job, low: Job) -> list[Group]:
    """Return the dense network, all searches at density 0.5, and those of low density.

    Args:
        half: what all searches do.
        low: what those do that are asked for few weights.

    """
    learned = replace(half, method=LearnedRule.name)
    slower = replace(half.recipe, learning_rate=DENSE_RATE, warm_up=WARM_UP)
    jobs = {"dense": replace(half, method="dense", recipe=slower), "learned": learned}
    jobs |= {f"{label}, 0.5": job for label, job in searches_at(half, 0.5)}
    for density in LOW:
        found = dict(searches_at(low, density))
        jobs |= {f"{label}, {density:g}": found[label] for label in AT_LOW}
    return [Group(label, trainings(job, SEEDS)) for label, job in jobs.items()]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    draw_searches(found, path, "Fashion-MNIST: LeNet-5 at 0.5, small_conv below")


EXPERIMENT = Experiment(
    name="searches_conv",
    title="All searches for strong tickets: small convolutional networks on Fashion-MNIST",
    source=(
        "Density 0.5: each search on LeNet-5 with its default options and its own setting for few epochs, as in"
        " `searches`, where the settings were chosen: SGD at 0.1 (IteRand 0.3), below a density of 1/2 times"
        " sqrt(2 x density), momentum 0.9, weight decay 1e-4, cosine after a warm-up over 40 % of the steps, batch 128,"
        " 4 epochs of 55,000 examples, 5,000 for validation. Gates, the learned supermask and Gem-Miner have rates of"
        f" their own and no weight decay; the dense network has {DENSE_RATE} and the same warm-up. Below:"
        " small_conv, which normalises as ResNet-20 does, 3 epochs. Global scopes start equalised and leave a weight"
        " in each layer; gradual ones take 1,000 steps to their density. It stands here for the published comparison"
        " on CIFAR-10"
        " (`cifar10_searches`), which needs a GPU: of these networks and data nothing was read that was published, so"
        " nothing stands in the last column."
    ),
    groups=tuple(groups_of(JOB, NORMED)),
    table=ACCURACY_AND_DENSITY,
    plot=_plot,
    conclusion=beside_dense,
)
