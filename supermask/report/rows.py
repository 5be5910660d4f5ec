"""Rows of bars with names to their left: readable where names are long and the screen is narrow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from supermask.report.plot import COLORS, new_figure, png_of

DPI = 192
"""Dots for each inch: such a figure, 36 rem wide, is sharp on a screen with two dots for each pixel."""
_FILLED = 0.76  # of a row's height that its bars take together; the rest is a gap


@dataclass(frozen=True)
class Bar:
    """A value with the ends of its interval, all of them per cent; without an interval they are the value."""

    value: float
    low: float
    high: float


def rows_figure(rows: Mapping[str, Mapping[str, Bar]], label: str, *, limit: float | None = None) -> bytes:
    """Return a PNG of horizontal bars, per cent from 0 on, the first row at the top.

    Args:
        rows: name of a row to its bars by the name of their series; every row has the same series.
        label: of the axis.
        limit: end of the axis; None leaves it to the bars.

    """
    series: Sequence[str] = list(next(iter(rows.values())))
    height = _FILLED / len(series)
    figure, axes = new_figure(width=4.8, height=0.9 + len(rows) * max(0.26, 0.17 * len(series)))
    for number, name in enumerate(series):
        bars = [row[name] for row in rows.values()]
        # rounded sums may put the value a last bit outside its interval, and matplotlib refuses a negative error
        errors = [[max(0.0, b.value - b.low) for b in bars], [max(0.0, b.high - b.value) for b in bars]]
        axes.barh(
            [place + (number - (len(series) - 1) / 2) * height for place in range(len(rows))],
            [bar.value for bar in bars],
            height,
            xerr=errors if any(map(any, errors)) else None,
            color=COLORS[number],
            capsize=2,
            error_kw={"elinewidth": 1},
            label=name,
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.set(xlabel=label, xlim=(0, limit))
    if len(series) > 1:
        figure.legend(frameon=False, loc="outside upper right", ncols=len(series))
    return png_of(figure, DPI)
