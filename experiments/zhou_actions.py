"""Zhou et al. 2019, mask-1 and mask-0 actions: what kept and pruned weights become before they are trained again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.training import trainings
from experiments.zhou_heuristics import JOB
from supermask.baselines.heuristic import HeuristicTrained
from supermask.baselines.heuristic.method import HeuristicDetails
from supermask.report import mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import Job, JobResult, SearchOptions

DENSITY = 0.05
SEEDS = (0, 1, 2)
ITERATIONS = 2_000
_KEPT = {
    "rewound": HeuristicTrained(),
    "rewound, random signs": HeuristicTrained(keep_sign=False),
    "reinitialised": HeuristicTrained(mask_1="reinitialise", keep_sign=False),
    "reinitialised, signs kept": HeuristicTrained(mask_1="reinitialise"),
    "reshuffled": HeuristicTrained(mask_1="reshuffle", keep_sign=False),
    "reshuffled, signs kept": HeuristicTrained(mask_1="reshuffle"),
    "constant, random signs": HeuristicTrained(mask_1="constant", keep_sign=False),
    "constant, signs kept": HeuristicTrained(mask_1="constant"),
}
_PRUNED = {
    "frozen at initial values": HeuristicTrained(mask_0="freeze"),
    "variant 1": HeuristicTrained(mask_0="variant_1"),
    "variant 2": HeuristicTrained(mask_0="variant_2"),
}
RECIPE = replace(JOB.recipe, iterations=ITERATIONS, evaluate_every=200)


def _job(options: HeuristicTrained) -> Job:
    return replace(JOB, method=options.name, options=options, recipe=RECIPE, search=SearchOptions(density=DENSITY))


def _row(results: Sequence[JobResult]) -> list[str]:
    accuracy = mean([result.test.accuracy for result in results])
    details = [result.detail(HeuristicDetails) for result in results]
    dense = mean([each.dense_accuracy for each in details])
    return [accuracy.percent(), dense.percent(), f"{details[0].chosen:,}", f"{results[0].kept:,}"]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    figure, axes = new_figure(height=1.2 + 0.35 * len(found))
    means = {label: mean([100 * result.test.accuracy for result in runs]) for label, runs in found.items()}
    errors = [accuracy.half_width or 0.0 for accuracy in means.values()]
    values = [accuracy.value for accuracy in means.values()]
    axes.errorbar(values, list(means), xerr=errors, color=COLORS[0], linestyle="none", marker="o", capsize=3)
    dense = mean([100 * result.detail(HeuristicDetails).dense_accuracy for result in next(iter(found.values()))])
    axes.axvline(dense.value, color=COLORS[1], linestyle="--", linewidth=1, label="dense")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    axes.set(xlabel="test accuracy (%)", title=f"LeNet-300-100 on MNIST, large final, density {DENSITY:g}")
    save_figure(figure, path)


_FIGURES = "figures only, read in summaries of the paper"
_PUBLISHED = {
    "kept: reinitialised": Published("worse than rewound", "Zhou et al. 2019, mask-1 actions", _FIGURES),
    "kept: reinitialised, signs kept": Published("nearly as rewound", "Zhou et al. 2019, mask-1 actions", _FIGURES),
    "kept: constant, signs kept": Published("nearly as rewound", "Zhou et al. 2019, mask-1 actions", _FIGURES),
    "pruned: frozen at initial values": Published("worse than zero", "Zhou et al. 2019, mask-0 actions", _FIGURES),
    "pruned: variant 1": Published("as zero", "Zhou et al. 2019, mask-0 actions", _FIGURES),
    "pruned: variant 2": Published("as zero or better", "Zhou et al. 2019, mask-0 actions", _FIGURES),
}


def _groups() -> list[Group]:
    rows = {f"kept: {label}": options for label, options in _KEPT.items()}
    rows |= {f"pruned: {label}": options for label, options in _PRUNED.items()}
    return [Group(label, trainings(_job(options), SEEDS), _PUBLISHED.get(label)) for label, options in rows.items()]


EXPERIMENT = Experiment(
    name="zhou_actions",
    title="Mask-1 and mask-0 actions: LeNet-300-100 on MNIST, trained after the pruning",
    source=(
        "Zhou et al. 2019, mask-1 and mask-0 actions: the weights that a dense training left largest are kept, in"
        " layers as rounds of 20 % (10 % of the output layer) leave them, and trained again. Kept: what they start"
        " from, with pruned weights at zero. Pruned: where they are held, with kept weights rewound; variant 1 has"
        " those at zero that moved toward zero, and the others at their initial values; variant 2 also starts kept"
        f" weights that moved toward zero at zero. Shortened: one round down to density {DENSITY:g} instead of up"
        f" to 24, and {ITERATIONS:,} iterations of Adam 1.2e-3, batch 60, in either training instead of about"
        " 50,000."
    ),
    groups=tuple(_groups()),
    table=Table(
        header=("test accuracy", "dense", "trained weights", "in the network"),
        row=_row,
        note=(
            "Test accuracy: mean and 95 % interval (Student's t) over n seeds; the best step was chosen on the"
            " validation split and the test set read once. Dense: the network that the mask comes from."
            " Trained weights: those that the criterion keeps; in the network: those that are not zero when the second"
            " training begins, frozen ones among them; of the first seed."
        ),
    ),
    plot=_plot,
)
