"""Plots of failure probabilities and of errors over the number of items."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from supermask.report.plot import colored, new_figure, save_figure
from theory.laws.fits import median_slope
from theory.laws.intervals import Proportion, median


def plot_failures(
    curves: Mapping[str, Mapping[float, Proportion]],
    path: Path,
    title: str,
    x_label: str = "items n",
    bounds: Mapping[str, Mapping[float, float]] | None = None,
) -> None:
    """Draw failure probabilities with their intervals as points, and bounds as dashed lines.

    Args:
        curves: label to {x: measured failures}.
        path: of the PNG file.
        title: above the plot.
        x_label: of the horizontal axis.
        bounds: label to {x: probability}.

    """
    from matplotlib.ticker import MaxNLocator  # matplotlib takes a quarter as long to import as PyTorch

    figure, axes = new_figure(height=4.8)
    for color, (label, curve) in colored(curves.items()):
        found = curve.values()
        values = np.array([p.value for p in found])
        reach = np.array([[p.value - p.low for p in found], [p.high - p.value for p in found]])
        axes.errorbar(list(curve), values, reach, color=color, label=label, marker="o", markersize=4, capsize=2)
    for color, (label, line) in colored((bounds or {}).items()):
        axes.plot(list(line), list(line.values()), color=color, label=label, linestyle="--")
    axes.set(xlabel=x_label, ylabel="probability of failure", title=title, ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)  # below, where no curve is
    save_figure(figure, path)


def plot_slopes(
    series: Mapping[str, Mapping[float, ArrayLike]],
    path: Path,
    title: str,
    x_label: str = "items n",
    x_scale: Literal["linear", "log"] = "linear",
) -> None:
    """Draw median errors with their intervals, and the line through them with its slope in the legend.

    The slope is that of log2(error) over x, or over log2(x) where the axis is logarithmic.

    Args:
        series: label to {x: positive errors of independent problems}.
        path: of the PNG file.
        title: above the plot.
        x_label: of the horizontal axis.
        x_scale: of the horizontal axis; the vertical one is logarithmic.

    """
    figure, axes = new_figure()
    for color, (label, samples) in colored(series.items()):
        x = np.array(list(samples), dtype=np.float64)
        logs = [np.log2(np.asarray(sample, dtype=np.float64)) for sample in samples.values()]
        found = [median(sample) for sample in samples.values()]
        values = np.array([m.value for m in found])
        reach = np.array([[m.value - m.low for m in found], [m.high - m.value for m in found]])
        axes.errorbar(x, values, reach, color=color, linestyle="none", marker="o", markersize=4, capsize=2)
        places = np.log2(x) if x_scale == "log" else x
        fit = median_slope(places, logs)
        line = np.log2(values).mean() + fit.value * (places - places.mean())
        text = f"{label}: slope {fit.value:.3f} ({fit.low:.3f} to {fit.high:.3f})"
        axes.plot(x, 2.0**line, color=color, label=text)
    axes.set(xlabel=x_label, ylabel="median error", title=title, xscale=x_scale, yscale="log")
    axes.legend(frameon=False)
    save_figure(figure, path)
