"""Zhou et al. 2019, heuristic supermasks: what masks by simple criteria make of an untrained network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.baselines.heuristic import Heuristic
from supermask.baselines.heuristic.actions import KeptAction
from supermask.baselines.heuristic.criteria import CRITERIA, CriterionName, Sign
from supermask.baselines.heuristic.method import Choice
from supermask.baselines.heuristic.networks import Untrained
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.data import DataSet
from supermask.files import locked, make_folder
from supermask.report import Mean, mean
from supermask.report.density import draw_accuracy_by_density
from supermask.report.plot import new_figures, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded
from supermask.training import Outcome, Recipe, train

DENSITIES = (0.5, 0.2, 0.1)
SEEDS = (0, 1, 2)
ITERATIONS = 10_000
ACTIONS: Mapping[KeptAction, str] = {"rewind": "rewound", "constant": "constant"}
"""Mask-1 actions, both of which keep the sign, and what the table calls them."""

JOB = Job(
    method="heuristic",
    data="mnist",
    initial="xavier_normal",
    recipe=Recipe(
        iterations=ITERATIONS,
        batch_size=60,
        optimizer="adam",
        learning_rate=1.2e-3,
        weight_decay=0.0,
        decay="constant",
        evaluate_every=1000,
    ),
)


@dataclass(frozen=True)
class Mask:
    """A mask run untrained: its test accuracy, and what `HeuristicDetails` says of it."""

    accuracy: float
    chosen: int
    same_sign: int


@dataclass(frozen=True, kw_only=True)
class MasksResult(Result):
    """The test accuracy of the dense training, and the masks by the action on kept weights and by density."""

    dense_accuracy: float
    rewind: Mapping[float, Mask]
    constant: Mapping[float, Mask]


@dataclass(frozen=True)
class Masks:
    """The masks of one criterion on one dense training, at all densities, each run untrained.

    Attributes:
        seed: of the dense network.
        criterion: by which weights are kept.
        sign: of those that come first.
        job: how the dense network is trained.

    """

    kind: ClassVar[type[Result]] = MasksResult

    seed: int
    criterion: CriterionName
    sign: Sign
    job: Job = JOB

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    @property
    def seeded(self) -> Job:
        """The dense training with its seed."""
        return replace(self.job, seed=self.seed)

    def config(self) -> dict[str, Any]:
        """Return all that the masks depend on."""
        ladder = Heuristic().ladder
        options = {"criterion": self.criterion, "sign": self.sign, "actions": [*ACTIONS], "ladder": asdict(ladder)}
        return {**options, "densities": [*DENSITIES], "job": self.seeded.config()}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> MasksResult:
        """Measure the masks; all criteria share the dense training of their seed."""
        shared = make_folder(path.parent / f"dense-seed{self.seed}")
        measure = _Measuring(self.seeded, load_data(self.seeded, data_folder), device, shared)
        return recorded(
            MasksResult,
            path,
            self.config(),
            lambda _: measure.all(self.criterion, self.sign),
            device=device,
            resume=True,
        )


@dataclass(frozen=True)
class _Measuring:
    """A dense training, and what is kept of it."""

    job: Job
    data: DataSet
    device: str
    shared: Path

    def all(self, criterion: CriterionName, sign: Sign) -> MasksResult:
        """Return the accuracies by action and density, and what else the table shows."""
        whole = whole_ticket(build_network(self.job, self.data), seed=self.job.seed, weights=self.job.initial)
        with locked(self.shared):  # the first trains it
            sparse = Sparse(build_network(self.job, self.data), whole)
            dense = self._train(sparse, self.job.recipe, folder=self.shared, resume=True)
        final = {name: dense.last["model"][name].cpu() for name in whole.masks}
        found = {}
        for action in ACTIONS:
            method = Heuristic(criterion=criterion, sign=sign, mask_1=action)
            choices = {density: method.choose(whole, final, density) for density in DENSITIES}
            found[action] = {density: self._untrained(choice) for density, choice in choices.items()}
        return MasksResult(dense_accuracy=dense.test.accuracy, rewind=found["rewind"], constant=found["constant"])

    def _untrained(self, choice: Choice) -> Mask:
        network = Untrained(build_network(self.job, self.data), choice.ticket)
        outcome = self._train(network, replace(self.job.recipe, epochs=0, iterations=None))
        return Mask(outcome.test.accuracy, choice.details.chosen, choice.details.same_sign)

    def _train(self, subject: Sparse, recipe: Recipe, **more: Any) -> Outcome:
        return train(subject, self.data, recipe, seed=self.job.seed, device=self.device, progress=False, **more)


def _masks(result: MasksResult, action: KeptAction) -> Mapping[float, Mask]:
    return result.rewind if action == "rewind" else result.constant


def _accuracy(results: Sequence[MasksResult], action: KeptAction, density: float) -> Mean:
    return mean([_masks(result, action)[density].accuracy for result in results])


def _row(results: Sequence[MasksResult]) -> list[str]:
    kept = [result.constant[0.5] for result in results]
    unchanged = mean([each.same_sign / each.chosen for each in kept])
    cells = [_accuracy(results, action, density).percent() for action, density in product(ACTIONS, DENSITIES)]
    return [*cells, f"{100 * unchanged.value:.0f} %"]


def _plot(found: Mapping[str, Sequence[MasksResult]], path: Path) -> None:
    figure, axes = new_figures(2, width=12.0, height=4.6)
    shown = {label: runs for label, runs in found.items() if "," not in label or label.endswith("same sign")}
    for place, (action, title) in zip(axes, ACTIONS.items(), strict=True):
        curves = {
            label: {density: _accuracy(results, action, density) for density in DENSITIES}
            for label, results in shown.items()
        }
        draw_accuracy_by_density(place, curves, {})
        place.set(title=f"untrained, kept weights {title}")
        place.legend().remove()
    axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


_LABELS: Mapping[Sign, str] = {"any": "", "same": ", same sign", "different": ", different sign"}
_FORMS: tuple[tuple[CriterionName, Sign], ...] = (
    *((criterion, "any") for criterion in CRITERIA),
    ("large_final", "same"),
    ("large_final", "different"),
    ("magnitude_increase", "same"),
    ("magnitude_increase", "different"),
    ("movement", "same"),
    ("random", "same"),
)
_PUBLISHED = {
    "large_final, same sign": Published(
        "over 80 % rewound, 86 % constant",
        "Zhou et al. 2019, abstract (86 %)",
        "at its best density; that the 86 % are of the constant, and the 80 %, were read in a summary of the paper",
    )
}


def _groups() -> list[Group]:
    groups = []
    for criterion, sign in _FORMS:
        label = f"{criterion}{_LABELS[sign]}"
        tasks = tuple(Masks(seed, criterion, sign) for seed in SEEDS)
        groups.append(Group(label, tasks, _PUBLISHED.get(label)))
    return groups


EXPERIMENT = Experiment(
    name="zhou_heuristics",
    title="Heuristic supermasks: LeNet-300-100 on MNIST, untrained",
    source=(
        "Zhou et al. 2019, heuristic supermasks: LeNet-300-100, Gaussian Glorot, Adam 1.2e-3, batch 60, pruned in one"
        " shot, the layers to what rounds leave that prune 20 % of each and 10 % of the output layer. Shortened: the"
        f" dense network, one a seed for all rows, is trained for {ITERATIONS:,} iterations, theirs for 55 epochs."
        " The constant is the standard deviation of the layer's distribution, in their code that of the weights drawn."
    ),
    groups=tuple(_groups()),
    table=Table(
        header=(
            *(f"{label}, {density}" for label, density in product(ACTIONS.values(), DENSITIES)),
            "unchanged signs",
        ),
        row=_row,
        note=(
            "Test accuracy of the untrained network with the criterion's mask, by what kept weights become (their"
            " initial values, or the layer's constant with their initial sign) and by density: means over n seeds with"
            " 95 % intervals (Student's t). Nothing is chosen by it; the test set is read for every cell. Unchanged"
            " signs: of the weights that are kept at density 0.5, how many have the same sign before and after the"
            " dense training. Where fewer weights have the sign that is asked for than are kept, others make up the"
            " number by lot."
        ),
    ),
    plot=_plot,
)
