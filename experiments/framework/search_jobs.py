"""The searches side by side: the jobs of each at a density, and the plot that they share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.framework.training import accuracy
from supermask.baselines.heuristic import Heuristic
from supermask.judge.paired import Paired, paired
from supermask.report import Mean, mean
from supermask.report.density import draw_accuracy_by_density
from supermask.report.plot import new_figure, save_figure
from supermask.runs import Job, JobResult, SearchOptions
from supermask.search.structured import StructuredRule

BY_DENSITY: Mapping[str, str | StructuredRule | Mapping[str, object]] = {
    "edge_popup": {},
    "edge_popup, global": {"scope": "global", "floor": 1, "equalised": True},
    "edge_popup, global gradual": {"scope": "global", "floor": 1, "equalised": True, "ramp": 1000},
    "gem_miner": "gem_miner",
    "iterand": "iterand",
    "biprop": "biprop",
    "signed": "signed",
    "multicoated": "multicoated",
    "partially_frozen": "partially_frozen",
    "trichromatic": "trichromatic",
    "gates": "gates",
    "blocks 4x4": StructuredRule(structure="blocks"),
    "channels": StructuredRule(structure="channels"),
}
"""Searches by the label of their rows: a method with its default options, or others; or edge-popup's own options."""

N_OF_M = {0.5: (2, 4), 0.1: (1, 10), 0.04: (1, 25), 0.02: (1, 50)}
"""The n and m that make a density."""

HEURISTIC = Heuristic(criterion="large_final", sign="same")


def searches_at(job: Job, density: float) -> Iterator[tuple[str, Job]]:
    """Yield every search by density as the label of its row and a job."""
    for label, way in BY_DENSITY.items():
        options = way if isinstance(way, Mapping) else {}
        asked = replace(job, search=SearchOptions(density=density, **options))  # type: ignore[arg-type]
        if isinstance(way, str):
            asked = replace(asked, method=way)
        elif isinstance(way, StructuredRule):
            asked = replace(asked, method=way.name, options=way)
        yield label, asked
    if density in N_OF_M:
        n, m = N_OF_M[density]
        rule = StructuredRule(structure="n_of_m", n=n, m=m)
        yield f"{n} of {m}", replace(job, method=rule.name, options=rule, search=SearchOptions(density=density))


def beside_dense(found: Mapping[str, Sequence[JobResult]]) -> str:
    """Return whether any search is above or below the dense network of its model, tested seed by seed.

    Args:
        found: results by the label of their row; that of the dense network is "dense".

    """
    if "dense" not in found:
        return "The dense network was not run."
    dense = {result.config["seed"]: result for result in found["dense"]}
    model = found["dense"][0].config["model"]
    differences: dict[str, Paired] = {}
    for label, results in found.items():
        both = [result for result in results if result.config["seed"] in dense]
        if label != "dense" and len(both) > 1 and both[0].config["model"] == model:
            theirs = [dense[result.config["seed"]].test for result in both]
            ours = [result.test.accuracy for result in both]
            accuracies = [test.accuracy for test in theirs]
            differences[label] = paired(ours, accuracies, unit=1 / theirs[0].total)
    if not differences:
        return "Too few seeds for a test against the dense network."
    above = [label for label, difference in differences.items() if difference.low > 0.0]
    below = [label for label, difference in differences.items() if difference.high < 0.0]
    named = f" ({', '.join(above)})" if above else ""
    best = max(differences, key=lambda label: differences[label].difference.value)
    return (
        f"Against the dense network, paired by seed, with 95 % intervals (Student's t): of {len(differences)} rows"
        f" {len(above)} are above it{named} and {len(below)} below; the others"
        f" cannot be told from it. The best is {best}: {differences[best].text()} points."
    )


def draw_searches(found: Mapping[str, Sequence[JobResult]], path: Path, title: str) -> None:
    """Draw accuracy by the density reached: a curve for each search, a level for the dense network.

    Args:
        found: results by the label of their row, "SEARCH, DENSITY".
        path: of the PNG file.
        title: above the plot.

    """
    curves: dict[str, dict[float, Mean]] = {}
    levels: dict[str, Mean] = {}
    for label, results in found.items():
        search = label.rpartition(", ")[0] or label
        found_accuracy = accuracy(results)
        if results[0].config["method"] == "dense":
            levels[label] = found_accuracy
            continue
        search = "n of m" if " of " in search else search
        reached = mean([result.density for result in results]).value
        curves.setdefault(search, {})[reached] = found_accuracy
    figure, axes = new_figure(width=9.0, height=5.2)
    draw_accuracy_by_density(axes, curves, levels)
    axes.set(title=title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save_figure(figure, path)
