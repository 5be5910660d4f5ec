"""A strong ticket without a backward pass: accuracy by the number of forward passes, beside edge-popup."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.training import accuracy, trainings
from supermask.report import mean
from supermask.report.plot import COLORS, STYLES, new_figures, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.search.node_perturbation import NodePerturbationRule, PassCount
from supermask.training import Recipe

SEEDS = (0, 1, 2)
DENSITY, SPARSER = 0.5, 0.3
BATCH, EPOCHS = 128, 8
STEPS = EPOCHS * (55_000 // BATCH)
MULTIPLY_ADDS = (784 * 300, 300 * 100, 100 * 10)
"""Of the layers of LeNet-300-100, for one example."""
BACKWARD = 2
"""Forward passes that a backward pass counts as: it makes two products for each layer, a forward pass one."""

JOB = Job(
    method=NodePerturbationRule.name,
    model="lenet_300_100",
    data="mnist",
    recipe=Recipe(epochs=EPOCHS, batch_size=BATCH),
    search=SearchOptions(density=DENSITY),
)
_WHOLE = sum(MULTIPLY_ADDS)


def whole_passes(directions: int) -> int:
    """Return the forward passes of a step, each counted as a whole one: noise is on two layers."""
    return 1 + 2 * directions


def worked_passes(directions: int) -> float:
    """Return the multiply-adds of a step, in whole passes: what lies in front of the noise is not repeated."""
    _, second, third = MULTIPLY_ADDS
    return (_WHOLE + directions * (second + third) + directions * third) / _WHOLE


def _perturbed(directions: int) -> Job:
    return replace(JOB, options=NodePerturbationRule(directions=directions))


def _edge_popup(passes: float) -> Job:
    """Return the job of edge-popup that ends when it has made as many passes as this many in each of `STEPS` steps."""
    steps = round(STEPS * passes / (1 + BACKWARD))
    return replace(JOB, method="edge_popup", recipe=replace(JOB.recipe, iterations=steps))


def _counted(result: JobResult) -> tuple[float, float]:
    """Return the forward passes of a run over all examples: each as a whole one, and by multiply-adds."""
    if isinstance(result.details, PassCount):
        return result.details.forward_passes, result.details.multiply_adds / _WHOLE
    whole = result.steps * BATCH * (1 + BACKWARD)
    return whole, whole


def _row(results: Sequence[JobResult]) -> list[str]:
    whole, worked = _counted(results[0])
    seconds = mean([result.seconds for result in results])
    return [
        accuracy(results).percent(),
        f"{results[0].steps:,}",
        f"{whole / 1e6:.2f}",
        f"{worked / 1e6:.2f}",
        f"{seconds.value:.0f}",
    ]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, (by_whole, by_work) = new_figures(2, width=11.0, height=4.4)
    for place, (label, results) in enumerate(found.items()):
        curves = np.array([[point.validation_accuracy for point in result.history] for result in results])
        # from the first evaluation on: the untrained network has made no pass
        fractions = np.array([point.step for point in results[0].history[1:]]) / results[0].steps
        for axes, total in zip((by_whole, by_work), _counted(results[0]), strict=True):
            axes.plot(
                total * fractions,
                100 * curves.mean(0)[1:],
                color=COLORS[place % len(COLORS)],
                linestyle=STYLES[place // len(COLORS)] if "edge_popup" not in label else "--",
                label=label,
            )
    by_whole.set(xlabel="forward passes x examples, each a whole one", ylabel="validation accuracy (%)")
    by_work.set(xlabel="the same, by multiply-adds")
    for axes in (by_whole, by_work):
        axes.set(xscale="log", ylim=(80, 100))
        axes.axhline(95, color="k", linewidth=0.8, linestyle=":")
    by_work.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save_figure(figure, path)


_JOBS: Mapping[str, Job] = {
    "8 directions": _perturbed(8),
    "2 directions": _perturbed(2),
    "8 directions, no feedback": replace(JOB, options=NodePerturbationRule(directions=8, feedback_rate=0.0)),
    f"8 directions, density {SPARSER:g}": replace(_perturbed(8), search=SearchOptions(density=SPARSER)),
    "edge_popup, multiply-adds of 8 directions": _edge_popup(worked_passes(8)),
    "edge_popup, passes of 2 directions": _edge_popup(whole_passes(2)),
    "edge_popup, passes of 8 directions": _edge_popup(whole_passes(8)),
}

EXPERIMENT = Experiment(
    name="no_backward",
    title="A strong ticket without a backward pass: LeNet-300-100 on MNIST",
    source=(
        "Our own: node perturbation trains the scores of edge-popup by forward passes alone. In each step the network"
        " is run once as it is, and once for each direction and each of the two hidden layers with noise on some of"
        " its units. Density 0.5 where none is given, signed constant weights scaled by 1/sqrt(density), SGD 0.1,"
        f" momentum 0.9, weight decay 1e-4, cosine after a warm-up over 40 % of the steps, batch {BATCH}, {EPOCHS}"
        " epochs of 55,000 examples, 5,000 for validation. Without feedback nothing predicts what the noise does."
        " Edge-popup has the same recipe, and ends when it has made as many passes as the row that it names; a"
        " backward pass counts as two forward passes, and its learning rate falls to zero by then."
    ),
    groups=tuple(Group(label, trainings(job, SEEDS)) for label, job in _JOBS.items()),
    table=Table(
        header=("test accuracy", "steps", "passes, millions", "by multiply-adds", "seconds"),
        row=_row,
        note=(
            "Test accuracy: mean and 95 % interval (Student's t) over n seeds; the best step was chosen on the"
            " validation split and the test set read once. Passes: forward passes x training examples, each counted as"
            " a whole one, though a pass with noise on a layer begins behind it. By multiply-adds: what these passes"
            " really did, in whole passes of the network, pruned weights included. Evaluations are left out. Seconds:"
            " mean per run, evaluations included, one thread each, on a machine that did other work."
        ),
    ),
    plot=_plot,
)
