"""Tickets of one data set trained on another, with random and reinitialised masks (Morcos et al. 2019)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.small import CIFAR, FASHION, Small
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMPRewind
from supermask.baselines.sparse import Sparse
from supermask.data import DataSet
from supermask.data.corruptions import half
from supermask.data.data_set import Examples
from supermask.data.split import pixel_statistics
from supermask.files import make_folder
from supermask.judge.paired import paired
from supermask.judge.transfer import carried, with_controls
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from supermask.runs.folder import STAGES
from supermask.runs.run_job import context_of
from supermask.ticket import Ticket

SEEDS = (0, 1, 2)
DENSITY = 0.8**9
"""13.4 %: low enough that a random mask loses."""
STEP = 40
"""Optimizer step that the rounds on the source rewind to."""
STEPS = 600
RATE = 1 - DENSITY ** (1 / 3)


def _grey(data: DataSet) -> DataSet:
    """Return the set with the mean of the colours, in one channel; the statistics are those of its training images."""

    def changed(examples: Examples) -> Examples:
        images = examples.images.float().mean(1, keepdim=True).round()
        return Examples(images.to(examples.images.dtype), examples.labels)

    train = changed(data.train)
    mean, std = pixel_statistics(train.images, data.scale)
    return replace(
        data,
        name=f"{data.name}, grey",
        input_shape=(1, *data.input_shape[1:]),
        mean=mean,
        std=std,
        train=train,
        validation=changed(data.validation),
        # read_test and not test, which would count one read twice: both sets share their counter
        read_test=lambda: changed(data.read_test()),
    )


def _short(small: Small, data: str) -> Small:
    short = small.with_recipe(iterations=STEPS, evaluate_every=STEPS, augment=False)
    return replace(short, job=replace(short.job, data=data, width=0.25))


SETS: Mapping[str, tuple[Small, Callable[[DataSet], DataSet]]] = MappingProxyType(
    {
        "MNIST": (_short(FASHION, "mnist"), lambda data: data),
        "Fashion-MNIST": (_short(FASHION, "fashion_mnist"), lambda data: data),
        "CIFAR-10, grey": (_short(CIFAR, "cifar10"), _grey),
        "first half of CIFAR-10": (_short(CIFAR, "cifar10"), lambda data: half(_grey(data), 0, seed=0)),
        "second half of CIFAR-10": (_short(CIFAR, "cifar10"), lambda data: half(_grey(data), 1, seed=0)),
    }
)
WHAT = ("ticket", "reinitialised", "random")
"""What is shown of each target: the ticket, its masks over other weights, its masks shuffled within their layers."""


@dataclass(frozen=True, kw_only=True)
class TransferResult(Result):
    """The ticket of one data set on all of them.

    Attributes:
        accuracies: on the test set after the last step, fractions, by target and by what was trained there.

    """

    accuracies: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Transferred:
    """A ticket of a source, trained on every target; the weights of all networks are those of the seed.

    Attributes:
        source: among `SETS`.
        seed: of the initial weights, and of what the controls draw.
        adam: whether the ticket is found with Adam; on the targets it is trained with SGD in any case.
        wider: how many times as wide as the network of the source those of the targets are.
        targets: among `SETS`.

    """

    kind: ClassVar[type[Result]] = TransferResult

    source: str
    seed: int
    adam: bool = False
    wider: int = 1
    targets: tuple[str, ...] = tuple(SETS)

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the task depends on."""
        own = {"source": self.source, "adam": self.adam, "density": DENSITY, "rounds": [RATE, STEP]}
        if self.wider != 1:
            own["wider"] = self.wider
        return {**own, "targets": {name: self._small(name).config() for name in (self.source, *self.targets)}}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> TransferResult:
        """Find the ticket, and train it on every target; trainings that are finished are not repeated."""

        def measure(folder: Path) -> TransferResult:
            found = IMPRewind(rate=RATE, rewind_to=STEP).run(
                self._context(self.source, folder, device, data_folder, adam=self.adam)
            )
            assert isinstance(found.subject, Sparse)
            ticket = found.subject.ticket()
            return TransferResult(
                accuracies={
                    name: self._accuracies(ticket, self._context(name, folder, device, data_folder, wider=self.wider))
                    for name in self.targets
                }
            )

        return recorded(TransferResult, path, self.config(), measure, device=device, resume=True)

    def _accuracies(self, ticket: Ticket, target: RunContext) -> dict[str, float]:
        networks = with_controls(carried(ticket, target.whole, stretch=self.wider != 1).ticket, seed=self.seed)
        return {
            what: target.train(target.sparse(ticket=network), stage=f"carried-{what}").test.accuracy
            for what, network in networks.items()
        }

    def _small(self, name: str, *, adam: bool = False, wider: int = 1) -> Small:
        small = SETS[name][0].seeded(self.seed)
        small = replace(small, job=replace(small.job, width=small.job.width * wider))
        return small.with_recipe(optimizer="adam", learning_rate=2e-3) if adam else small

    def _context(
        self,
        name: str,
        path: Path,
        device: str,
        data_folder: Path | None,
        *,
        adam: bool = False,
        wider: int = 1,
    ) -> RunContext:
        """Return the work on one of the sets, with stages of its own."""
        small, change = self._small(name, adam=adam, wider=wider), SETS[name][1]
        found = context_of(
            small.job.settled(),
            change(small.data(data_folder)),
            path,
            make_folder(path / STAGES / f"{name}{' by Adam' * adam}{' wider' * (wider != 1)}"),
            device=torch.device(device),
            checkpoint_seconds=600.0,
            progress=False,
        )
        return replace(found, folder=None, density=DENSITY)


def _row(results: Sequence[TransferResult]) -> list[str]:
    return [_cell(results, target) for target in SETS]


def _cell(results: Sequence[TransferResult], target: str) -> str:
    means = [fmean(result.accuracies[target][what] for result in results) for what in WHAT]
    return "/".join(f"{100 * value:.1f}" for value in means) + f" {_verdict(results, target)}"


def _verdict(results: Sequence[TransferResult], target: str) -> str:
    """Return + or - where the interval of the accuracy above that of shuffled masks leaves out 0, else =."""
    pairs = ([result.accuracies[target][what] for result in results] for what in ("ticket", "random"))
    difference = paired(*pairs)
    return "+" if difference.low > 0.0 else "-" if difference.high < 0.0 else "="


def _plot(found: Mapping[str, Sequence[TransferResult]], path: Path) -> None:
    figure, axes = new_figure(width=8.0)
    for number, (label, results) in enumerate(found.items()):
        gains = [_gain(results, target) for target in SETS]
        axes.plot(
            range(len(SETS)), gains, marker="o", linestyle="none", color=COLORS[number % len(COLORS)], label=label
        )
    axes.axhline(0.0, color="0.7", linewidth=0.8)
    axes.set_xticks(range(len(SETS)), [name.replace(" ", "\n", 1) for name in SETS], fontsize="small")
    axes.set(ylabel="points above the shuffled masks", title="Tickets carried from one data set to another")
    axes.legend(frameon=False, fontsize="small", title="found on", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _gain(results: Sequence[TransferResult], target: str) -> float:
    """Return the points of accuracy of the ticket above its shuffled masks."""
    return 100 * fmean(result.accuracies[target]["ticket"] - result.accuracies[target]["random"] for result in results)


def _conclusion(found: Mapping[str, Sequence[TransferResult]]) -> str:
    rows = {label: {target: _gain(results, target) for target in SETS} for label, results in found.items() if results}
    own = [gains[label] for label, gains in rows.items() if label in gains]
    other = [gain for label, gains in rows.items() for target, gain in gains.items() if target != label]
    if not own or not other:
        return "Too few rows are there for a comparison."
    verdicts = Counter(
        _verdict(results, target)
        for label, results in found.items()
        for target in SETS
        if target != label and len(results) > 1
    )
    cells = ", ".join(f"{verdicts[sign]} {what}" for sign, what in (("+", "above"), ("=", "undecided"), ("-", "below")))
    return (
        f"Above shuffled masks, a ticket gains {fmean(own):.2f} points on the data that it was found on, and"
        f" {fmean(other):.2f} on others (means of the cells). Of the {verdicts.total()} cells of other data, other"
        f" optimizers and other widths, {cells}."
    )


def _group(label: str, source: str, *, adam: bool = False, wider: int = 1) -> Group:
    return Group(label, tuple(Transferred(source, seed, adam, wider) for seed in SEEDS))


EXPERIMENT = Experiment(
    name="transfer",
    title="Tickets of one data set, trained on another",
    source=(
        "Morcos, Yu, Paganini & Tian 2019, figures 3 to 7, in a setting that fits a CPU: ResNet-8 of a quarter of the"
        f" width, one channel of 14x14 or 16x16 pixels, {STEPS} steps, pruned to {DENSITY:.1%} by three rounds with"
        f" rewinding to step {STEP}. On the target the ticket starts from its initial weights. Published (abstract;"
        " VGG-19 and ResNet-50, six sets): tickets generalise across natural image sets and optimizers, those of larger"
        " sets better. Widths are ours: a network twice as wide repeats units of the masks, over weights of its own."
    ),
    groups=(
        *(_group(name, name) for name in SETS),
        _group("CIFAR-10, grey, by Adam", "CIFAR-10, grey", adam=True),
        _group("CIFAR-10, grey, twice as wide", "CIFAR-10, grey", wider=2),
    ),
    table=Table(
        header=("on MNIST", "Fashion-MNIST", "CIFAR-10, grey", "first half", "second half"),
        row=_row,
        note=(
            "Rows: where the ticket was found. Test accuracy of the last step in %, mean over n initialisations: the"
            " ticket / its masks over other weights / its masks shuffled within their layers. + or -: the ticket is"
            " above or below the shuffled masks, by a paired 95 % interval (Student's t, no correction for the number"
            " of cells); =: undecided."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
