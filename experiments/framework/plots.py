"""The field's usual plot: accuracy by the fraction of weights that is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from supermask.report import mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import JobResult
from theory.laws import Estimate

Curve = Mapping[float, Sequence[JobResult]]


def plot_by_density(
    curves: Mapping[str, Curve], levels: Mapping[str, Sequence[JobResult]], path: Path, title: str
) -> None:
    """Draw accuracy by density: a curve per key of `curves`, a dashed level of its own color per key of `levels`.

    Args:
        curves: label to density to the results of its seeds.
        levels: label (of a curve, or of its own) to the results of a method without density.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure()
    labels = list(dict.fromkeys([*curves, *levels]))
    colors = dict(zip(labels, COLORS, strict=False))
    for label, curve in curves.items():
        means = {density: _percent(results) for density, results in sorted(curve.items()) if results}
        values, errors = zip(*means.values(), strict=True) if means else ((), ())
        axes.errorbar(list(means), values, yerr=errors, color=colors[label], marker="o", capsize=3, label=label)
    for label, results in levels.items():
        value, _ = _percent(results)
        axes.axhline(value, color=colors[label], linestyle="--", linewidth=1, label=f"{label}, dense")
    axes.set(xlabel="density (fraction of weights kept)", ylabel="test accuracy (%)", title=title)
    axes.legend(frameon=False)
    save_figure(figure, path)


def _percent(results: Sequence[JobResult]) -> tuple[float, float]:
    accuracy = mean([result.test.accuracy for result in results])
    return 100 * accuracy.value, 100 * (accuracy.half_width or 0.0)


def plot_levels(found: Mapping[str, Sequence[JobResult]], path: Path, title: str) -> None:
    """Draw one bar per method with its interval."""
    figure, axes = new_figure()
    for color, (label, results) in zip(COLORS, found.items(), strict=False):
        value, error = _percent(results)
        axes.bar(label, value, yerr=error, color=color, capsize=5)
    axes.set(ylabel="test accuracy (%)", title=title, ylim=(0, 102))
    save_figure(figure, path)


def plot_ratios(
    labels: Sequence[str],
    bars: Mapping[str, Sequence[Estimate]],
    points: Mapping[str, Sequence[Estimate]],
    floors: Sequence[float],
    path: Path,
    title: str,
) -> None:
    """Draw ratios to a dense step on a log axis: a bar and a point per row and way, and the floor of each row.

    Args:
        labels: of the rows.
        bars: way to the ratio of a training step in each row, with its interval.
        points: the same of an evaluation pass.
        floors: of each row.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure(height=0.6 + 0.65 * len(labels))
    rows, thick = np.arange(len(labels)), 0.8 / len(bars)
    for place, (color, (way, ratios)) in enumerate(zip(COLORS, bars.items(), strict=False)):
        y, values = rows + (place + 0.5) * thick - 0.4, np.array([ratio.value for ratio in ratios])
        reach = [values - [ratio.low for ratio in ratios], [ratio.high for ratio in ratios] - values]
        axes.barh(y, values - 1, thick, left=1, color=color, xerr=reach, error_kw={"linewidth": 0.8}, label=way)
        axes.plot([point.value for point in points[way]], y, "kD", markersize=3, label="evaluation" * (place == 0))
    axes.vlines(floors, rows - 0.45, rows + 0.45, colors="k", linestyles="dotted", label="floor")
    axes.axvline(1, color="k", linewidth=0.8)
    axes.set(xscale="log", xlabel="time over that of the dense network", title=title)
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def plot_trace(times: Sequence[float], levels: Mapping[str, float], path: Path, title: str) -> None:
    """Draw milliseconds over steps on a log axis, with a level of its own color per key of `levels`."""
    figure, axes = new_figure()
    axes.plot(times, ".", color="k", markersize=2, label="ours, warm")
    for color, (label, level) in zip(COLORS, levels.items(), strict=False):
        axes.axhline(level, color=color, linestyle="--", linewidth=1, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="milliseconds", title=title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)
