"""The second half of a comparison: tickets beside their controls, with verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.errors import SupermaskError
from supermask.files import make_folder, write_json, write_whole
from supermask.judge.report import Judged, judge
from supermask.runs import Job
from supermask.runs.grid import Cell
from supermask.runs.planned import Planned
from supermask.runs.run_controls import run_controls
from supermask.runs.run_job import TICKET
from supermask.training import Recipe, Stopped


@dataclass(frozen=True)
class Suspect:
    """A ticket that is to be judged, as one seed of several.

    Attributes:
        path: of its file.
        folder: for its controls.
        seed: of what the controls draw, and of the order of the examples.

    """

    path: Path
    folder: Path
    seed: int


def suspects_of(plans: Sequence[Planned[Job]], out: Path) -> dict[str, list[Suspect]]:
    """Return the tickets of finished runs, by method and density."""
    found: dict[str, list[Suspect]] = {}
    for plan in plans:
        if plan.finished and (plan.path / TICKET).exists():
            density = Cell.of(plan.task).density
            label = plan.task.method + ("" if density is None else f", density {density:g}")
            suspect = Suspect(plan.path / TICKET, out / "controls" / plan.name, plan.task.seed)
            found.setdefault(label, []).append(suspect)
    return found


def suspects_in(paths: Sequence[str], seeds: Sequence[int], out: Path) -> dict[str, list[Suspect]]:
    """Return files of tickets, which are judged together, with each of the seeds.

    Raises:
        SupermaskError: a file is not there.

    """
    for path in paths:
        if not Path(path).is_file():
            raise SupermaskError(f"--ticket {path}: there is no such file; give files of tickets, separated by commas.")
    named = [(Path(path), f"ticket{number}-{Path(path).stem}") for number, path in enumerate(paths)]
    together = [Suspect(path, out / "controls" / name, seed) for path, name in named for seed in seeds]
    return {", ".join(paths): together}


def judge_all(suspects: Mapping[str, Sequence[Suspect]], recipe: Recipe, **options: Any) -> dict[str, Judged]:
    """Run the controls that are not finished, and judge each group of tickets.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the same command goes on.

    """
    judged = {}
    for label, group in suspects.items():
        try:
            runs = [
                run_controls(each.path, out=each.folder, recipe=recipe, seed=each.seed, **options) for each in group
            ]
        except Stopped as stop:
            raise Stopped(f"{label}: {str(stop).replace('the same call', 'the same command')}") from None
        judged[label] = judge(runs)
    return judged


def write_judged(judged: Mapping[str, Judged], out: Path) -> str:
    """Write controls.md, controls.json and a plot of each group to the folder; return what the first holds."""
    make_folder(out)
    parts = []
    for number, (label, each) in enumerate(judged.items()):
        verdicts = "\n".join(f"- {line}" for line in each.lines())
        parts.append(f"{label}: the ticket beside its controls\n\n{each.table()}\n\n{verdicts}")
        each.plot(out / f"controls-{number}.png", label)
    shown = "\n\n".join(parts)
    write_json(out / "controls.json", {label: each.values() for label, each in judged.items()})
    write_whole(out / "controls.md", f"{shown}\n".encode())
    return shown
