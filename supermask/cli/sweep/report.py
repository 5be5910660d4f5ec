"""What a sweep came to: a row per method, model, data set and density, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.files import write_json, write_whole
from supermask.report import Mean, mean, table
from supermask.report.density import plot_accuracy_by_density
from supermask.runs import Result, RunFolder
from supermask.runs.grid import Cell, Planned

HEADER = ["method", "model", "data", "density", "test accuracy", "n", "weights kept", "of", "bytes", "seconds"]


@dataclass(frozen=True)
class Row:
    """The finished runs of one cell of a grid."""

    cell: Cell
    results: Mapping[str, Result]

    @property
    def accuracy(self) -> Mean:
        """Of the test set, over the seeds."""
        return mean([result["test"]["accuracy"] for result in self.results.values()])

    def values(self) -> dict[str, Any]:
        """Return the row as plain values."""
        first, accuracy = next(iter(self.results.values())), self.accuracy
        return {
            **self.cell._asdict(),
            "test_accuracy": accuracy.value,
            "half_width": accuracy.half_width,
            "n": accuracy.n,
            "kept": first["kept"],
            "prunable": first["prunable"],
            "bytes": max(result["bytes"] for result in self.results.values()),
            "seconds": mean([result["seconds"] for result in self.results.values()]).value,
            "runs": {name: result["test"]["accuracy"] for name, result in self.results.items()},
        }

    def texts(self) -> list[str]:
        """Return the row as the table shows it."""
        values = self.values()
        density = "-" if self.cell.density is None else f"{self.cell.density:g}"
        counts = [f"{values[key]:,}" for key in ("n", "kept", "prunable", "bytes")]
        names = [self.cell.method, self.cell.model, self.cell.data, density]
        return [*names, self.accuracy.percent(), *counts, f"{values['seconds']:.1f}"]


def rows_of(plans: Sequence[Planned]) -> list[Row]:
    """Return a row for every cell with finished runs, in the order of the grid."""
    found: dict[Cell, dict[str, Result]] = {plan.cell: {} for plan in plans}
    for plan in plans:
        if plan.finished:
            found[plan.cell][plan.name] = RunFolder(plan.path).read_result()
    return [Row(cell, results) for cell, results in found.items() if results]


def write_report(rows: Sequence[Row], out: Path, title: str) -> str:
    """Write table.md, sweep.json and accuracy.png to the folder; return the table."""
    shown = table(HEADER, [row.texts() for row in rows])
    write_json(out / "sweep.json", {"title": title, "rows": [row.values() for row in rows]})
    write_whole(out / "table.md", f"{title}\n\n{shown}\n".encode())
    curves: dict[str, dict[float, Mean]] = {}
    levels: dict[str, Mean] = {}
    for row in rows:
        label = ", ".join(row.cell[:3])
        if row.cell.density is None:
            levels[label] = row.accuracy
        else:
            curves.setdefault(label, {})[row.cell.density] = row.accuracy
    plot_accuracy_by_density(curves, levels, out / "accuracy.png", title)
    return shown
