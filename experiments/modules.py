"""Modules of other packages: which share of their weights is masked, whether masks move, whether tickets are whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Table
from experiments.measuring.module_catalog import SUBJECTS
from experiments.measuring.module_trial import DENSITY, STEPS, Trial, TrialResult
from supermask.report.plot import colored, new_figures, save_figure


def _row(results: Sequence[TrialResult]) -> list[str]:
    (result,) = results
    still = f"{len(result.still)} of {len(result.moved)}"
    return [
        f"{sum(result.account.values()):,}",
        f"{result.masked:.1%}",
        f"{sum(result.account.get(role, 0) for role in ('given', 'frozen')):,}",
        f"{min(result.moved.values()):.1%} to {max(result.moved.values()):.1%}",
        still,
        f"{result.bytes:,}",
        "yes" if result.equal else "no",
    ]


def _conclusion(found: Mapping[str, Sequence[TrialResult]]) -> str:
    results = {label: each[0] for label, each in found.items()}
    equal = sum(result.equal for result in results.values())
    still = "; ".join(f"{label}: {', '.join(each.still)}" for label, each in results.items() if each.still)
    packages = {label.partition(":")[0]: each.version for label, each in results.items()}
    return (
        f"{equal} of {len(results)} tickets give the outputs of the searched module bit for bit."
        f" Masks that did not move: {still or 'none'}."
        f" Packages: {', '.join(f'{name} {number}' for name, number in packages.items())}."
    )


def _plot(found: Mapping[str, Sequence[TrialResult]], path: Path) -> None:
    figure, (axes,) = new_figures(1, 11.0)
    packages = sorted({label.partition(":")[0] for label in found})
    for color, package in colored(packages):
        results = [each[0] for label, each in found.items() if label.startswith(f"{package}:")]
        sizes = [sum(result.account.values()) for result in results]
        axes.plot(sizes, [result.masked for result in results], ".", color=color, label=package)
    axes.set(xscale="log", xlabel="parameters", ylabel="share that is masked", ylim=(0, 1.02))
    axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="modules",
    title="Modules of other packages: masked share, masks that move, tickets",
    source=(
        "Ours. Modules of transformers, timm and torchvision, as small as their configurations allow, with random"
        f" inputs and targets: edge-popup, density {DENSITY}, gains='one', {STEPS} steps of SGD; the ticket is saved,"
        " loaded and applied to a fresh module."
    ),
    groups=tuple(Group(str(subject), (Trial(subject),)) for subject in SUBJECTS),
    table=Table(
        header=("parameters", "masked", "stored", "moved", "still", "ticket bytes", "equal"),
        row=_row,
        note=(
            "Share of the parameters that is masked; parameters that are stored as the module has them; share of a mask"
            " that the steps changed, from the layer with the least to that with the most; masks that did not move."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
