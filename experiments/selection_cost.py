"""What exact selection of half of 25 million scores costs, step after step, and beside a sort."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.framework.experiment import Experiment, Group, Table
from experiments.measuring.selection_times import SelectionResult, SelectionTimes
from supermask.report.plot import colored, new_figure, save_figure

_OTHERS = ("cold", "partition", "kthvalue", "topk", "sort")


def _row(results: Sequence[SelectionResult]) -> list[str]:
    (result,) = results
    walk, others = result.walk, result.others_ms
    return [
        *(_shown(walk.phases[kind].median_ms) for kind in ("steady", "jump", "equal")),
        *(_shown(float(np.median(others[way]))) if way in others else "-" for way in _OTHERS),
        _shown(result.floor_ms),
        f"{walk.steps_checked - walk.steps_equal:,} of {walk.steps_checked:,}",
    ]


def _shown(value: float) -> str:
    """Return three digits, and no power of ten."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _plot(found: Mapping[str, Sequence[SelectionResult]], path: Path) -> None:
    ((result,),) = found.values()
    others = result.others_ms
    levels = {way: float(np.median(others[way])) for way in reversed(_OTHERS) if way in others}
    figure, axes = new_figure()
    axes.plot(result.walk.ms, ".", color="k", markersize=2, label="ours, warm")
    for color, (label, level) in colored({**levels, "floor": result.floor_ms}.items()):
        axes.axhline(level, color=color, linestyle="--", linewidth=1, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="milliseconds", title=f"Selection among {next(iter(found))}")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="selection_cost",
    title="What exact selection costs, step after step",
    source=(
        "The larger half of 25,000,000 scores by magnitude, as many as ResNet-50 has weights, over steps like those of"
        " a search: momentum, ten times the rate from step 250 to 499, all scores equal from 700 to 704 and drawn anew"
        " at 705. Every mask is compared with the answer of a sort, ties to the lowest index. The others start from the"
        " scores at the end: ours when it remembers nothing, numpy's partition, and PyTorch's kthvalue, topk and sort"
        " as published codes use them. Times depend on the machine and on what else it does; run with one worker and"
        " nothing beside it."
    ),
    groups=(Group("25,000,000 scores", (SelectionTimes(),)),),
    table=Table(
        header=("steady", "jump", "equal", *_OTHERS, "floor", "wrong"),
        row=_row,
        note=(
            "Medians in milliseconds. Steady, jump (ten steps from each change of the rate, and from the new draw) and"
            " equal: our selection, which remembers the step before. Floor: each score read and its entry of the mask"
            " written once, at the speed of a large copy. Wrong: masks that differ from the sort's, of all steps."
        ),
    ),
    plot=_plot,
)

ON_GPU = replace(EXPERIMENT, name="selection_cost_gpu", title=f"{EXPERIMENT.title}, on a GPU", needs_gpu=True)
