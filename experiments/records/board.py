"""The board as Markdown and as a plot."""

from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import Entry, of_tier
from experiments.records.tiers import RIVALS, TIERS
from supermask.report import table
from supermask.report.plot import COLORS, new_figures, plain_log, save_figure

TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
_MARKERS = {
    "whole file": "s",
    "weight bits": "^",
    "index bits": "v",
    "parameters": "D",
    "program": "P",
    "compressed file": "X",
}
_RULES = (
    "Bytes are those of the whole file: header, checksums, scales, everything but the program; each file of an entry"
    " fits the tier, and the largest is given. Errors are means with 95 % intervals (Student's t) over n seeds, the"
    " settings and the step chosen on the validation split and the test set read once. An entry after the first beat"
    " the one before it with p < .01 (Welch's one-sided test over seeds). The files lie in `entries/`, and"
    " `python -m experiments records check` evaluates each of them in a fresh process."
)


def board(entries: Sequence[Entry]) -> str:
    """Return the board as Markdown."""
    parts = ["# The record board", _RULES]
    for data, title in TITLES.items():
        rows = [row for tier in TIERS[data] for row in _rows(entries, data, tier)]
        parts += [f"## {title}", table(_HEADER, rows)]
        if RIVALS[data]:
            parts += ["What others reached, as they count it:", table(_RIVAL_HEADER, _rival_rows(data))]
    commands = [f"- {entry.name}: `{entry.record.command}`" for entry in entries]
    parts += ["## Commands", "\n".join(commands)] if commands else []
    return "\n\n".join([*parts, "![Test error against bytes](board.png)", _WRITTEN]) + "\n"


_HEADER = ("tier", "entry", "bytes", "validation error", "test error", "n", "p", "date", "commit")
_RIVAL_HEADER = ("rival", "bytes", "test error", "counts", "read in")
_WRITTEN = "Written by `python -m experiments records`."


def _rows(entries: Sequence[Entry], data: str, tier: int) -> list[list[str]]:
    """Return the rows of a tier, its record last; one that says that it is open where there is none."""
    found = of_tier(entries, data, tier)
    return [_row(entry) for entry in found] or [[f"{tier:,}", "open", *["-"] * (len(_HEADER) - 2)]]


def _row(entry: Entry) -> list[str]:
    record = entry.record
    return [
        f"{record.tier:,}",
        entry.name,
        f"{record.bytes:,}",
        record.validation_error.percent(),
        record.error.percent(),
        f"{len(record.kept)}",
        "-" if record.follows is None else f"{record.follows.p:.1g}",
        record.date,
        record.made.commit or "-",
    ]


def _rival_rows(data: str) -> list[list[str]]:
    return [
        [rival.name, f"{rival.bytes:,}", f"{rival.error:.2f} %", rival.counts, rival.source] for rival in RIVALS[data]
    ]


def plot(entries: Sequence[Entry], path: Path) -> None:
    """Draw test error against bytes, a panel for each data set; the marker of a rival says what it counts."""
    figure, axes = new_figures(len(TITLES), width=14.0, height=4.4)
    for place, (data, title) in zip(axes, TITLES.items(), strict=True):
        for counts, marker in _MARKERS.items():
            points = [(rival.bytes, rival.error) for rival in RIVALS[data] if rival.counts == counts]
            if points:
                label = f"others: {counts}"
                place.plot(*zip(*points, strict=True), marker, color=COLORS[1], markersize=5, label=label)
        for entry in entries:
            if entry.record.data == data:
                error = entry.record.error
                half = 100 * (error.half_width or 0.0)
                place.errorbar(entry.record.bytes, 100 * error.value, half, fmt="o", color=COLORS[0], capsize=3)
        for tier in TIERS[data]:
            place.axvline(tier, color="#bbbbbb", linewidth=0.7, zorder=0)
        place.plot([], [], "o", color=COLORS[0], label="entries: whole file")
        # one range for all, which an empty panel needs: from below the best of MNIST to a program of 101 bytes
        place.set(yscale="log", xlabel="bytes", ylabel="test error (%)", title=title, ylim=(0.3, 70))
        plain_log(place)
        place.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
