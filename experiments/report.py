"""Reports: the results of an experiment collected in one file, and a table and a plot made from that file."""

from pathlib import Path
from typing import Any

from experiments.experiment import Experiment, Group, Result
from experiments.runner import planned
from supermask.errors import SupermaskError
from supermask.files import make_folder, read_json, write_json, write_whole
from supermask.report import mean, table
from supermask.runs import RunFolder

RESULTS = Path(__file__).parent / "results"
_LEFT_OUT = ("history", "job", "file")  # large, known from the experiment itself, or of the folder


def collect(experiment: Experiment, runs: Path, results: Path = RESULTS) -> dict[str, list[Result]]:
    """Return the results by group label: those of the folders of runs, and else those collected before.

    A result collected before counts only if it is of the very job that the experiment has now.
    """
    before = _collected(experiment, results)
    found: dict[str, list[Result]] = {group.label: [] for group in experiment.groups}
    for plan in planned(experiment, runs):
        if plan.finished:
            full = RunFolder(plan.path).read_result()
            result = {"seed": plan.job.seed, **{key: full[key] for key in full if key not in _LEFT_OUT}}
        else:
            result = before.get((plan.label, plan.job.seed), {})
        if result:
            found[plan.label].append(result)
    return found


def write_report(experiment: Experiment, runs: Path, results: Path = RESULTS) -> str:
    """Collect the results, write them with their table and their plot, and return the table."""
    found = collect(experiment, runs, results)
    if not any(found.values()):
        command = f"python -m experiments run {experiment.name}"
        raise SupermaskError(f"No run of {experiment.name} is finished yet; start them with: {command}")
    make_folder(results)
    jobs = {group.label: _without_seed(group) for group in experiment.groups}
    write_json(results / f"{experiment.name}.json", {"title": experiment.title, "jobs": jobs, "results": found})
    shown = render(experiment, found)
    write_whole(results / f"{experiment.name}.md", shown.encode())
    experiment.plot({label: list(runs) for label, runs in found.items() if runs}, results / f"{experiment.name}.png")
    return shown


def render(experiment: Experiment, found: dict[str, list[Result]]) -> str:
    """Return the report as Markdown."""
    rows = [_row(group, found[group.label]) for group in experiment.groups]
    header = ["", "test accuracy", "n", "kept", "ticket bytes", "seconds", "published"]
    notes = dict.fromkeys(_note(group) for group in experiment.groups if group.published)
    parts = [
        f"# {experiment.title}",
        experiment.source,
        table(header, rows),
        "Test accuracy: mean and 95 % interval (Student's t) over n seeds; the best step was chosen on the validation"
        " split and the test set read once. Seconds: mean per run. "
        + " ".join(sorted({_machine(result) for results in found.values() for result in results})),
        *notes,
        f"Written by `python -m experiments report {experiment.name}` from {experiment.name}.json.",
    ]
    return "\n\n".join(parts) + "\n"


def read_results(experiment: Experiment, results: Path = RESULTS) -> dict[str, list[Result]]:
    """Return the collected results by group label, in the order of their seeds."""
    found: dict[str, list[Result]] = read_json(results / f"{experiment.name}.json")["results"]
    return found


def _collected(experiment: Experiment, results: Path) -> dict[tuple[str, int], Result]:
    path = results / f"{experiment.name}.json"
    if not path.exists():
        return {}
    stored: dict[str, Any] = read_json(path)
    return {
        (group.label, result["seed"]): result
        for group in experiment.groups
        if stored["jobs"].get(group.label) == _without_seed(group)
        for result in stored["results"].get(group.label, [])
    }


def _without_seed(group: Group) -> dict[str, Any]:
    return {key: value for key, value in group.job.config().items() if key != "seed"}


def _row(group: Group, results: list[Result]) -> list[str]:
    published = f"{100 * group.published.accuracy:g} %" if group.published else "-"
    n = f"{len(results)}" if len(results) == len(group.seeds) else f"{len(results)} of {len(group.seeds)}"
    if not results:
        return [group.label, "not run", n, "-", "-", "-", published]
    accuracy = mean([result["test"]["accuracy"] for result in results])
    seconds = mean([result["seconds"] for result in results])
    size = "-" if group.job.method == "dense" else f"{results[0]['bytes']:,}"
    kept = f"{results[0]['kept']:,}"
    return [group.label, accuracy.percent(), n, kept, size, f"{seconds.value:.0f}", published]


def _note(group: Group) -> str:
    assert group.published is not None
    note = f" ({group.published.note})" if group.published.note else ""
    return f"Published: {group.published.source}{note}."


def _machine(result: Result) -> str:
    facts, made = result["machine"], result["versions"]
    where = facts.get("gpu", f"{facts['processor']}, {facts['threads']} thread" + "s" * (facts["threads"] != 1))
    return f"Machine: {where}; torch {made['torch']}, python {made['python']}; commit {result['commit']}."
