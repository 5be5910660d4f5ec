"""Every method of the comparison at equal weights and at equal bytes: LeNet-300-100 on MNIST, a small LeNet-5."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

from torch import nn

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.small import Small
from experiments.measuring.stored import stored_bytes
from supermask.baselines.at_initialisation import SNIP, ConcreteTickets, RandomERK
from supermask.baselines.channel_pruning.channel_tickets import ChannelTickets
from supermask.baselines.channel_pruning.structured_sparsity import StructuredSparsity
from supermask.baselines.during_training import L0, VariationalDropout
from supermask.baselines.low_rank import Pufferfish
from supermask.baselines.rounds import IMP, FineTune, OptimalBrainDamage
from supermask.graph import savings_of
from supermask.report import mean
from supermask.report.plot import COLORS, frame_accuracies, new_figures, plain_log, save_figure
from supermask.results import Result
from supermask.runs import Job, SearchOptions, build_network, recorded
from supermask.runs.fit import example_of
from supermask.runs.run_job import Ticketed
from supermask.search.algorithm import Algorithm
from supermask.search.edge_popup import EdgePopupRule
from supermask.training import Recipe

SEEDS = (0, 1, 2)
PRUNE_STEP = 100
WEIGHTS, BYTES = "equal weights", "equal bytes"
BOTH = "both equal"
WIDER, AT_ITS_BYTES = "edge_popup, half of a wider one", "imp, the bytes of that"
ADAM = Recipe(epochs=2, optimizer="adam", learning_rate=2e-3, weight_decay=0.0)


@dataclass(frozen=True)
class Setting:
    """A network, its data, and the sizes at which the methods that do not count weights have as many weights or bytes.

    The file of a mask at the density with its float32 values has the bytes that the others are held to.

    Attributes:
        title: of the plot.
        small: how it is trained, dense.
        density: of the methods that count weights.
        dense: width of a dense network by what is equal.
        mask: width at which the mask of half of the weights has these bytes, before any coding.
        coded: density of a pruned network that has the bytes of that ticket, coded.
        filters: fraction of the filters that is left, by what is equal.
        low_rank: density of Pufferfish at equal bytes.
        narrow: how dense networks of so few units are trained: at the others' rate some of them do not learn.

    """

    title: str
    small: Small
    density: float
    dense: Mapping[str, float]
    mask: float
    coded: float
    filters: Mapping[str, float]
    low_rank: float
    narrow: Recipe


LENET = Setting(
    "LeNet-300-100 on MNIST",
    Small(Job(method="dense", model="lenet_300_100", data="mnist", recipe=Recipe(epochs=2))),
    density=0.05,
    dense={WEIGHTS: 0.056, BYTES: 0.068},
    mask=1.8,
    coded=0.0095,
    filters={WEIGHTS: 0.056, BYTES: 0.068},
    low_rank=0.0605,
    narrow=Recipe(epochs=2, learning_rate=0.02, warm_up=0.1),
)
LENET5 = Setting(
    "LeNet-5 on Fashion-MNIST",
    Small(Job(method="dense", model="lenet5", data="fashion_mnist", recipe=ADAM), size=14),
    density=0.1,
    dense={WEIGHTS: 0.288, BYTES: 0.342},
    mask=2.22,
    coded=0.0295,
    filters={WEIGHTS: 0.288, BYTES: 0.342},
    low_rank=0.13,
    narrow=ADAM,
)


@dataclass(frozen=True, kw_only=True)
class RivalResult(Result):
    """One method, one seed.

    Attributes:
        accuracy: on the test set, a fraction.
        kept: numbers in weights of two and more dimensions that are not zero.
        bytes: of the smallest file of the network, as `experiments.measuring.stored` counts them.
        speed_up: multiply-adds of the whole network over those of this one whose weight is not zero.
        seconds: of all trainings.

    """

    accuracy: float
    kept: int
    bytes: int
    speed_up: float
    seconds: float


@dataclass(frozen=True)
class Rival:
    """A job whose network is counted and measured as a file.

    Attributes:
        small: its setting, with the seed.

    """

    kind: ClassVar[type[Result]] = RivalResult

    small: Small

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.small.job.seed}"

    def config(self) -> dict[str, Any]:
        """Return the setting as plain values."""
        return self.small.config()

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> RivalResult:
        """Train, and count what is left."""
        job = self.small.job.settled()

        def measure(folder: Path) -> RivalResult:
            began = monotonic()
            context = self.small.context(folder, device=device, data_folder=data_folder)
            data = context.data
            found = context.carry_out(job.algorithm)
            seconds = monotonic() - began
            example = example_of(data).inputs
            whole = savings_of(build_network(replace(job, width=1.0), data), example)
            network = _plain(found.subject, build_network(job, data)).cpu()
            left = savings_of(network, example)
            return RivalResult(
                accuracy=found.outcome.test.accuracy,
                kept=sum(int(each.count_nonzero()) for each in network.parameters() if each.ndim > 1),
                bytes=stored_bytes(found.subject),
                speed_up=whole.multiply_adds / max(1, left.nonzero_multiply_adds),
                seconds=round(seconds, 1),
            )

        return recorded(RivalResult, path, self.config(), measure, device=device, resume=True)


def _plain(subject: Any, fresh: nn.Module) -> nn.Module:
    """Return the network of a subject as a plain module: that of a strong ticket is grown again."""
    if isinstance(subject, Ticketed) and not subject.ticket().provenance.get("trained", False):
        return subject.ticket().apply(fresh)
    model: nn.Module = subject.model
    return model


def _counted(density: float) -> Iterator[tuple[str, Algorithm]]:
    """Yield the methods whose density counts weights, with the label of the row: those with rounds take two."""
    rate = 1.0 - density**0.5
    yield "magnitude, fine-tuned", FineTune(rate=1.0 - density, slower=0.1)
    yield "imp", IMP(rate=rate)
    yield "optimal_brain_damage", OptimalBrainDamage(rate=rate)
    yield "snip", SNIP()
    yield f"snip at step {PRUNE_STEP}", SNIP(prune_step=PRUNE_STEP)
    yield "concrete_tickets", ConcreteTickets(steps=300)
    yield "l0", L0()
    yield "variational_dropout", VariationalDropout()
    yield "random_erk", RandomERK()


def _rows(setting: Setting) -> Iterator[tuple[str, Job]]:
    dense = setting.small.job

    def by(method: Algorithm, density: float) -> Job:
        return replace(dense, method=method.name, options=method, search=SearchOptions(density=density))

    yield "dense, whole", dense
    for label, method in _counted(setting.density):
        yield f"{label}, {BOTH}", by(method, setting.density)
    strong = replace(by(EdgePopupRule(), setting.density), options=None, recipe=Recipe(epochs=2))
    yield f"edge_popup, {WEIGHTS}", strong
    yield WIDER, replace(strong, width=setting.mask, search=SearchOptions(density=0.5))
    yield AT_ITS_BYTES, by(IMP(rate=1.0 - setting.coded**0.5), setting.coded)
    for what, density in ((WEIGHTS, setting.density), (BYTES, setting.low_rank)):
        yield f"pufferfish, {what}", by(Pufferfish(), density)
    for what, filters in setting.filters.items():
        yield f"structured_sparsity, {what}", by(StructuredSparsity(retrain=0.5, rate=0.1), filters)
        yield f"channel_tickets, {what}", by(ChannelTickets(rate=1.0 - filters**0.5), filters)
    for what, width in setting.dense.items():
        yield f"dense, narrow, {what}", replace(dense, width=width, recipe=setting.narrow)


def _row(results: Sequence[RivalResult]) -> list[str]:
    kept, size, speed_up = (
        mean([getattr(result, what) for result in results]).value for what in ("kept", "bytes", "speed_up")
    )
    seconds = mean([result.seconds for result in results]).value
    accuracy = mean([result.accuracy for result in results]).percent()
    return [f"{kept:,.0f}", f"{size:,.0f}", f"{speed_up:.1f}", accuracy, f"{seconds:.0f}"]


def _plot(found: Mapping[str, Sequence[RivalResult]], path: Path) -> None:
    figure, axes = new_figures(2, width=14.0, height=5.2)
    for place, setting in zip(axes, (LENET, LENET5), strict=True):
        shown = {label: results for label, results in found.items() if label.startswith(f"{setting.small.job.model}, ")}
        for number, (label, results) in enumerate(shown.items()):
            accuracy = mean([100 * result.accuracy for result in results])
            place.errorbar(
                [mean([result.bytes for result in results]).value],
                [accuracy.value],
                yerr=[accuracy.half_width or 0.0],
                marker="osD^v<>P"[number // len(COLORS)],
                color=COLORS[number % len(COLORS)],
                linestyle="none",
                capsize=2,
                label=label.removeprefix(f"{setting.small.job.model}, "),
            )
        place.set(xlabel="bytes of the file", ylabel="test accuracy (%)", title=setting.title)
        plain_log(place)
        frame_accuracies(place)
    # the same methods on both, in the same order
    axes[-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _conclusion(found: Mapping[str, Sequence[RivalResult]]) -> str:
    said = []
    for setting in (LENET, LENET5):
        for what in (WEIGHTS, BYTES):
            rows = {
                label.removeprefix(f"{setting.small.job.model}, "): mean([result.accuracy for result in results]).value
                for label, results in found.items()
                if label.startswith(f"{setting.small.job.model}, ") and label.endswith((what, BOTH))
            }
            order = sorted(rows, key=lambda label: -rows[label])
            if len(order) > 1:
                first = ", ".join(f"{label.removesuffix(f', {BOTH}')} {rows[label]:.2%}" for label in order[:3])
                last = f"{order[-1].removesuffix(f', {BOTH}')} {rows[order[-1]]:.2%}"
                said.append(f"{setting.title}, {what}: {first}; the last is {last}.")
    return " ".join(said)


def _groups() -> tuple[Group, ...]:
    return tuple(
        Group(
            f"{setting.small.job.model}, {label}",
            tuple(Rival(replace(setting.small, job=job).seeded(seed)) for seed in SEEDS),
        )
        for setting in (LENET, LENET5)
        for label, job in _rows(setting)
    )


EXPERIMENT = Experiment(
    name="rivals",
    title="Every rival at equal weights and at equal bytes: LeNet-300-100 and LeNet-5",
    source=(
        f"LeNet-300-100 on MNIST at density {LENET.density:g}, LeNet-5 on Fashion-MNIST of 14x14 pixels at"
        f" {LENET5.density:g}, and what else has as many weights, or as many bytes. A pruned network is the file of its"
        " ticket, in which the mask is coded, and its kept values as float32; a narrow or low-rank one is its float32"
        " tensors; a strong ticket is its file alone. So methods whose density counts weights are equal in both"
        f" ({BOTH}). A mask of the same bytes is half of a wider network, and is coded in fewer; imp has a row at its"
        " bytes. All train 2 epochs of 55,000 examples in batches of 128 with a cosine: LeNet-300-100 and all scores"
        " with SGD at 0.1 (narrow dense ones at 0.02), LeNet-5 with Adam at 2e-3. imp, optimal_brain_damage and"
        " channel_tickets take two rounds after the dense training, each as long; the magnitude row prunes once and"
        " trains on at a tenth of the rate. Seconds say what that costs. Nothing was read that was published of these"
        " networks at this size."
    ),
    groups=_groups(),
    table=Table(
        header=("kept", "bytes", "theoretical speed-up", "test accuracy", "seconds"),
        row=_row,
        note=(
            "Means over n seeds, of the accuracy with its 95 % interval (Student's t). Kept: weights that are not zero,"
            " biases aside. Theoretical speed-up: multiply-adds of the whole network over those whose weight is not"
            " zero (Blalock et al. 2020); of a wider network it may be below 1. Seconds: on a machine that did other"
            " work."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
