"""The field's usual plot: accuracy by the fraction of weights that is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from supermask.report import mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import Result

Curve = Mapping[float, Sequence[Result]]


def plot_by_density(
    curves: Mapping[str, Curve], levels: Mapping[str, Sequence[Result]], path: Path, title: str
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


def _percent(results: Sequence[Result]) -> tuple[float, float]:
    accuracy = mean([result["test"]["accuracy"] for result in results])
    return 100 * accuracy.value, 100 * (accuracy.half_width or 0.0)


def plot_levels(found: Mapping[str, Sequence[Result]], path: Path, title: str) -> None:
    """Draw one bar per method with its interval."""
    figure, axes = new_figure()
    for color, (label, results) in zip(COLORS, found.items(), strict=False):
        value, error = _percent(results)
        axes.bar(label, value, yerr=error, color=color, capsize=5)
    axes.set(ylabel="test accuracy (%)", title=title, ylim=(0, 102))
    save_figure(figure, path)
