"""All searches on CIFAR-10: conv4 and conv6 at density 0.5, ResNet-20 where few weights are left. Needs a GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Published
from experiments.framework.search_jobs import draw_searches
from experiments.framework.training import ACCURACY_AND_DENSITY
from experiments.searches_conv import groups_of
from supermask.runs import Job, JobResult
from supermask.training import Recipe

JOB = Job(data="cifar10", recipe=Recipe(epochs=100, augment=True))
RESNET = replace(JOB, model="resnet20", recipe=replace(JOB.recipe, epochs=150))
PUBLISHED = {
    "conv6, iterand, 0.5": Published(
        "88.80 %", "Chijiwa et al. 2021", "from a third party; rate 0.3, weights not scaled, random resized crops"
    ),
    "resnet20, gem_miner, 0.0372": Published(
        "83.4 %", "Sreenivasan et al. 2022, table 2", "after training; penalty 3e-5"
    ),
}


def _groups() -> list[Group]:
    found = []
    for model in ("conv4", "conv6"):
        half = [group for group in groups_of(replace(JOB, model=model), RESNET) if _is_half(group)]
        found += [replace(group, label=f"{model}, {group.label}") for group in half]
    low = [group for group in groups_of(RESNET, RESNET) if not _is_half(group) or group.label == "dense"]
    found += [replace(group, label=f"resnet20, {group.label}") for group in low]
    return [replace(group, published=PUBLISHED.get(group.label)) for group in found]


def _is_half(group: Group) -> bool:
    return group.label in ("dense", "learned") or group.label.endswith(", 0.5")


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    draw_searches(found, path, "CIFAR-10: every search")


EXPERIMENT = Experiment(
    name="cifar10_searches",
    title="All searches for strong tickets on CIFAR-10",
    source=(
        "Ramanujan et al. 2020's recipe (SGD 0.1, momentum 0.9, weight decay 1e-4, cosine, batch 128, crops and flips),"
        " 100 epochs for conv4 and conv6, 150 for ResNet-20 as in Sreenivasan et al. 2022. Not run yet."
    ),
    groups=tuple(_groups()),
    table=ACCURACY_AND_DENSITY,
    plot=_plot,
    needs_gpu=True,
)
