"""The diagnostics of a ticket, begun in order and only while their estimates fit the time that is left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from supermask.errors import RunError, SupermaskError, first_line
from supermask.files import make_folder
from supermask.report.page import Fact, Section
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, Diagnostic, Size
from supermask.runs.diagnostics.pace import Pace, measure_pace
from supermask.runs.diagnostics.plan import Plan
from supermask.runs.diagnostics.registry import DIAGNOSTICS
from supermask.runs.folder import RunFolder, recorded


@dataclass(frozen=True)
class Found:
    """A diagnostic that was run.

    Attributes:
        diagnostic: that was run.
        result: of it.
        sections: of the report.
        facts: for the box at the top.

    """

    diagnostic: Diagnostic[Any]
    result: Diagnosed
    sections: Sequence[Section]
    facts: Sequence[Fact]


@dataclass(frozen=True)
class Left:
    """A diagnostic that is not in the report.

    Attributes:
        diagnostic: that was left out.
        reason: a sentence without its full stop.
        size: the smallest, where there was no time for it; else None.

    """

    diagnostic: Diagnostic[Any]
    reason: str
    size: Size | None = None


@dataclass(frozen=True)
class Examined:
    """What was found out about a ticket.

    Attributes:
        context: the ticket and its data.
        found: what was run, in order.
        left: what was not.
        seconds: that all of it took, what was finished in earlier calls included.
        stopped: whether Ctrl-C or SIGTERM came.

    """

    context: Context
    found: tuple[Found, ...]
    left: tuple[Left, ...]
    seconds: float
    stopped: bool


def examine(context: Context, diagnostics: Sequence[Diagnostic[Any]] = DIAGNOSTICS) -> Examined:
    """Run the diagnostics that fit a ticket and the time.

    What is finished is read from its folder and not repeated. Its seconds count as if they were spent now, so that the
    same call chooses the same after it was stopped; with more minutes, more is run.

    Args:
        context: the ticket, its data, the folder and the time.
        diagnostics: in the order in which they are begun.

    Raises:
        SupermaskError: the folder cannot be written, or holds the report of another ticket.

    """
    clock = _Clock(60 * context.minutes)
    make_folder(context.out)
    plan = Plan.of(context.out, context.minutes)
    found: list[Found] = []
    left: list[Left] = []
    stopped = False
    shown = None if context.progress else True  # None: where standard error is no terminal
    with tqdm(total=len(diagnostics), desc="judge", unit="part", disable=shown, leave=False, dynamic_ncols=True) as bar:
        try:
            context = _with_pace(context)
            for diagnostic in diagnostics:
                bar.set_postfix_str(diagnostic.title.lower())
                end = _one(context, diagnostic, plan, clock)
                if isinstance(end, Found):
                    found.append(end)
                else:
                    left.append(end)
                bar.update()
        except KeyboardInterrupt:
            stopped = True
            done = {each.diagnostic.name for each in found} | {each.diagnostic.name for each in left}
            undone = [each for each in diagnostics if each.name not in done]
            left += [Left(each, "the command was stopped before it was finished") for each in undone]
    return Examined(context, tuple(found), tuple(left), clock.spent, stopped)


@dataclass
class _Clock:
    """The time that is left.

    Attributes:
        seconds: in all.
        earlier: spent in earlier calls, on what is now read.
        begun: when this call began.

    """

    seconds: float
    earlier: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        return self.earlier + time.monotonic() - self.begun

    def left(self) -> float:
        return self.seconds - self.spent


def _with_pace(context: Context) -> Context:
    """Measure how fast the network is, or read what was measured."""
    if context.unbuilt:
        return context
    config = {"diagnostic": "pace", **_config(context)}
    pace = recorded(
        Pace, context.out / "pace", config, lambda _: measure_pace(context), device=str(context.device), resume=True
    )
    return replace(context, pace=pace)


def _config(context: Context) -> dict[str, Any]:
    """Return what every diagnostic depends on, as it comes back from JSON."""
    held = {"data": context.data.name, "validation": len(context.data.validation)}
    return {**context.digests, **held, "seed": context.seed, **context.named_loss}


def _one(context: Context, diagnostic: Diagnostic[Any], plan: Plan, clock: _Clock) -> Found | Left:
    """Run a diagnostic or say why not."""
    if reason := diagnostic.unfit(context):
        return Left(diagnostic, reason)
    sizes = diagnostic.sizes(context)
    size = _chosen(context, diagnostic, sizes, plan, clock)
    if size is None:
        reason = f"its estimate is {duration(sizes[-1].seconds)}, and {duration(max(0.0, clock.left()))} were left"
        return Left(diagnostic, reason, sizes[-1])
    try:
        result = _measured(context, diagnostic, size, clock)
    except RunError:  # the folder is of another ticket, which concerns the whole report
        raise
    except SupermaskError as error:
        return Left(diagnostic, f"it failed: {first_line(error)}")
    return Found(diagnostic, result, diagnostic.sections(context, result), diagnostic.facts(result))


def _chosen(
    context: Context, diagnostic: Diagnostic[Any], sizes: Sequence[Size], plan: Plan, clock: _Clock
) -> Size | None:
    """Return the largest size that is finished or fits, or the one that the plan has."""
    if diagnostic.name in plan.sizes:
        planned = plan.sizes[diagnostic.name]
        return next((size for size in sizes if size.options == planned), None)
    for size in sizes:
        share = 1.0 if size is sizes[-1] else diagnostic.share
        finished = RunFolder(_folder(context, diagnostic, size)).finished
        if finished or size.seconds <= share * clock.left():
            plan.note(diagnostic.name, size.options)
            return size
    plan.note(diagnostic.name, None)
    return None


def _measured(context: Context, diagnostic: Diagnostic[Any], size: Size, clock: _Clock) -> Diagnosed:
    def measure(folder: Path) -> Diagnosed:
        begun = time.monotonic()
        found: Diagnosed = diagnostic.measure(context, size, folder, clock.left)
        return replace(found, seconds=round(time.monotonic() - begun, 3))

    folder = _folder(context, diagnostic, size)
    config = {"diagnostic": diagnostic.name, **_config(context), **size.options}
    earlier = RunFolder(folder).finished
    result: Diagnosed = recorded(diagnostic.kind, folder, config, measure, device=str(context.device), resume=True)
    clock.earlier += result.seconds if earlier else 0.0
    return result


def _folder(context: Context, diagnostic: Diagnostic[Any], size: Size) -> Path:
    parts = [diagnostic.name, *(f"{name}{value}" for name, value in size.options.items())]
    return context.out / "-".join(parts)


def duration(seconds: float) -> str:
    """Return a time in words, e.g. "45 s" or "3 min 5 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole or not seconds else "less than 1 s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
