"""What of an early state matters: signs, magnitudes, places or exact values (Frankle, Schwab & Morcos 2020)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from scipy.stats import pearsonr
from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import CIFAR, Study
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMPRewind
from supermask.baselines.sparse import Sparse
from supermask.judge.perturbations import (
    Noised,
    Permuted,
    Perturbation,
    Recombined,
    effective_deviation,
    signs_changed,
)
from supermask.report import mean
from supermask.report.plot import COLORS, frame_accuracies, new_figure, save_figure
from supermask.results import Result
from supermask.ticket import Ticket

SEEDS = (0, 1, 2)
STEP = 100
"""k: a tenth of the training, where the dense network is stable or nearly so."""
DENSITY = 0.8**6
"""The paper's 26.2 % of figure 8."""
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class EarlyResult(Result):
    """One network, trained from a changed early state.

    Attributes:
        accuracy: on the test set after the last step, a fraction.
        deviation: effective standard deviation of the change.
        signs: fraction of the surviving weights whose sign was changed.

    """

    accuracy: float
    deviation: float
    signs: float


@dataclass(frozen=True)
class Changed(Study[EarlyResult]):
    """A pruned network whose early state is changed, and which is trained on from there.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights.
        change: what is done to the surviving weights; None leaves them.
        rest: what becomes of all other tensors (biases, batch norm): those of step k, or of the initialisation.
        redrawn: the surviving weights are drawn again first, and `change` takes them for the initial ones.

    """

    kind: ClassVar[type[Result]] = EarlyResult

    change: Perturbation | None = None
    rest: str = "k"
    redrawn: bool = False

    def own(self) -> dict[str, Any]:
        """Return the change."""
        change = None if self.change is None else {"name": self.change.name, **vars(self.change)}
        return {"change": change, "rest": self.rest, "redrawn": self.redrawn, "step": STEP, "density": DENSITY}

    def measure(self, context: RunContext) -> EarlyResult:
        """Find the masks, change the state of step k, and train what is left of the recipe."""
        ticket = _pruned(context)
        initial, early = _states(context)
        source = _redrawn(context, ticket) if self.redrawn else initial
        changed = dict(early) if self.change is None else self.change(early, source, ticket.masks, self.seed)
        weights = {name: changed[name] for name in ticket.masks}
        network = context.sparse(ticket=ticket)
        network.load_weights({**(early if self.rest == "k" else initial), **weights})
        outcome = context.train(network, start=STEP)
        return EarlyResult(
            accuracy=outcome.test.accuracy,
            deviation=effective_deviation(weights, early, initial, ticket.masks),
            signs=signs_changed(weights, early, ticket.masks),
        )


def _pruned(context: RunContext) -> Ticket:
    """Return the ticket of iterative pruning with rewinding to step k."""
    found = IMPRewind(rewind_to=STEP).run(replace(context, density=DENSITY)).subject
    assert isinstance(found, Sparse)
    return found.ticket()


def _states(context: RunContext) -> tuple[Weights, Weights]:
    """Return the tensors of the dense network at the initialisation and at step k."""
    kept = context.train(context.sparse(), stage="trunk", keep=(0, STEP)).kept
    return kept[0].model, kept[STEP].model


def _redrawn(context: RunContext, ticket: Ticket) -> Weights:
    return context.sparse(ticket=replace(context.drawn_again(ticket), masks=context.whole.masks)).model.state_dict()


def _row(results: Sequence[EarlyResult]) -> list[str]:
    return [
        mean([result.accuracy for result in results]).percent(),
        f"{fmean(result.deviation for result in results):.2f}",
        f"{fmean(result.signs for result in results):.1%}",
    ]


def _correlation(found: Mapping[str, Sequence[EarlyResult]]) -> str:
    """Return Pearson's r of effective deviation and accuracy, over the rows that change something."""
    rows = {label: results for label, results in found.items() if fmean(result.deviation for result in results) > 0}
    if len(rows) < 3:
        return "Too few rows are there for a correlation."
    said = [_pearson("all changes", [*rows.values()])]
    if len(bare := [results for label, results in rows.items() if "noise" not in label]) > 2:
        said.append(_pearson("without noise", bare))
    return (
        f"Effective deviation and accuracy (means of the rows): {'; '.join(said)}. Published at a density of 26.2 %:"
        " r = -0.672 (p = 0.008) at k = 500 and -0.726 (p = 0.003) at k = 2,000 of ResNet-20 (Frankle, Schwab & Morcos"
        " 2020, figure 8)."
    )


def _pearson(what: str, rows: Sequence[Sequence[EarlyResult]]) -> str:
    deviations = [fmean(result.deviation for result in results) for results in rows]
    found = pearsonr(deviations, [fmean(result.accuracy for result in results) for results in rows])
    return f"{what}, {len(rows)} rows: r = {found.statistic:.3f}, p = {found.pvalue:.2g}"


def _plot(found: Mapping[str, Sequence[EarlyResult]], path: Path) -> None:
    figure, axes = new_figure(width=9.0)
    for number, (label, results) in enumerate(found.items()):
        accuracy = mean([result.accuracy for result in results])
        axes.errorbar(
            fmean(result.deviation for result in results),
            100 * accuracy.value,
            yerr=100 * (accuracy.half_width or 0.0),
            marker="osD^v"[number // len(COLORS)],
            linestyle="none",
            capsize=2,
            color=COLORS[number % len(COLORS)],
            label=label,
        )
    axes.set(xlabel="effective standard deviation of the change", ylabel="test accuracy (%)", title="An early state")
    frame_accuracies(axes)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _group(label: str, change: Perturbation | None, published: str, **options: Any) -> Group:
    source = "Frankle, Schwab & Morcos 2020, figures 4 to 7"
    tasks = tuple(Changed(CIFAR, seed, change, **options) for seed in SEEDS)
    return Group(label, tasks, Published(published, source) if published else None)


EXPERIMENT = Experiment(
    name="early_phase",
    title="What of an early state of the weights matters",
    source=(
        "Frankle, Schwab & Morcos 2020, figures 4 to 8, in a setting that fits a CPU: ResNet-8 of half width, CIFAR-10"
        " at 16x16 pixels, 1,000 steps (see instability.md), pruned to 26.2 % by six rounds of iterative magnitude"
        f" pruning with rewinding to step k = {STEP}. The surviving weights of step k are changed, and the network is"
        " trained from there to the end with a fresh optimizer. Biases and batch norm stay those of step k, which the"
        " paper does not say, but in the row that says so."
    ),
    groups=(
        _group("weights of k", None, "best"),
        _group("weights of 0, rest of k", Recombined("0", "0"), ""),
        _group("all of 0", Recombined("0", "0"), "worse than k", rest="0"),
        _group("signs of k, magnitudes of 0", Recombined("k", "0"), "worse than k"),
        _group("signs of 0, magnitudes of k", Recombined("0", "k"), "worse than k"),
        *(_group(f"noise of {n:g} sigma", Noised(n), "falls with n") for n in (0.5, 1.0, 2.0, 3.0)),
        *(
            _group(f"permuted in {within}", Permuted(within), "worse than k")
            for within in ("filters", "layers", "network")
        ),
        *(
            _group(f"permuted in {within}, same sign", Permuted(within, equal_signs=True), "better than permuted")
            for within in ("filters", "layers", "network")
        ),
        _group("drawn again", Recombined("0", "0"), "", redrawn=True),
        _group("drawn again, signs of k", Recombined("k", "0"), "", redrawn=True),
    ),
    table=Table(
        header=("test accuracy", "deviation", "signs"),
        row=_row,
        note=(
            "Test accuracy: of the last step, mean and 95 % interval (Student's t) over n initialisations, each with an"
            " order of its own. Deviation: standard deviation of the change over the surviving weights, each by that of"
            " its layer's initial weights. Signs: surviving weights whose sign is not that of step k."
        ),
    ),
    plot=_plot,
    conclusion=_correlation,
)
