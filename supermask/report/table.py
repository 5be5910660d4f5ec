"""Plain tables, for a terminal and for Markdown alike."""

from collections.abc import Sequence

from supermask.shown import printable


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns: the first to the left, the others to the right."""
    header, rows = _shown(header), [_shown(row) for row in rows]
    # the rule of a column to the right is a dash and a colon at least
    widths = [max(2, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(header, widths), "| " + " | ".join(rule) + " |", *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _shown(cells: Sequence[str]) -> list[str]:
    # names come from files too
    return [printable(cell) for cell in cells]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "| " + " | ".join([first, *others]) + " |"
