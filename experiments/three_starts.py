"""One mask, three starts: the trained weights, the initial ones, and others (Liu et al. 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import FASHION, Study
from supermask.baselines.during_training import ADMM
from supermask.baselines.method import Method, RunContext
from supermask.baselines.rounds import IMP, OneShot
from supermask.baselines.sparse import Sparse
from supermask.judge.correlation import weight_correlation
from supermask.report import mean
from supermask.report.plot import COLORS, frame_accuracies, new_figure, save_figure
from supermask.results import Result
from supermask.ticket import Ticket

SEEDS = (0, 1, 2)
RATES = (0.01, 0.1)
DENSITY = 0.38
"""The paper's best sparsity at the small rate, 62 %."""
FRACTION = 0.2
"""The paper's p."""
Mask = Literal["iterative", "admm", "one-shot"]
MASKS: Mapping[Mask, Method] = {
    "iterative": IMP(ranking="layer", output_rate=0.2),
    "admm": ADMM(),
    "one-shot": OneShot(ranking="layer", output_rate=0.2),
}


@dataclass(frozen=True, kw_only=True)
class StartsResult(Result):
    """Test accuracies of one mask over three kinds of weights, as fractions.

    Attributes:
        dense: of the dense network.
        fine_tuned: from the last weights of the dense training.
        ticket: from the initial weights.
        reinitialised: from other weights.
        like_initial: R_p of the fine-tuned weights and the initial ones.
        like_trained: R_p of the fine-tuned weights and the last ones of the dense training.

    """

    dense: float
    fine_tuned: float
    ticket: float
    reinitialised: float
    like_initial: float
    like_trained: float


@dataclass(frozen=True)
class Starts(Study[StartsResult]):
    """A mask found in one way, and the networks that it leaves of three starts.

    Attributes:
        setting: how all networks are trained.
        seed: of the initial weights.
        mask: how the mask is found.

    """

    kind: ClassVar[type[Result]] = StartsResult

    mask: Mask

    def own(self) -> dict[str, Any]:
        """Return how the mask is found, and what is compared."""
        return {"mask": self.mask, "density": DENSITY, "fraction": FRACTION}

    def measure(self, context: RunContext) -> StartsResult:
        """Find the mask and train the three networks."""
        # the first convolution stays whole, as in the paper
        context = replace(context, dense=("conv.weight",), density=DENSITY)
        dense = context.train(context.sparse(), stage="dense", keep=(0,))
        found = MASKS[self.mask].run(replace(context.within(self.mask), folder=None)).subject
        assert isinstance(found, Sparse)
        ticket = found.ticket()
        trained = dense.last["model"]
        tuned, tuned_weights = self._trained(context, ticket, "fine-tuned", trained)

        def like(weights: Mapping[str, Tensor]) -> float:
            names = [*ticket.masks]
            return weight_correlation(
                {name: tuned_weights[name] for name in names},
                {name: weights[name] for name in names},
                fraction=FRACTION,
            ).value

        return StartsResult(
            dense=dense.test.accuracy,
            fine_tuned=tuned,
            ticket=self._trained(context, ticket, "ticket")[0],
            reinitialised=self._trained(context, context.drawn_again(ticket), "reinitialised")[0],
            like_initial=like(dense.kept[0].model),
            like_trained=like(trained),
        )

    def _trained(
        self, context: RunContext, ticket: Ticket, what: str, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[float, Mapping[str, Tensor]]:
        network = context.sparse(ticket=ticket)
        if weights is not None:
            network.load_weights(weights)
        outcome = context.train(network, stage=f"{self.mask}-{what}")
        return outcome.test.accuracy, outcome.last["model"]


Found = Mapping[str, Sequence[StartsResult]]
_COLUMNS = ("dense", "fine_tuned", "ticket", "reinitialised")


def _row(results: Sequence[StartsResult]) -> list[str]:
    accuracies = [mean([getattr(result, column) for result in results]).percent() for column in _COLUMNS]
    likeness = [
        f"{mean([getattr(result, column) for result in results]).value:.3f}"
        for column in ("like_initial", "like_trained")
    ]
    return [*accuracies, *likeness]


def _plot(found: Found, path: Path) -> None:
    figure, axes = new_figure(width=8.0)
    for number, column in enumerate(_COLUMNS):
        values = [mean([getattr(result, column) for result in results]) for results in found.values()]
        axes.errorbar(
            [place + 0.15 * (number - 1.5) for place in range(len(values))],
            [100 * value.value for value in values],
            yerr=[100 * (value.half_width or 0.0) for value in values],
            color=COLORS[number],
            marker="o",
            linestyle="none",
            capsize=2,
            label=column.replace("_", " "),
        )
    axes.set_xticks(range(len(found)), [*found], rotation=20, ha="right")
    axes.set(ylabel="test accuracy (%)", title=f"One mask of density {DENSITY:g}, three starts")
    frame_accuracies(axes)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


_SAID = {
    0.01: "dense 89.62, best ticket 90.04 %; fine-tuning above both",
    0.1: "dense 91.7 %; fine-tuning above the ticket, which does not win",
}

EXPERIMENT = Experiment(
    name="three_starts",
    title="One mask, three starts: fine-tuning, the ticket, other weights",
    source=(
        "Liu et al. 2021, figures 6 and 7, in a setting that fits a CPU: ResNet-8 of half width on Fashion-MNIST at"
        " 14x14 pixels, 800 steps (see instability.md); each layer but the first convolution keeps 38 % of its weights."
        " Masks by iterative magnitude pruning (20 % a round, reset to the initialisation), by ADMM, and in one shot"
        " after the dense training. From each mask three networks are trained for the whole schedule: from the last"
        " weights of the dense training (the paper's pruning and fine-tuning), from the initial weights (the ticket),"
        " and from other weights."
    ),
    groups=tuple(
        Group(
            f"rate {rate:g}, {mask}",
            tuple(Starts(FASHION.with_recipe(learning_rate=rate), seed, mask) for seed in SEEDS),
            Published(_SAID[rate], "Liu et al. 2021, section 5, ResNet-20 on CIFAR-10, 150 epochs"),
        )
        for rate, mask in product(RATES, get_args(Mask))
    ),
    table=Table(
        header=("dense", "fine-tuned", "ticket", "reinitialised", "like initial", "like trained"),
        row=_row,
        note=(
            "Test accuracies of the last step: mean and 95 % interval (Student's t) over n seeds of initialisation and"
            f" order. Like: R_p at p = {FRACTION:g} of the fine-tuned weights and the initial ones, or the last ones of"
            f" the dense training; independent weights would show {FRACTION:g}."
        ),
    ),
    plot=_plot,
)
