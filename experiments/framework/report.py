"""Reports: the results of an experiment collected in one file, and a table and a plot made from that file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.framework.experiment import Experiment, Group, R, Task
from experiments.framework.runner import planned
from supermask.errors import SupermaskError
from supermask.files import make_folder, read_json, write_json, write_whole
from supermask.report import table
from supermask.results import Result
from supermask.runs import RunFolder

RESULTS = Path(__file__).parents[1] / "results"
_LEFT_OUT = ("history", "file")  # large, or of the folder

Collected = dict[str, list[dict[str, Any]]]
"""Results as plain values by group label. They stay as their run wrote them, also where later runs have more fields."""


def collect(experiment: Experiment[Any], runs: Path, results: Path = RESULTS) -> Collected:
    """Return the results by group label: those of the folders of runs, and else those collected before.

    A result collected before counts only if it is of the very task that the experiment has now.
    """
    before = _collected(experiment, results)
    found: Collected = {group.label: [] for group in experiment.groups}
    for plan in planned(experiment, runs):
        if plan.finished:
            full = RunFolder(plan.path).read_result()
            found[str(plan.row)].append({key: value for key, value in full.items() if key not in _LEFT_OUT})
        elif (digest := _digest(plan.task)) in before:
            found[str(plan.row)].append(before[digest])
    return found


def write_report(experiment: Experiment[Any], runs: Path, results: Path = RESULTS) -> str:
    """Collect the results, write them with their table and their plot, and return the table."""
    found = collect(experiment, runs, results)
    if not any(found.values()):
        command = f"python -m experiments run {experiment.name}"
        raise SupermaskError(f"No run of {experiment.name} is finished yet; start them with: {command}")
    make_folder(results)
    write_json(results / f"{experiment.name}.json", {"title": experiment.title, "results": found})
    read = _read(experiment, found)
    shown = render(experiment, read)
    write_whole(results / f"{experiment.name}.md", shown.encode())
    experiment.plot({label: found for label, found in read.items() if found}, results / f"{experiment.name}.png")
    return shown


def render(experiment: Experiment[R], found: Mapping[str, Sequence[R]]) -> str:
    """Return the report as Markdown."""
    header = ["", *experiment.table.header, "n", "published"]
    rows = [_row(experiment, group, found[group.label]) for group in experiment.groups]
    machines = sorted({_machine(result) for results in found.values() for result in results})
    notes = dict.fromkeys(_note(group) for group in experiment.groups if group.published)
    concluded = {label: results for label, results in found.items() if results}
    parts = [
        f"# {experiment.title}",
        experiment.source,
        table(header, rows),
        *([experiment.conclusion(concluded)] if experiment.conclusion else []),
        " ".join([experiment.table.note, *machines]),
        *notes,
        f"Written by `python -m experiments report {experiment.name}` from {experiment.name}.json.",
    ]
    return "\n\n".join(parts) + "\n"


def read_results(experiment: Experiment[R], results: Path = RESULTS) -> dict[str, list[R]]:
    """Return the collected results by group label."""
    return _read(experiment, _stored(experiment, results))


def _read(experiment: Experiment[R], found: Collected) -> dict[str, list[R]]:
    return {label: [experiment.kind.from_json(values) for values in group] for label, group in found.items()}


def _stored(experiment: Experiment[Any], results: Path) -> Collected:
    stored: Collected = read_json(results / f"{experiment.name}.json")["results"]
    return stored


def _collected(experiment: Experiment[Any], results: Path) -> dict[str, dict[str, Any]]:
    """Return the results collected before by the digest of their settings."""
    if not (results / f"{experiment.name}.json").exists():
        return {}
    groups = _stored(experiment, results).values()
    return {_digest_of(values["config"]): values for group in groups for values in group}


def _digest(task: Task) -> str:
    return _digest_of(task.config())


def _digest_of(config: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _row(experiment: Experiment[R], group: Group, results: Sequence[R]) -> list[str]:
    published = group.published.value if group.published else "-"
    n = f"{len(results)}" if len(results) == len(group.tasks) else f"{len(results)} of {len(group.tasks)}"
    cells = experiment.table.row(results) if results else ["not run", *["-"] * (len(experiment.table.header) - 1)]
    return [group.label, *cells, n, published]


def _note(group: Group) -> str:
    assert group.published is not None
    note = f" ({group.published.note})" if group.published.note else ""
    return f"Published: {group.published.source}{note}."


def _machine(result: Result) -> str:
    facts, versions = result.made.machine, result.made.versions
    where = facts.get("gpu", f"{facts['processor']}, {facts['threads']} thread" + "s" * (facts["threads"] != 1))
    return f"Machine: {where}; torch {versions['torch']}, python {versions['python']}; commit {result.made.commit}."
