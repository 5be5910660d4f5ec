"""Pruning at initialisation from 10 to 1,000 times in accuracy, not only in masks: LeNet-5 on Fashion-MNIST."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import Small, Study
from supermask.baselines.at_initialisation import SNIP, GraSP, MagnitudeAtInitialisation, RandomUniform, SynFlow
from supermask.baselines.method import Method, RunContext
from supermask.baselines.sparse import Sparse
from supermask.report import mean
from supermask.report.plot import COLORS, frame_accuracies, new_figure, plain_log, save_figure
from supermask.results import Result
from supermask.runs import Job
from supermask.training import Recipe

SEEDS = (0, 1, 2)
COMPRESSIONS = (10, 100, 1000)
STEPS = 500
SETTING = Small(
    Job(
        method="dense",
        model="lenet5",
        data="fashion_mnist",
        recipe=Recipe(
            iterations=STEPS,
            batch_size=64,
            optimizer="adam",
            learning_rate=2e-3,
            weight_decay=0.0,
            evaluate_every=STEPS,
        ),
    ),
    test=10_000,
    train=20_000,
)
METHODS: Mapping[str, Method] = {
    "SynFlow": SynFlow(),
    "SNIP": SNIP(),
    "GraSP": GraSP(),
    "magnitude": MagnitudeAtInitialisation(),
    "random": RandomUniform(),
}


@dataclass(frozen=True, kw_only=True)
class FarResult(Result):
    """One method at one compression, one seed.

    Attributes:
        accuracy: on the test set after the last step, a fraction.
        kept: weights.
        empty: layers that keep none.

    """

    accuracy: float
    kept: int
    empty: int


@dataclass(frozen=True)
class Far(Study[FarResult]):
    """A network pruned at its initialisation and trained.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights, and of random masks.
        method: that prunes; None trains the whole network.
        compression: prunable weights over kept ones.

    """

    kind: ClassVar[type[Result]] = FarResult

    method: Method | None
    compression: int

    def own(self) -> dict[str, Any]:
        """Return the method and the compression."""
        options = self.method.recorded_options() if self.method else {}
        return {"method": self.method.name if self.method else None, "options": options, "times": self.compression}

    def measure(self, context: RunContext) -> FarResult:
        """Prune and train."""
        if self.method is None:
            network = context.sparse()
            outcome = context.train(network)
        else:
            found = self.method.run(replace(context, density=1.0 / self.compression))
            outcome = found.outcome
            assert isinstance(found.subject, Sparse)
            network = found.subject
        kept = [int(mask.sum()) for mask in network.masks().values()]
        return FarResult(accuracy=outcome.test.accuracy, kept=sum(kept), empty=kept.count(0))


def _row(results: Sequence[FarResult]) -> list[str]:
    empty = sorted({result.empty for result in results})
    return [
        f"{results[0].kept:,}",
        " to ".join(f"{each}" for each in dict.fromkeys([empty[0], empty[-1]])),
        mean([result.accuracy for result in results]).percent(),
    ]


def _plot(found: Mapping[str, Sequence[FarResult]], path: Path) -> None:
    figure, axes = new_figure(width=8.0)
    for number, method in enumerate(METHODS):
        points = [(ratio, found[f"{method}, {ratio:,}x"]) for ratio in COMPRESSIONS if f"{method}, {ratio:,}x" in found]
        values = [mean([100 * result.accuracy for result in results]) for _, results in points]
        axes.errorbar(
            [ratio for ratio, _ in points],
            [value.value for value in values],
            yerr=[value.half_width or 0.0 for value in values],
            marker="o",
            capsize=2,
            color=COLORS[number],
            label=method,
        )
    if "dense" in found:
        level = 100 * fmean(result.accuracy for result in found["dense"])
        axes.axhline(level, color="0.5", linestyle="--", linewidth=1, label="dense")
    axes.set(xlabel="compression", ylabel="test accuracy (%)", title="LeNet-5, pruned before training")
    plain_log(axes)
    frame_accuracies(axes)
    axes.legend(frameon=False)
    save_figure(figure, path)


def _conclusion(found: Mapping[str, Sequence[FarResult]]) -> str:
    said = []
    for ratio in COMPRESSIONS:
        rows = {
            method: fmean(result.accuracy for result in found[label])
            for method in METHODS
            if (label := f"{method}, {ratio:,}x") in found
        }
        order = sorted(rows, key=lambda method: -rows[method])
        if order:
            said.append(f"{ratio:,}x: " + ", ".join(f"{method} {rows[method]:.1%}" for method in order))
    return f"In the order of their means: {'; '.join(said)}."


def _group(label: str, method: Method, ratio: int) -> Group:
    value = "SynFlow above the others from 100x on" if label == "SynFlow" else None
    source = "Tanaka et al. 2020, figure 6"
    note = "in words; VGG-11 and VGG-16 at full width; others end at chance where a layer is emptied"
    tasks = tuple(Far(SETTING, seed, method, ratio) for seed in SEEDS)
    return Group(f"{label}, {ratio:,}x", tasks, Published(value, source, note) if value else None)


EXPERIMENT = Experiment(
    name="prune_far",
    title="Accuracy of pruning at initialisation from 10 to 1,000 times",
    source=(
        "The question of Tanaka et al. 2020, section 6, in a setting that fits a CPU: LeNet-5 on 20,000 images of"
        f" Fashion-MNIST, {STEPS} steps of batches of 64 by Adam at 2e-3. SynFlow has its 100 steps and keeps a weight"
        " in each layer, SNIP looks at 100 examples, GraSP at 10 of each class; random masks have one density in all"
        " layers. A network with an empty layer is trained as it is."
    ),
    groups=(
        Group("dense", tuple(Far(SETTING, seed, None, 1) for seed in SEEDS)),
        *(_group(label, method, ratio) for ratio in COMPRESSIONS for label, method in METHODS.items()),
    ),
    table=Table(
        header=("kept", "empty layers", "test accuracy"),
        row=_row,
        note=(
            "Test accuracy of the last step, mean and 95 % interval (Student's t) over n initialisations; ten classes,"
            " so that guessing is right in 10 %. Empty layers: range over the seeds."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
