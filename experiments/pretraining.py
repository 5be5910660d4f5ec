"""What an early phase takes from its data: pretraining on random labels, quarter turns and blurred images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import CIFAR, Study
from supermask.baselines.method import RunContext
from supermask.data import DataSet
from supermask.data.corruptions import blurred, quarter_turns, random_labels
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.report import mean
from supermask.report.plot import colored, new_figures, plain_log, save_figure
from supermask.results import Result
from supermask.runs import build_network
from supermask.training import Outcome, train

SEEDS = (0, 1)
LENGTHS = (100, 300, 1000)
DENSITY = 0.8**6
TaskName = Literal["true labels", "random labels", "rotation", "blur", "rotation and blur"]
TASKS: Mapping[TaskName, Callable[[DataSet], DataSet]] = {
    "true labels": lambda data: data,
    "random labels": partial(random_labels, seed=0),
    "rotation": partial(quarter_turns, seed=0),
    "blur": blurred,
    "rotation and blur": lambda data: quarter_turns(blurred(data), seed=0),
}


@dataclass(frozen=True, kw_only=True)
class PretrainedResult(Result):
    """Test accuracies of networks that were trained after a pretraining, as fractions.

    Attributes:
        task: of the pretraining, on the test examples of its own; None without a pretraining.
        dense: of the dense network.
        sparse: of the network pruned after the dense training, and rewound to the pretrained weights.

    """

    task: float | None
    dense: float
    sparse: float


@dataclass(frozen=True)
class Pretrained(Study[PretrainedResult]):
    """A network that is first trained on another task, and then as usual.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights.
        task: of the pretraining; None leaves it out.
        steps: of the pretraining, at the constant peak rate.
        sparse: the pretraining has the masks of the network that was not pretrained.

    """

    kind: ClassVar[type[Result]] = PretrainedResult

    task: TaskName | None = None
    steps: int = 0
    sparse: bool = False

    def own(self) -> dict[str, Any]:
        """Return the pretraining."""
        return {"task": self.task, "steps": self.steps, "sparse": self.sparse, "density": DENSITY}

    def measure(self, context: RunContext) -> PretrainedResult:
        """Pretrain, train, prune, rewind to the pretrained weights and train again."""
        initial = context.sparse().model.state_dict()
        masks = _pruned(_dense(context, initial, "none")) if self.sparse else None
        start, accuracy = self._pretrained(context, initial, masks)
        where = f"{self.task}{'-sparse' * self.sparse}-{self.steps}" if self.task else "none"
        dense = _dense(context, start, where)
        sparse = context.sparse(masks or _pruned(dense))
        sparse.load_weights(start)
        return PretrainedResult(
            task=accuracy,
            dense=dense.test.accuracy,
            sparse=context.train(sparse, stage=f"sparse-after-{where}".replace(" ", "-")).test.accuracy,
        )

    def _pretrained(
        self, context: RunContext, initial: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None
    ) -> tuple[Mapping[str, Tensor], float | None]:
        """Return the weights after the pretraining, and the accuracy on its own test examples."""
        if self.task is None:
            return initial, None
        data = TASKS[self.task](context.data)
        own = replace(context, data=data, build=partial(build_network, self.seeded.job.settled(), data))
        network = own.sparse()
        if masks is not None:
            own_masks = network.masks().items()
            network.set_masks({name: masks[name] if masks[name].shape == m.shape else m for name, m in own_masks})
        recipe = replace(context.recipe, iterations=self.steps, decay="constant", evaluate_every=self.steps)
        outcome = train(network, data, recipe, seed=context.seed, device=context.device, progress=False)
        found = outcome.last["model"]
        # the classifier of another number of classes is left behind
        start = {name: found[name] if found[name].shape == there.shape else there for name, there in initial.items()}
        return start, outcome.test.accuracy


def _dense(context: RunContext, start: Mapping[str, Tensor], where: str) -> Outcome:
    """Train the dense network from some weights."""
    network = context.sparse()
    network.load_weights(start)
    return context.train(network, stage=f"dense-after-{where}".replace(" ", "-"))


def _pruned(dense: Outcome) -> dict[str, Tensor]:
    """Return the masks of the largest weights after a dense training, over the whole network."""
    last = dense.last
    scores = {name: last["model"][name].abs() for name in last["masks"]}
    total = sum(score.numel() for score in scores.values())
    return prune(scores, [Pool((*scores,), round(DENSITY * total))])


Found = Mapping[str, Sequence[PretrainedResult]]


def _row(results: Sequence[PretrainedResult]) -> list[str]:
    tasks = [result.task for result in results if result.task is not None]
    return [
        mean(tasks).percent() if tasks else "-",
        mean([result.dense for result in results]).percent(),
        mean([result.sparse for result in results]).percent(),
    ]


def _plot(found: Found, path: Path) -> None:
    figure, panels = new_figures(2, 11.0)
    for panel, what in zip(panels, ("dense", "sparse"), strict=True):
        none = found.get("no pretraining")
        if none:
            level = 100 * mean([getattr(result, what) for result in none]).value
            panel.axhline(level, color="k", linestyle="--", linewidth=1, label="no pretraining")
        for color, task in colored(get_args(TaskName)):
            rows = {steps: found.get(f"{task}, {steps:,} steps") for steps in LENGTHS}
            shown = {steps: results for steps, results in rows.items() if results}
            values = [100 * mean([getattr(result, what) for result in results]).value for results in shown.values()]
            panel.plot([*shown], values, ".-", color=color, label=task)
        panel.set(xlabel="steps of the pretraining", title=f"{what} network, trained afterwards")
        plain_log(panel)
    panels[0].set_ylabel("test accuracy (%)")
    panels[1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _equal_gain(found: Found) -> str:
    """Return how many supervised steps gain as much as each pretraining, between the lengths that were measured."""
    supervised = {steps: found.get(f"true labels, {steps:,} steps") for steps in LENGTHS}
    none = found.get("no pretraining")
    if none is None or not all(supervised.values()):
        return "The curve of equal gain needs the rows without a pretraining and with true labels."
    lengths = [0, *LENGTHS]
    gains = [mean([result.dense for result in results]).value for results in (none, *supervised.values()) if results]
    said = []
    for task, steps in product(get_args(TaskName)[1:], LENGTHS):
        results = found.get(f"{task}, {steps:,} steps")
        if results:
            gain = mean([result.dense for result in results]).value
            said.append(f"{task}, {steps:,} steps: {_reached(lengths, gains, gain)}")
    return f"Supervised steps after which the dense network is as accurate: {'; '.join(said)}."


def _reached(lengths: Sequence[int], gains: Sequence[float], gain: float) -> str:
    if gain <= gains[0]:
        return "none"
    for (before, low), (after, high) in pairwise(zip(lengths, gains, strict=True)):
        if low < gain <= high:
            return f"{before + (after - before) * (gain - low) / (high - low):,.0f}"
    return f"more than {lengths[-1]:,}"


_SAID: Mapping[TaskName, str] = {
    "true labels": "the measure",
    "random labels": "10 epochs do not gain, longer ones lose",
    "rotation": "40 epochs gain as 1.25 supervised ones",
    "blur": "40 epochs gain as 1.25 supervised ones",
    "rotation and blur": "does not gain",
}


def _group(task: TaskName, steps: int, *, sparse: bool = False) -> Group:
    said = Published(
        "no gain" if sparse else _SAID[task], "Frankle, Schwab & Morcos 2020, section 6, ResNet-20, as summarised"
    )
    label = f"{task}, {steps:,} steps{', sparse' * sparse}"
    return Group(label, tuple(Pretrained(CIFAR, seed, task, steps, sparse) for seed in SEEDS), said)


EXPERIMENT = Experiment(
    name="pretraining",
    title="What an early phase takes from its data",
    source=(
        "Frankle, Schwab & Morcos 2020, section 6, in a setting that fits a CPU: ResNet-8 of half width, CIFAR-10 at"
        " 16x16 pixels (see instability.md). The network is first trained on another task at the constant rate 0.1,"
        " and then from there for the usual 1,000 steps with a fresh optimizer. Random labels are drawn over all"
        " classes; rotation is to tell the number of quarter turns, drawn at every step, exact; blur averages blocks of"
        " 4x4 pixels. The classifier of the rotation tasks is left behind, and everything else is kept. Dense: this"
        " network. Sparse: 26.2 % of its weights, the largest over the whole network after the dense training, set back"
        " to the pretrained weights and trained for 1,000 steps. In the rows named sparse the pretraining already has"
        " the masks of the network without a pretraining."
    ),
    groups=(
        Group("no pretraining", tuple(Pretrained(CIFAR, seed) for seed in SEEDS)),
        *(_group(task, steps) for task, steps in product(get_args(TaskName), LENGTHS)),
        _group("rotation", LENGTHS[-1], sparse=True),
    ),
    table=Table(
        header=("its own task", "dense", "sparse"),
        row=_row,
        note=(
            "Test accuracies of the last step: mean and 95 % interval (Student's t) over n seeds of initialisation and"
            " order. Its own task: after the pretraining, on the test examples of its task; of random labels these have"
            " their true ones."
        ),
    ),
    plot=_plot,
    conclusion=_equal_gain,
)
