"""Permutations of MNIST, a mask each over one random network, with the task given and inferred."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Literal

import torch

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask import EdgePopup, data, models
from supermask.data.tasks import permuted
from supermask.report import mean
from supermask.report.plot import COLORS, STYLES, colored, new_figures, plain_log, save_figure
from supermask.results import Result
from supermask.runs import recorded
from supermask.superposition import (
    Binary,
    EachMask,
    Entropy,
    Inference,
    Learner,
    OneShot,
    Superfluous,
    Superposition,
    measure,
)
from supermask.superposition.measuring import Labelled, Measured
from supermask.training import Recipe

CLASSES = 10
INPUT_SHAPE = (1, 28, 28)
_WAYS: Mapping[str, Inference | None] = {
    "task given": None,
    "one-shot": OneShot(Entropy()),
    "one-shot, G": OneShot(Superfluous(CLASSES)),
    "binary": Binary(Entropy()),
    "lowest entropy": EachMask(),
}
_SLOW = ("binary",)
Fact = Literal["correct", "inferred"]


@dataclass(frozen=True, kw_only=True)
class PermutationsResult(Result):
    """How well tasks are told apart.

    Attributes:
        by_count: by the number of tasks, and by the way that a task is inferred.
        density: of the masks.
        kept: weights of each mask.
        bytes: of the file of all tasks.
        seconds_learning: of all tasks.
        seconds: of learning and measuring.

    """

    by_count: Mapping[int, Mapping[str, Measured]]
    density: float
    kept: int
    bytes: int
    seconds_learning: float
    seconds: float


@dataclass(frozen=True)
class Permutations:
    """Permuted MNIST tasks learned one after another, and how the network does on the first so many of them.

    Attributes:
        counts: numbers of tasks that are told apart; the last is how many are learned.
        outputs: of the network; those past the classes are superfluous.
        score: what edge-popup ranks by.
        scaled: whether the frozen weights are multiplied by 1/sqrt(density).
        iterations: optimizer steps for each task.
        images: test images, over all tasks, for each number of tasks.
        few: the same of what takes several gradients for each image.
        seed: of the random network, the permutations and the training.

    """

    kind: ClassVar[type[Result]] = PermutationsResult

    counts: tuple[int, ...]
    outputs: int = 100
    score: Literal["magnitude", "signed"] = "signed"
    scaled: bool = False
    iterations: int = 300
    images: int = 2000
    few: int = 200
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "counts": list(self.counts)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> PermutationsResult:
        """Learn and measure; it takes minutes, and is not stopped half way."""
        return recorded(PermutationsResult, path, self.config(), lambda _: self._measure(data_folder), resume=True)

    def _measure(self, data_folder: Path | None) -> PermutationsResult:
        began = monotonic()
        mnist = data.load("mnist", folder=data_folder, seed=self.seed)
        learner = self._learned(mnist)
        learned, superposition = monotonic() - began, learner.superposition
        test = mnist.test()  # once, for all tasks
        fixed = replace(mnist, read_test=lambda: test)
        return PermutationsResult(
            by_count={count: self._told_apart(superposition, fixed, count) for count in self.counts},
            density=superposition.tickets[0].density,
            kept=superposition.tickets[0].kept,
            bytes=superposition.size,
            seconds_learning=round(learned, 1),
            seconds=round(monotonic() - began, 1),
        )

    def _learned(self, mnist: data.DataSet) -> Learner:
        search = partial(EdgePopup, density=0.5, seed=self.seed, score=self.score, scaled=self.scaled)
        learner = Learner(self._model(), search)
        recipe = Recipe(
            iterations=self.iterations,
            batch_size=128,
            optimizer="adam",
            learning_rate=1e-3,
            weight_decay=0.0,
            warm_up=0,
            evaluate_every=self.iterations,
        )
        for task in range(self.counts[-1]):
            learner.learn(permuted(mnist, task, seed=self.seed), recipe, seed=self.seed + task, progress=False)
        return learner

    def _model(self) -> torch.nn.Module:
        return models.build("lenet_300_100", input_shape=INPUT_SHAPE, classes=self.outputs)

    def _told_apart(self, superposition: Superposition, mnist: data.DataSet, count: int) -> dict[str, Measured]:
        some = Superposition(self._model(), superposition.tickets[:count])
        tests, fewer = (self._tests(mnist, count, images) for images in (self.images, self.few))
        ways = {way: method for way, method in _WAYS.items() if way != "one-shot, G" or self.outputs > CLASSES}
        return {way: measure(some, fewer if way in _SLOW else tests, method) for way, method in ways.items()}

    def _tests(self, mnist: data.DataSet, count: int, images: int) -> list[Labelled]:
        """Return test images of each task, of which no two tasks have one in common."""
        share = images // count
        tests = []
        for task in range(count):
            own = permuted(mnist, task, seed=self.seed)
            examples = own.test().select(torch.arange(task * share, (task + 1) * share))
            tests.append((own.normalize(examples.images), examples.labels))
        return tests


def _fraction(result: PermutationsResult, count: int, way: str, what: Fact) -> float | None:
    counted = result.by_count[count].get(way)
    return None if counted is None else getattr(counted, what) / counted.total


def _percent(results: Sequence[PermutationsResult], way: str, what: Fact) -> str:
    found = [_fraction(result, result.config["counts"][-1], way, what) for result in results]
    there = [value for value in found if value is not None]
    return mean(there).percent() if there else "-"


def _row(results: Sequence[PermutationsResult]) -> list[str]:
    first = results[0]
    tasks = first.config["counts"][-1]
    return [
        f"{tasks}",
        *(_percent(results, way, "correct") for way in _WAYS if way not in _SLOW),
        *(_percent(results, way, "inferred") for way in ("one-shot", *_SLOW)),
        f"{first.bytes / tasks:,.0f}",
        f"{mean([result.seconds_learning for result in results]).value / tasks:.1f}",
    ]


def _plot(found: Mapping[str, Sequence[PermutationsResult]], path: Path) -> None:
    figure, (accuracy, inferred) = new_figures(2, width=11.0)
    (first, results), *others = found.items()
    for color, way in colored(_WAYS):
        if way not in _SLOW:  # which is measured on fewer, and other, images
            accuracy.plot(*_curve(results, way, "correct"), color=color, marker="o", label=way)
        if _WAYS[way] is not None:
            inferred.plot(*_curve(results, way, "inferred"), color=color, marker="o", label=way)
    for style, color, (label, other) in zip(STYLES, COLORS[::-1], others, strict=False):
        inferred.plot(*_curve(other, "one-shot", "inferred"), linestyle=style, color=color, label=f"{label}: one-shot")
    accuracy.set(xlabel="tasks", ylabel="test accuracy (%)", title=f"Permuted MNIST, {first}")
    inferred.set(xlabel="tasks", ylabel="images whose task is inferred (%)", title="Tasks")
    for axes in (accuracy, inferred):
        plain_log(axes)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def _curve(results: Sequence[PermutationsResult], way: str, what: Fact) -> tuple[list[int], list[float]]:
    """Return the numbers of tasks, and the means over the seeds in per cent."""
    counts: list[int] = results[0].config["counts"]
    means = [mean([_fraction(result, count, way, what) or 0.0 for result in results]).value for count in counts]
    return counts, [100 * value for value in means]


_PUBLISHED = Published(
    "94.91 % (250 tasks)",
    "Wortsman et al. 2020, section 4.2 and table 7: task not given, one image, one-shot",
    "the table itself was not at hand",
)
_COUNTS = (2, 5, 10)

EXPERIMENT = Experiment(
    name="superposition",
    title="Permutations of MNIST, a mask each in one random network",
    source=(
        'Wortsman et al. 2020, "Supermasks in superposition", scenarios GG and GNu, figure 3: LeNet-300-100, signed'
        " constant weights, batches of 128. There: 250 tasks, 1,000 batches each, RMSProp 1e-4, masks by a threshold of"
        " 0, no validation. Here: edge-popup with signed scores at density 0.5, 300 batches each, Adam 1e-3 with a"
        " cosine, fewer tasks: each is learned less well, also when it is given. The test set is read once, after the"
        " last task; its first images, in stored order, are shared out."
    ),
    groups=(
        Group("100 outputs", (Permutations((*_COUNTS, 25, 50, 100)),), _PUBLISHED),
        Group("10 outputs", (Permutations(_COUNTS, outputs=10),)),
        Group("100 outputs, scores by magnitude", (Permutations(_COUNTS, score="magnitude"),)),
        Group("100 outputs, scaled weights", (Permutations(_COUNTS, scaled=True),)),
    ),
    table=Table(
        header=(
            "tasks",
            *(way for way in _WAYS if way not in _SLOW),
            "inferred, one-shot",
            "inferred, binary",
            "bytes per task",
            "seconds per task",
        ),
        row=_row,
        note=(
            "Accuracy over the tasks together, each image by itself; an inferred task has to be right too. One-shot:"
            " from the gradient of the entropy of all masks in superposition, of G where named; lowest entropy: every"
            " mask is run. 2,000 test images, shared out among the tasks. Inferred: images whose task is right; binary"
            " on the first 200. Seconds: of the training alone, on a machine that did other work."
        ),
    ),
    plot=_plot,
)
