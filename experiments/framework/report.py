"""Reports: the results of an experiment collected in one file, and a table and a plot made from that file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.framework.experiment import Experiment, Group, Task
from experiments.framework.runner import planned
from supermask.errors import SupermaskError
from supermask.files import make_folder, read_json, write_json, write_whole
from supermask.report import table
from supermask.runs import Result, RunFolder

RESULTS = Path(__file__).parent / "results"
_LEFT_OUT = ("history", "file")  # large, or of the folder

Collected = dict[str, list[Result]]


def collect(experiment: Experiment, runs: Path, results: Path = RESULTS) -> Collected:
    """Return the results by group label: those of the folders of runs, and else those collected before.

    A result collected before counts only if it is of the very task that the experiment has now.
    """
    before = _collected(experiment, results)
    found: Collected = {group.label: [] for group in experiment.groups}
    for plan in planned(experiment, runs):
        if plan.finished:
            full = RunFolder(plan.path).read_result()
            found[plan.label].append({key: value for key, value in full.items() if key not in _LEFT_OUT})
        elif (digest := _digest(plan.task)) in before:
            found[plan.label].append(before[digest])
    return found


def write_report(experiment: Experiment, runs: Path, results: Path = RESULTS) -> str:
    """Collect the results, write them with their table and their plot, and return the table."""
    found = collect(experiment, runs, results)
    if not any(found.values()):
        command = f"python -m experiments run {experiment.name}"
        raise SupermaskError(f"No run of {experiment.name} is finished yet; start them with: {command}")
    make_folder(results)
    write_json(results / f"{experiment.name}.json", {"title": experiment.title, "results": found})
    shown = render(experiment, found)
    write_whole(results / f"{experiment.name}.md", shown.encode())
    experiment.plot({label: list(runs) for label, runs in found.items() if runs}, results / f"{experiment.name}.png")
    return shown


def render(experiment: Experiment, found: Mapping[str, Sequence[Result]]) -> str:
    """Return the report as Markdown."""
    header = ["", *experiment.table.header, "n", "published"]
    rows = [_row(experiment, group, found[group.label]) for group in experiment.groups]
    machines = sorted({_machine(result) for results in found.values() for result in results})
    notes = dict.fromkeys(_note(group) for group in experiment.groups if group.published)
    parts = [
        f"# {experiment.title}",
        experiment.source,
        table(header, rows),
        " ".join([experiment.table.note, *machines]),
        *notes,
        f"Written by `python -m experiments report {experiment.name}` from {experiment.name}.json.",
    ]
    return "\n\n".join(parts) + "\n"


def read_results(experiment: Experiment, results: Path = RESULTS) -> Collected:
    """Return the collected results by group label."""
    found: Collected = read_json(results / f"{experiment.name}.json")["results"]
    return found


def _collected(experiment: Experiment, results: Path) -> dict[str, Result]:
    """Return the results collected before by the digest of their settings."""
    if not (results / f"{experiment.name}.json").exists():
        return {}
    groups = read_results(experiment, results).values()
    return {_digest_of(result["config"]): result for group in groups for result in group}


def _digest(task: Task) -> str:
    return _digest_of(task.config())


def _digest_of(config: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _row(experiment: Experiment, group: Group, results: Sequence[Result]) -> list[str]:
    published = group.published.value if group.published else "-"
    n = f"{len(results)}" if len(results) == len(group.tasks) else f"{len(results)} of {len(group.tasks)}"
    cells = experiment.table.row(results) if results else ["not run", *["-"] * (len(experiment.table.header) - 1)]
    return [group.label, *cells, n, published]


def _note(group: Group) -> str:
    assert group.published is not None
    note = f" ({group.published.note})" if group.published.note else ""
    return f"Published: {group.published.source}{note}."


def _machine(result: Result) -> str:
    facts, made = result["machine"], result["versions"]
    where = facts.get("gpu", f"{facts['processor']}, {facts['threads']} thread" + "s" * (facts["threads"] != 1))
    return f"Machine: {where}; torch {made['torch']}, python {made['python']}; commit {result['commit']}."
