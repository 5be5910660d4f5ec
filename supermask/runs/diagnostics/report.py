"""The report of a ticket: one page, the same as Markdown, and all numbers as JSON."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supermask.files import write_json, write_whole
from supermask.report.page import Fact, Page, Section
from supermask.results import Made
from supermask.runs.diagnostics.examine import Examined, Left, duration


def write_report(examined: Examined, out: Path) -> Page:
    """Write judge.html, judge.md with its figures, and judge.json; return the page."""
    page = page_of(examined)
    write_json(out / "judge.json", values_of(examined))
    for name, png in page.figures().items():
        write_whole(out / name, png)
    write_whole(out / "judge.md", page.markdown().encode())
    write_whole(out / "judge.html", page.html().encode())
    return page


def page_of(examined: Examined) -> Page:
    """Return the report as a page."""
    context = examined.context
    facts = [fact for each in examined.found for fact in each.facts]
    names = ", ".join(each.diagnostic.title for each in examined.left)
    left = [Fact("Left out", f"{names}; the last section says why")] if names else []
    found = [section for each in examined.found for section in each.sections]
    sections = [*found, *([_left_out(examined)] if examined.left else [])]
    title = f"{context.filed.path.name} on {context.data.name}"
    return Page(title, sections, [*facts, *left], _made(examined))


def values_of(examined: Examined) -> dict[str, Any]:
    """Return all numbers as plain values."""
    context = examined.context
    page = page_of(examined)
    left = {
        each.diagnostic.name: {
            "reason": each.reason,
            "seconds": None if each.size is None else each.size.seconds,
            "minutes": _minutes(examined, each),
        }
        for each in examined.left
    }
    return {
        "ticket": str(context.filed.path),
        "data": context.data.name,
        "seed": context.seed,
        "minutes": context.minutes,
        "seconds": round(examined.seconds, 3),
        "stopped": examined.stopped,
        "summary": [vars(fact) for fact in page.summary],
        "pace": None if context.pace is None else context.pace.to_json(),
        "diagnostics": {each.diagnostic.name: _result(each.result.to_json()) for each in examined.found},
        "commands": {each.diagnostic.name: each.sections[0].command for each in examined.found},
        "left out": left,
    }


def _result(values: Mapping[str, Any]) -> dict[str, Any]:
    # confusions and the like stay; what the config says stands at the top already
    return {name: value for name, value in values.items() if name != "config"}


def _left_out(examined: Examined) -> Section:
    points = [f"{each.diagnostic.title}: {each.reason}.{_remedy(examined, each)}" for each in examined.left]
    text = "The report is without these. What is finished is kept: the same command with more --minutes adds to it."
    return Section("Left out", text, points, command=examined.context.again)


def _remedy(examined: Examined, left: Left) -> str:
    minutes = _minutes(examined, left)
    if minutes is None or left.size is None:
        return ""
    size = f" ({left.size.text})" if left.size.text else ""
    return f" With --minutes {minutes} it is run in its smallest form{size}."


def _minutes(examined: Examined, left: Left) -> int | None:
    """Return the whole minutes in which a diagnostic would have been run, too."""
    if left.size is None:
        return None
    needed = math.ceil((examined.seconds + left.size.seconds) / 60)
    return max(needed, math.floor(examined.context.minutes) + 1)


def _made(examined: Examined) -> list[Fact]:
    """Return what the report was made with."""
    context, made = examined.context, Made.here(str(examined.context.device), 1)
    data = context.data
    counts = f"{len(data.train):,} training and {len(data.validation):,} validation images"
    machine = f"{made.machine['processor']}, {made.machine['cores']} cores, {made.machine['threads']} threads"
    device = made.machine.get("gpu", made.machine["device"])
    return [
        Fact("Time spent", f"{duration(examined.seconds)} of {duration(60 * context.minutes)}"),
        Fact("Data", f"{data.name}: {counts}; the validation part is drawn by the ticket's seed"),
        Fact("Seed", f"{context.seed}; what is drawn several times takes the seeds from there on"),
        Fact("Machine", f"{machine}, {device}"),
        Fact("Versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())),
        Fact("Commit", made.commit or "unknown"),
    ]
