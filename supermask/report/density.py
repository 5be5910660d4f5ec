"""The field's usual plot: accuracy by the fraction of weights that is kept."""

from collections.abc import Mapping
from pathlib import Path

from supermask.report.intervals import Mean
from supermask.report.plot import COLORS, new_figure, save_figure

MARKERS = "os^Dv"  # a line is told apart by its color and its marker together


def plot_accuracy_by_density(
    curves: Mapping[str, Mapping[float, Mean]], levels: Mapping[str, Mean], path: Path, title: str
) -> None:
    """Draw test accuracy over a logarithmic axis of densities, with intervals; a density of 0 has no place on it.

    Args:
        curves: label to density to accuracy, a fraction; a line each.
        levels: label to the accuracy of what does not depend on the density; a dashed level each.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure()
    for number, (label, curve) in enumerate(curves.items()):
        points = sorted((density, accuracy) for density, accuracy in curve.items() if density > 0)
        axes.errorbar(
            [density for density, _ in points],
            [100 * accuracy.value for _, accuracy in points],
            yerr=[100 * (accuracy.half_width or 0.0) for _, accuracy in points],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number // len(COLORS) % len(MARKERS)],
            capsize=3,
            label=label,
        )
    for number, (label, accuracy) in enumerate(levels.items()):
        axes.axhline(100 * accuracy.value, color=COLORS[number % len(COLORS)], linestyle="--", linewidth=1, label=label)
    densities = sorted({density for curve in curves.values() for density in curve if density > 0})
    if densities:
        axes.set_xscale("log")
        axes.set_xticks(densities, [f"{density:g}" for density in densities])
        axes.minorticks_off()
    axes.set(xlabel="density (fraction of weights kept)", ylabel="test accuracy (%)", title=title)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)
