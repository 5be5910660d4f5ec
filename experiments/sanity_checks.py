"""What pruning before and after training takes from the data and from the initialisation, in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import LENET, Study
from supermask.baselines.at_initialisation import SNIP, GraSP, SynFlow
from supermask.baselines.method import Method, RunContext
from supermask.baselines.rounds import OneShot
from supermask.data import DataSet
from supermask.report import mean
from supermask.report.plot import COLORS, frame_accuracies, new_figure, save_figure
from supermask.results import Result
from supermask.runs.run_job import context_of
from supermask.runs.sanity import CHECKS, ITSELF, sanity_checks

SEEDS = (0, 1, 2)
DENSITY = 0.02
"""Low enough that a random mask loses points; at a tenth of the weights nothing does."""
SETTING = replace(LENET, train=20_000, test=10_000).with_recipe(iterations=1000, evaluate_every=1000)
_SHOWN = {
    ITSELF: "itself",
    "shuffled_in_layers": "shuffled",
    "reinitialised": "reinitialised",
    "inverted": "inverted",
    "random_labels": "random labels",
    "shuffled_pixels": "shuffled pixels",
    "half_of_the_examples": "half the examples",
}


@dataclass(frozen=True, kw_only=True)
class SanityResult(Result):
    """One method, one seed.

    Attributes:
        accuracies: on the test set after the last step, fractions, by check.

    """

    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class Checked(Study[SanityResult]):
    """A method's ticket, and what is left of it after each check, trained.

    Attributes:
        setting: how the network is trained.
        seed: of the initial weights and of what the checks draw.
        method: that finds the ticket.

    """

    kind: ClassVar[type[Result]] = SanityResult

    method: Method

    def own(self) -> dict[str, Any]:
        """Return the method."""
        return {"method": self.method.name, "options": self.method.recorded_options(), "density": DENSITY}

    def measure(self, context: RunContext) -> SanityResult:
        """Train the ticket and what is left of it."""
        mine = replace(context.within(self.method.name), density=DENSITY)

        def work(data: DataSet) -> RunContext:
            if data is context.data:
                return mine
            assert mine.folder is not None
            assert mine.stages is not None
            job = self.seeded.job.settled()
            other = context_of(job, data, mine.folder, mine.stages / data.name, device=mine.device, progress=False)
            return replace(other, density=DENSITY)

        found = sanity_checks(self.method, work, context.data, seed=self.seed)
        return SanityResult(accuracies={name: outcome.test.accuracy for name, outcome in found.items()})


def _row(results: Sequence[SanityResult]) -> list[str]:
    return [mean([result.accuracies[name] for result in results]).percent() for name in CHECKS]


def _plot(found: Mapping[str, Sequence[SanityResult]], path: Path) -> None:
    figure, axes = new_figure(width=8.0)
    for number, (label, results) in enumerate(found.items()):
        values = [mean([result.accuracies[name] for result in results]) for name in CHECKS]
        axes.errorbar(
            [place + 0.12 * number for place in range(len(CHECKS))],
            [100 * value.value for value in values],
            yerr=[100 * (value.half_width or 0.0) for value in values],
            marker="o",
            linestyle="none",
            capsize=2,
            color=COLORS[number],
            label=label,
        )
    axes.set_xticks(range(len(CHECKS)), [_SHOWN[name].replace(" ", "\n") for name in CHECKS], fontsize="small")
    axes.set(ylabel="test accuracy (%)", title=f"Checks of tickets of density {DENSITY:g}")
    frame_accuracies(axes)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _conclusion(found: Mapping[str, Sequence[SanityResult]]) -> str:
    said = []
    for label, results in found.items():
        if not results:
            continue
        lost = {
            name: 100 * fmean(result.accuracies[ITSELF] - result.accuracies[name] for result in results)
            for name in CHECKS[1:]
        }
        said.append(f"{label} loses " + ", ".join(f"{points:.2f} ({_SHOWN[name]})" for name, points in lost.items()))
    return f"Points of test accuracy lost, means over the seeds: {'; '.join(said)}."


def _group(label: str, method: Method) -> Group:
    source = "Frankle, Dziugaite, Roy & Carbin 2021, section 5, on CIFAR-10"
    tasks = tuple(Checked(SETTING, seed, method) for seed in SEEDS)
    note = "read second-hand; a replication found no loss by inverting SynFlow and GraSP either"
    return Group(label, tasks, Published("no loss when shuffled or reinitialised", source, note))


EXPERIMENT = Experiment(
    name="sanity_checks",
    title="What SNIP, GraSP, SynFlow and magnitude pruning take from the data and the initialisation",
    source=(
        "Frankle, Dziugaite, Roy & Carbin 2021, section 5 (shuffle, reinitialise, invert), and Su et al. 2020, section"
        " 3 (random labels, shuffled pixels, half of the examples while the mask is found), in a setting that fits a"
        f" CPU: LeNet-300-100 on 20,000 images of MNIST, 1,000 steps, density {DENSITY:g}. Every network is trained"
        " from the initial weights on the true data."
    ),
    groups=(
        _group("SNIP", SNIP()),
        _group("GraSP", GraSP()),
        _group("SynFlow", SynFlow()),
        _group("magnitude after training", OneShot(ranking="global")),
    ),
    table=Table(
        header=tuple(_SHOWN[name] for name in CHECKS),
        row=_row,
        note=(
            "Test accuracy of the last step, mean and 95 % interval (Student's t) over n initialisations. Shuffled: the"
            " masks of each layer permuted; inverted: each layer's lowest scores kept. The last three: the mask is"
            " found on corrupted data."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
