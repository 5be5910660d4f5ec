"""The plot of `supermask construct`."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from supermask.report.plot import COLORS, new_figure, save_figure
from theory import Built
from theory.cli.report import LayerReport
from theory.target import Matrix

BINS = 60
"""Of the histograms, which span up to 16 decades: about four to a decade."""


def plot_errors(built: Built, layers: Sequence[LayerReport], path: Path, title: str) -> None:
    """Draw how far the weights are missed, a histogram for each layer, with the share of each as a dashed line.

    Args:
        built: whose errors are drawn; those of exactly zero have no place on the axis and are counted in the legend.
        layers: of the target.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure(height=4.8)
    edges = _edges([*built.errors, np.array([layer.share for layer in layers])])
    for i, (color, layer, errors) in enumerate(zip(cycle(COLORS), layers, built.errors, strict=False), 1):
        exact = int((errors == 0.0).sum())
        label = f"layer {i}, {layer.shape}" + (f" ({exact:,} met exactly)" if exact else "")
        axes.stairs(np.histogram(errors[errors > 0.0], edges)[0], edges, color=color, label=label)
        axes.axvline(layer.share, color=color, linestyle="--", linewidth=1.0)
    axes.plot([], [], color="gray", linestyle="--", linewidth=1.0, label="what a weight of the layer may miss by")
    axes.set(xscale="log", yscale="symlog", ylim=(0.0, None), xlabel="error of a weight", ylabel="weights", title=title)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _edges(parts: Sequence[Matrix]) -> Matrix:
    """Return the edges of bins on a log axis that hold all positive values."""
    values = np.concatenate([part.reshape(-1) for part in parts])
    values = values[values > 0.0]
    low, high = np.log10(values.min()), np.log10(values.max())
    return np.logspace(low - 0.1, high + 0.1, BINS + 1)
