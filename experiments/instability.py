"""From which step on two trainings that see other orders of the examples end in one linearly connected valley."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import CIFAR, FASHION, LENET, Small, Study
from supermask.baselines.instability import copies, has_statistics, instability
from supermask.baselines.method import RunContext
from supermask.judge.barrier import STABLE, Barrier
from supermask.report.plot import COLORS, new_figures, save_figure
from supermask.results import Result
from supermask.training import State

SEEDS = (0, 1, 2)
ORDERS = (101, 102, 103)
EXAMPLES = 2_000
"""Training examples at each place on a line, for the statistics and for the error."""
CONVERGED = "Frankle et al. 2020, figures 2 to 4: ResNet-20 on CIFAR-10, 63,000 steps; LeNet on MNIST"


@dataclass(frozen=True, kw_only=True)
class InstabilityResult(Result):
    """Three copies of one network.

    Attributes:
        barriers: of each pair, with the statistics of batch norm estimated at every place.
        interpolated: test barriers with interpolated statistics, of the first pair at least.

    """

    barriers: tuple[Barrier, ...]
    interpolated: tuple[float, ...]


@dataclass(frozen=True)
class FromStep(Study[InstabilityResult]):
    """Copies of a dense network from one step on.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights, and of the order of the training that leads to the step.
        step: k.
        steps: every k of this setting: one training visits them all.
        reset: the copies are trained for the whole schedule, not for what is left of it.

    """

    kind: ClassVar[type[Result]] = InstabilityResult

    step: int
    steps: tuple[int, ...] = (0,)
    reset: bool = False

    def own(self) -> dict[str, Any]:
        """Return the step, and how the copies are trained and compared."""
        return {"step": self.step, "reset": self.reset, "orders": [*ORDERS], "examples": EXAMPLES}

    def measure(self, context: RunContext) -> InstabilityResult:
        """Train the copies; all steps of a seed share the training that leads to them."""
        start = early(context, self.steps)[self.step]
        start = start.rescheduled() if self.reset else start
        networks = copies(context, context.whole, start, ORDERS, stage=f"{'reset-' * self.reset}from-{self.step}")
        found = instability(context, networks, examples=EXAMPLES)
        first = found
        if has_statistics(networks[0]):
            first = instability(context, networks[:2], examples=EXAMPLES, statistics="interpolated")
        return InstabilityResult(barriers=found.barriers, interpolated=tuple(pair.height for pair in first.barriers))


def early(context: RunContext, steps: Sequence[int]) -> Mapping[int, State]:
    """Return the states of the dense network at some steps, with the optimizer's momentum."""
    if not any(steps):
        return {0: State.of(0, context.sparse(), None)}
    return context.train(context.sparse(), stage="trunk", keep=steps).kept


def _row(results: Sequence[InstabilityResult]) -> list[str]:
    pairs = [pair for result in results for pair in result.barriers]
    interpolated = [height for result in results for height in result.interpolated]
    ends = fmean(error for pair in pairs for error in (pair.errors[0], pair.errors[-1]))
    heights = [pair.height for pair in pairs]
    return [
        f"{ends:.1%}",
        _points(heights),
        f"{100 * median(pair.train_height for pair in pairs):.2f}",
        f"{100 * median(interpolated):.2f}",
        f"{median(pair.disagreement for pair in pairs):.1%}",
        f"{median(pair.distance for pair in pairs):.1f}",
        f"{sum(height < STABLE for height in heights)} of {len(heights)}",
    ]


def _points(heights: Sequence[float]) -> str:
    return f"{100 * median(heights):.2f} ({100 * min(heights):.2f} to {100 * max(heights):.2f})"


def _plot(found: Mapping[str, Sequence[InstabilityResult]], path: Path) -> None:
    figure, panels = new_figures(3, 13.0)
    for panel, name in zip(panels, ("CIFAR-10", "Fashion-MNIST", "MNIST"), strict=True):
        own = {label: results for label, results in found.items() if label.startswith(name)}
        for number, (label, results) in enumerate(own.items()):
            pairs = [pair for result in results for pair in result.barriers]
            curve = [100 * median(above) for above in zip(*map(_above_the_ends, pairs), strict=True)]
            color = COLORS[number % len(COLORS)]
            style = "-" if number < len(COLORS) else "--"
            panel.plot(pairs[0].fractions, curve, style, color=color, label=label.removeprefix(f"{name}, "))
        panel.set(xlabel="a of a W1 + (1 - a) W2", title=name)
        if own:
            panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("test error above the ends' mean (points)")
    save_figure(figure, path)


def _above_the_ends(pair: Barrier) -> list[float]:
    ends = (pair.errors[0] + pair.errors[-1]) / 2
    return [error - ends for error in pair.errors]


def _group(label: str, setting: Small, step: int, steps: tuple[int, ...], published: str, **options: Any) -> Group:
    tasks = tuple(FromStep(setting, seed, step, steps, **options) for seed in SEEDS)
    return Group(label, tasks, Published(published, CONVERGED) if published else None)


def _groups(name: str, setting: Small, steps: tuple[int, ...]) -> list[Group]:
    length = setting.job.recipe.iterations or 0
    own = setting.with_recipe
    # ResNet-20 becomes stable after 2,000 of 63,000 steps
    known = ["unstable" if step < 0.03 * length else "stable" for step in steps]
    middle = steps[2]
    return [
        *(
            _group(f"{name}, k = {step} ({step / length:.0%})", setting, step, steps, said)
            for step, said in zip(steps, known, strict=True)
        ),
        *(
            [_group(f"{name}, k = {middle}, whole schedule", setting, middle, steps, "as without", reset=True)]
            if setting is CIFAR
            else []
        ),
        _group(f"{name}, rate 0.01, k = 0", own(learning_rate=0.01), 0, (0,), "stable"),
        _group(f"{name}, rate 0.03, warm-up, k = 0", own(learning_rate=0.03, warm_up=0.5), 0, (0,), "stable"),
    ]


EXPERIMENT = Experiment(
    name="instability",
    title="Instability to the noise of SGD: the barrier between copies of one network",
    source=(
        "Frankle, Dziugaite, Roy & Carbin 2020, figures 2 to 4, in a setting that fits a CPU: ResNet-8 of half width"
        " (19,954 parameters), CIFAR-10 at 16x16 pixels (20,000 training and 4,000 test examples, 1,000 steps) and"
        " Fashion-MNIST at 14x14 (the same, 800 steps), batches of 64, SGD 0.1 with momentum 0.9, a tenth of the rate"
        " after 50 and 75 % of the steps, crops and flips. LeNet-300-100 on MNIST: batches of 60, 3,000 steps at a"
        " constant rate, by Adam 1.2e-3 as in the paper, and by SGD 0.1 with momentum 0.9. Three initialisations, and"
        " three copies of each that start from its state at step k, momentum included, and differ in the order of the"
        " examples and the augmentation: nine pairs. On the line between two copies there are 30 places, both ends"
        " included. The steps are a sixtieth of the published ones, and far from convergence."
    ),
    groups=(
        *_groups("CIFAR-10", CIFAR, (0, 20, 100, 300, 600)),
        *_groups("Fashion-MNIST", FASHION, (0, 16, 80, 240, 480)),
        _group("MNIST, LeNet, Adam, k = 0", LENET, 0, (0,), "stable"),
        _group("MNIST, LeNet, SGD 0.1, k = 0", LENET.with_recipe(optimizer="sgd", learning_rate=0.1), 0, (0,), ""),
    ),
    table=Table(
        header=("error", "barrier", "train", "interpolated", "differ", "distance", "stable"),
        row=_row,
        note=(
            "n: initialisations, of three pairs each. Error: of the copies on the test set, mean. Barrier: the largest"
            " test error on the line minus the mean of its ends, in points: median over the pairs (smallest to"
            " largest). Train: the same of the training error. Interpolated: the test barrier where batch norm"
            " normalises with interpolated statistics, of one pair or more of each initialisation; everywhere else"
            " they are estimated again at every place. Differ: test examples that the two copies classify differently."
            " Distance: Euclidean, between the copies. Stable: pairs with a test barrier below 2 points."
        ),
    ),
    plot=_plot,
)
