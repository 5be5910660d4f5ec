"""Lines over one axis, for a page: readable where the screen is narrow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from supermask.report.plot import COLORS, new_figure, png_of
from supermask.report.rows import DPI


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Attributes:
        x: places, in order.
        y: a value at each.
        color: number of its color; lines that belong together have one.
        dashed: whether it is dashed.
        low: lower end of the interval at each place; empty for none.
        high: upper end.

    """

    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def lines_figure(lines: Mapping[str, Line], x_label: str, y_label: str) -> bytes:
    """Return a PNG of lines, with values from 0 on.

    Args:
        lines: by what the legend calls them.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.

    """
    figure, axes = new_figure(width=4.8, height=3.4)
    for label, line in lines.items():
        color = COLORS[line.color % len(COLORS)]
        axes.plot(line.x, line.y, "--" if line.dashed else "-", color=color, label=label)
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_ylim(bottom=0)
    figure.legend(frameon=False, loc="outside upper center", ncols=2, fontsize="small")
    return png_of(figure, DPI)
