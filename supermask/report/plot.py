"""Plots, drawn without a display.

matplotlib takes a quarter as long to import as PyTorch, so it is imported when a figure is made: no command does before
its end.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from supermask.files import write_whole
from supermask.shown import printable, shortened
from supermask.training.result import Evaluation, TrainingResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito: told apart by all
_Drawn = TypeVar("_Drawn")
STYLES = ("-", "-.", (0, (1, 1)))  # for more lines than colors; those that are dashed are levels


def colored(items: Iterable[_Drawn]) -> Iterator[tuple[str, _Drawn]]:
    """Yield each item with a color; behind the last color they begin again, so that no item is left out."""
    return zip(cycle(COLORS), items, strict=False)


def new_figure(width: float = 6.4, height: float = 4.0) -> "tuple[Figure, Axes]":
    """Return an empty figure of this size in inches and its axes."""
    figure, (axes,) = new_figures(1, width, height)
    return figure, axes


def new_figures(count: int, width: float, height: float = 4.0) -> "tuple[Figure, list[Axes]]":
    """Return an empty figure of this size in inches and its axes, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # not pyplot, which keeps every figure and may look for a display
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    row: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return figure, row


def plain_log(axes: "Axes") -> None:
    """Make the horizontal axis logarithmic, with numbers that read as such: 1,000 and 0.02 and no powers of ten.

    Args:
        axes: with all that is drawn on it, whose range chooses where the numbers stand.

    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = sorted(axes.get_xlim())
    steps = next(steps for decades, steps in _STEPS.items() if high / low <= 10.0**decades)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


_STEPS: Mapping[float, tuple[float, ...]] = {1.0: (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), 2.0: (1.0, 2.0, 5.0), np.inf: (1.0,)}
"""Up to how many powers of ten an axis has which numbers between two of them."""


def frame_accuracies(axes: "Axes") -> None:
    """Let means in per cent fill the height of a plot; an interval that reaches further than their range leaves it.

    Student's interval of two or three runs can be longer than all accuracies that there are.

    Args:
        axes: on which errorbars are drawn.

    """
    means = np.concatenate([np.atleast_1d(bar[0].get_ydata()) for bar in axes.containers] or [np.zeros(0)])
    if not len(means):
        return
    low, high = axes.get_ylim()
    room = max(1.0, float(np.ptp(means)))
    # 101 and not 100, so that a point at 100 % is not cut in half
    axes.set_ylim(max(low, 0.0, means.min() - room), min(high, 101.0, means.max() + room))


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_whole(path, png_of(figure))


def png_of(figure: "Figure", dpi: int = 120) -> bytes:
    """Return a figure as the bytes of a PNG file.

    Args:
        figure: as it is drawn.
        dpi: dots for each inch of its size.

    """
    buffer = io.BytesIO()
    # no date and no version inside, so that equal figures are equal files
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


_WIDEST = 400.0  # inches: at 120 dots each a figure has fewer than 2**16 dots, which is all that can be drawn


def _label(text: str) -> str:
    """Return a name that a file gave, as matplotlib shows it: without formulas, which it would try to read."""
    return shortened(printable(text), 80).replace("$", r"\$")


def plot_accuracy_over_steps(runs: Mapping[str, Sequence[TrainingResult]], path: Path, title: str) -> None:
    """Draw validation accuracy over optimizer steps: a line per method, a band from its worst to its best seed.

    Args:
        runs: method to the results of its runs, each with its history.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure()
    _draw_over_steps(axes, runs, lambda evaluation: 100 * (evaluation.validation_accuracy or 0.0))
    # 101 and not 100, so that a line at 100 % is not cut in half
    axes.set(xlabel="optimizer steps", ylabel="validation accuracy (%)", title=_label(title), ylim=(0, 101))
    axes.legend(frameon=False)
    save_figure(figure, path)


def plot_loss_over_steps(runs: Mapping[str, Sequence[TrainingResult]], path: Path, title: str) -> None:
    """Draw validation loss as `plot_accuracy_over_steps` does accuracy."""
    figure, axes = new_figure()
    _draw_over_steps(axes, runs, lambda evaluation: evaluation.validation_loss)
    axes.set(xlabel="optimizer steps", ylabel="validation loss", title=_label(title))
    axes.legend(frameon=False)
    save_figure(figure, path)


def _draw_over_steps(
    axes: "Axes", runs: Mapping[str, Sequence[TrainingResult]], value: Callable[[Evaluation], float]
) -> None:
    for number, (method, results) in enumerate(runs.items()):
        color, style = COLORS[number % len(COLORS)], STYLES[number // len(COLORS) % len(STYLES)]
        curves = [[value(evaluation) for evaluation in result.history] for result in results]
        # a mean needs a value of every run, and some may have fewer evaluations
        shortest = min(map(len, curves))
        steps = [evaluation.step for evaluation in results[0].history][:shortest]
        values = np.array([curve[:shortest] for curve in curves])
        if len(steps) == 1:  # nothing was trained
            axes.axhline(values.mean(), color=color, label=method, linestyle="--")
            continue
        axes.plot(steps, values.mean(0), color=color, linestyle=style, label=method)
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)


def plot_telemetry(history: Sequence[Evaluation], path: Path, title: str) -> None:
    """Draw how far the weights of one training have moved: Frankle, Schwab & Morcos 2020, figure 3.

    Args:
        history: evaluations with their telemetry; those without are left out.
        path: of the PNG file.
        title: above the plot.

    """
    records = {each.step: each.telemetry for each in history if each.telemetry is not None}
    steps, found = [*records], [*records.values()]
    figure, panels = new_figures(5, 18.0, 3.4)
    size, signs, far, angle, ten = panels
    size.plot(steps, [record.magnitude for record in found], color=COLORS[0], label="mean magnitude")
    size.plot(steps, [record.gradient or np.nan for record in found], color=COLORS[1], label="norm of the gradient")
    size.set(yscale="log", title="Magnitude, gradient")
    signs.plot(steps, [100 * record.signs_changed for record in found], color=COLORS[0])
    signs.set(ylabel="%", title="Signs changed since the start")
    for panel, quantity, name in ((far, "distance", "Euclidean distance"), (angle, "cosine", "Cosine")):
        panel.plot(steps, [getattr(record, quantity) for record in found], color=COLORS[0], label="to the start")
        to_end = [getattr(record, f"final_{quantity}") for record in found]
        panel.plot(steps, [np.nan if each is None else each for each in to_end], color=COLORS[1], label="to the end")
        panel.set(title=name)
    for line in zip(*(record.weights for record in found), strict=True):
        ten.plot(steps, line, linewidth=1)
    ten.set(title=f"{len(found[0].weights) if found else 0} weights")
    for panel in panels:
        panel.set_xlabel("step")
    for panel in (size, far, angle):
        panel.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save_figure(figure, path)


def plot_bars(bars: Mapping[str, float], path: Path, title: str, x_label: str, y_label: str) -> None:
    """Draw one bar per entry."""
    figure, axes = new_figure(width=min(max(4.8, 0.35 * len(bars)), _WIDEST))
    axes.bar(list(map(_label, bars)), list(bars.values()), color=COLORS[0])
    axes.set(xlabel=x_label, ylabel=y_label, title=_label(title))
    # numbers of classes fit side by side, names of layers would overlap
    if max(map(len, bars), default=0) > 3:
        axes.tick_params(axis="x", labelrotation=60)
    save_figure(figure, path)
