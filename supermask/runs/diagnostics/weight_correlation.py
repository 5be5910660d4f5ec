"""The section on whether the largest weights before a training are the largest after it."""

from collections.abc import Mapping

from supermask.judge import Correlation
from supermask.report.lines import Line, lines_figure
from supermask.report.page import Fact, Section, Table

TITLE = "Weight correlation"
SAID = 0.2
"""The p of the summary, that of most figures of the paper."""


def correlation_section(found: Mapping[str, tuple[Correlation, ...]], training: str, command: str) -> Section:
    """Return a row for each network and each p.

    Args:
        found: the indicators by the name of the network; empty ones where the initial weights have no ranking.
        training: how long it was, in words.
        command: that gives the figures.

    """
    ranked = {name: each for name, each in found.items() if each}
    text = (
        "R_p says how much of the ranking of the initial weights a training leaves: the share of the largest p of a"
        " layer's kept weights before it that are among the largest p after it (Liu et al. 2021). Independent weights"
        " have R_p = p, within the interval by chance; a value near 1 says that the training hardly changed which"
        " weights are large. In the paper that is so at small learning rates, and tickets win over random weights only"
        f" there. The weights are those of one copy after {training}; a longer training moves them further."
    )
    if not ranked:
        return Section(TITLE, f"{text}\n\n{_UNRANKED}", command=command)
    rows = [
        [
            name,
            f"{each.fraction:g}",
            f"{each.value:.4f}",
            f"{each.low:.4f} to {each.high:.4f}",
            f"{each.z:+.1f}",
            f"{each.taken:,}",
        ]
        for name, indicators in ranked.items()
        for each in indicators
    ]
    return Section(
        TITLE,
        text,
        table=Table(["network", "p", "R_p", "by chance (95 %)", "z", "weights taken"], rows),
        figure=lines_figure(_lines(ranked), "p", "R_p"),
        alt="Lines of R_p over p. "
        + "; ".join(f"{name}: from {_at(each[0])} to {_at(each[-1])}" for name, each in ranked.items())
        + ".",
        command=command,
    )


def correlation_fact(found: tuple[Correlation, ...], training: str) -> list[Fact]:
    """Return the indicator of the ticket in a line, if it has one."""
    said = next((each for each in found if each.fraction == SAID), None)
    return [] if said is None else [Fact(f"Initial and trained weights, {training}", said.text())]


_UNRANKED = (
    "The initial weights of each layer have one magnitude here (signed constants), so that none is larger than"
    " another before the training, and there is no ranking to keep."
)


def _at(found: Correlation) -> str:
    return f"{found.value:.2f} at p = {found.fraction:g}"


def _lines(ranked: Mapping[str, tuple[Correlation, ...]]) -> dict[str, Line]:
    lines = {
        name: Line([each.fraction for each in indicators], [each.value for each in indicators], number)
        for number, (name, indicators) in enumerate(ranked.items())
    }
    first = next(iter(ranked.values()))
    parts = ([getattr(each, part) for each in first] for part in ("fraction", "chance", "low", "high"))
    places, chance, low, high = parts
    return {**lines, "by chance (95 %)": Line(places, chance, len(lines), dashed=True, low=low, high=high)}
