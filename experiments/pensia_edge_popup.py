"""Pensia et al. 2020, experiment 2: edge-popup on three random networks of equal size, MNIST, by density."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Published
from experiments.framework.training import ACCURACY, accuracy, trainings
from supermask.report.plot import colored, new_figure, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.training import Recipe

DENSITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
SEEDS = (0,)
RECIPE = Recipe(epochs=5, batch_size=64, weight_decay=5e-4, warm_up=0)
_LOGS = "the authors' repository, acnagle/optimal-lottery-tickets, pruning/results"
_NOTE = "test accuracy after the last of E epochs, sparsity S = 1 - density, one seed"


@dataclass(frozen=True)
class Logged:
    """What one log of the authors' ends with: the test accuracy after the last epoch, of one seed."""

    percent: float
    epochs: int


@dataclass(frozen=True)
class Network:
    """One of the three networks.

    Attributes:
        label: in the table and the plot.
        model: its name in `supermask.models`.
        width: the factor on its hidden units.
        logs: names of the authors' logs of it.
        published: what the logs end with, by density: of those that could be read, the one whose number of epochs comes
            closest to that of the runs here.

    """

    label: str
    model: str
    width: float
    logs: str
    published: Mapping[float, Logged]

    def row(self, density: float) -> str:
        """Return the label of the runs at a density."""
        return f"{self.label}, density {density}"

    def group(self, density: float) -> Group:
        """Return the runs at a density."""
        search = SearchOptions(density=density, weights="kaiming_normal", scaled=False)
        job = Job(model=self.model, width=self.width, data="mnist", recipe=RECIPE, search=search)
        log = self.published[density]
        value = f"{log.percent:.2f} % ({log.epochs} epochs)"
        return Group(self.row(density), trainings(job, SEEDS), Published(value, f"{_LOGS}/{self.logs}", _NOTE))


NETWORKS = (
    Network(
        label="linear diamond",
        model="linear_diamond_500",
        width=1.0,
        logs="redfc2/r5_sS_eE_h500.out",
        published={
            0.01: Logged(16.79, 3),
            0.05: Logged(88.55, 4),
            0.1: Logged(94.42, 5),
            0.25: Logged(96.77, 5),
            0.5: Logged(97.21, 5),
            0.75: Logged(97.01, 4),
            0.9: Logged(96.77, 5),
            0.99: Logged(9.93, 4),
        },
    ),
    Network(
        label="ReLU diamond",
        model="relu_diamond_500",
        width=1.0,
        logs="redfc2/r5_sS_eE_h500_relu.out",
        published={
            0.01: Logged(17.44, 4),
            0.05: Logged(55.80, 3),
            0.1: Logged(77.97, 4),
            0.25: Logged(92.36, 5),
            0.5: Logged(95.99, 5),
            0.75: Logged(96.38, 4),
            0.9: Logged(95.82, 5),
            0.99: Logged(6.92, 4),
        },
    ),
    Network(
        label="wide",
        model="fc_500",
        width=5.016,  # 2,508 hidden units
        logs="widefc2/r5_sS_eE_h500.out",
        published={
            0.01: Logged(87.55, 5),
            0.05: Logged(93.67, 5),
            0.1: Logged(94.96, 4),
            0.25: Logged(97.30, 7),
            0.5: Logged(97.13, 4),
            0.75: Logged(97.44, 5),
            0.9: Logged(97.15, 5),
            0.99: Logged(27.82, 4),
        },
    ),
)


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figure()
    for color, network in colored(NETWORKS):
        done = [density for density in DENSITIES if network.row(density) in found]
        axes.plot(
            done,
            [100 * accuracy(found[network.row(d)]).value for d in done],
            color=color,
            marker="o",
            label=network.label,
        )
        logged = [network.published[density].percent for density in DENSITIES]
        axes.plot(DENSITIES, logged, color=color, linestyle="--", linewidth=1, label=f"{network.label}, published")
    axes.set(xscale="logit", xlabel="density (fraction of weights kept)", ylabel="test accuracy (%)")
    axes.set_xticks(DENSITIES, [f"{density:g}" for density in DENSITIES])
    axes.set_xticks([], minor=True)
    axes.set_title("MNIST: edge-popup on about 1,991,400 random weights")
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="pensia_edge_popup",
    title="Pensia et al. 2020, experiment 2: edge-popup on diamonds and on a wide network",
    source=(
        "Three random networks of one size, made from 784-500-10. In the diamonds each weight is five paths of two"
        " weights, without (linear) or with a ReLU between the two: 1,991,420 weights. The wide network is"
        " 784-2508-10: 1,991,352 weights. As published: unscaled Kaiming normal weights, no biases, each layer pruned"
        " to the density, SGD 0.1, momentum 0.9, weight decay 5e-4, cosine, batch 64. The authors' script trains for"
        " 30 to 150 epochs of 60,000 examples, and their figure, which has no table, shows the best final test"
        " accuracy of five sets of runs."
        f" Here it is {RECIPE.epochs} epochs of 55,000 examples, 5,000 for validation, so the last column is of those"
        " of their logs that ran for 3 to 7 epochs. More epochs are not better in the logs: the ReLU diamond at"
        " density 0.5 ends at 95.99 % after 5, at 86.49 % after 50 and at 27.38 % after 150. The first scores of a"
        " diamond are uniform on +-1/sqrt(fan-in) here, and on +-sqrt(2) and +-sqrt(2/inputs) there; the cosine falls"
        " with every step here, and with every epoch there."
    ),
    groups=tuple(network.group(density) for network in NETWORKS for density in DENSITIES),
    table=ACCURACY,
    plot=_plot,
)
