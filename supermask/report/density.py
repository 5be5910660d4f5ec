"""The field's usual plot: accuracy by the fraction of weights that is kept."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from supermask.report.intervals import Mean
from supermask.report.plot import COLORS, new_figure, save_figure

if TYPE_CHECKING:  # see `plot`
    from matplotlib.axes import Axes

MARKERS = "os^Dv"  # a line is told apart by its color and its marker together
TICKS = 10
"""Most densities that are written along the axis, in which they may be 1 % and 0.8 % and 0.7 % and so on."""


def plot_accuracy_by_density(
    curves: Mapping[str, Mapping[float, Mean]], levels: Mapping[str, Mean], path: Path, title: str
) -> None:
    """Draw what `draw_accuracy_by_density` draws into a PNG file of its own.

    Args:
        curves: label to density to accuracy, a fraction.
        levels: label to the accuracy of what does not depend on the density.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure()
    draw_accuracy_by_density(axes, curves, levels)
    axes.set(title=title)
    save_figure(figure, path)


def draw_accuracy_by_density(
    axes: "Axes", curves: Mapping[str, Mapping[float, Mean]], levels: Mapping[str, Mean]
) -> None:
    """Draw test accuracy over a logarithmic axis of densities, with intervals; a density of 0 has no place on it.

    Args:
        axes: to draw on.
        curves: label to density to accuracy, a fraction; a line each.
        levels: label to the accuracy of what does not depend on the density; a dashed level each.

    """
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
    for number, (label, accuracy) in enumerate(levels.items(), len(curves)):
        axes.axhline(100 * accuracy.value, color=COLORS[number % len(COLORS)], linestyle="--", linewidth=1, label=label)
    densities = sorted({density for curve in curves.values() for density in curve if density > 0})
    if densities:
        axes.set_xscale("log")
        axes.set_xticks(densities, _written(densities))
        axes.minorticks_off()
    axes.set(xlabel="weights remaining (density)", ylabel="test accuracy (%)")
    low, high = axes.get_ylim()
    # 101 and not 100, so that a line at 100 % is not cut in half
    axes.set_ylim(max(low, 0.0), min(high, 101.0))  # the interval of two seeds may reach far beyond
    axes.legend(frameon=False, fontsize="small")


def _written(densities: Sequence[float]) -> list[str]:
    """Return what is written at each density: nothing where one before it is too near."""
    room = math.log(densities[-1] / densities[0]) / TICKS
    texts, last = [], -math.inf
    for density in densities:
        free = math.log(density) - last >= room
        texts.append(f"{density:.3g}" if free else "")
        last = math.log(density) if free else last
    return texts
