"""What `supermask compare` shows: edge-popup, the dense network and a random mask on the embedded digits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group
from experiments.framework.training import ACCURACY, accuracy, trainings
from supermask.cli.options import DIGITS
from supermask.report.plot import colored, new_figure, save_figure
from supermask.runs import Job, JobResult

SEEDS = (0, 1, 2)
JOB = Job(recipe=replace(DIGITS, best="loss"))  # what "auto" means for 144 examples


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figure()
    for color, (label, results) in colored(found.items()):
        mean = accuracy(results)
        axes.bar(label, 100 * mean.value, yerr=100 * (mean.half_width or 0.0), color=color, capsize=5)
    axes.set(ylabel="test accuracy (%)", title="LeNet-300-100 on the digits, density 0.3", ylim=(0, 102))
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="digits",
    title="LeNet-300-100 on the digits: edge-popup, dense, random mask",
    source=(
        "Our own: the runs of `supermask compare` with its defaults. Density 0.3, signed constant weights scaled by"
        " 1/sqrt(density), SGD 0.1, momentum 0.9, weight decay 1e-4, cosine, batch 64, 40 epochs of 1,293 examples of"
        " 8x8 pixels; 144 choose the step of lowest loss, 360 test. Nothing of the random mask is trained. The dense"
        " network counts its trained biases among what it keeps."
    ),
    groups=tuple(
        Group(method, trainings(replace(JOB, method=method), SEEDS))
        for method in ("edge_popup", "dense", "random_mask")
    ),
    table=ACCURACY,
    plot=_plot,
)
