"""The accuracy of a ticket, of its controls and of the dense networks, as bars."""

from collections.abc import Mapping
from pathlib import Path

from supermask.report import Mean
from supermask.report.plot import COLORS, new_figure, save_figure

_WIDTH = 0.4  # of a bar: two states fill 0.8 of a network's place and leave a gap to the next


def plot_accuracies(bars: Mapping[str, Mapping[str, Mean]], path: Path, title: str) -> None:
    """Draw test accuracies as groups of bars with their intervals.

    Args:
        bars: network to state ("untrained", "trained") to accuracy, a fraction; every network has the same states.
        path: of the PNG file.
        title: above the plot.

    """
    figure, axes = new_figure(width=max(6.4, 0.9 * len(bars)), height=4.8)
    states = list(next(iter(bars.values())))
    for number, state in enumerate(states):
        means = [bar[state] for bar in bars.values()]
        axes.bar(
            [place + (number - (len(states) - 1) / 2) * _WIDTH for place in range(len(bars))],
            [100 * accuracy.value for accuracy in means],
            _WIDTH,
            # a single run has no interval
            yerr=[100 * (accuracy.half_width or 0.0) for accuracy in means],
            color=COLORS[number],
            capsize=2,
            label=state,
        )
    axes.set_xticks(range(len(bars)), list(bars), rotation=35, ha="right")
    axes.set(ylabel="test accuracy (%)", title=title, ylim=(0, None))
    figure.legend(frameon=False, loc="outside upper right", ncols=len(states))
    save_figure(figure, path)
