"""The report of a grid of runs: a row per method, model, data set and density, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from supermask.files import write_json, write_whole
from supermask.report.density import plot_accuracy_by_density
from supermask.report.intervals import Mean, mean
from supermask.report.plot import plot_accuracy_over_steps, plot_loss_over_steps
from supermask.report.table import table
from supermask.runs.grid import Cell
from supermask.runs.job import Job
from supermask.runs.measures import TEXT, by_loss
from supermask.runs.planned import Planned
from supermask.runs.result import JobResult

COLUMNS = ("test accuracy", "n", "weights kept", "of", "best step", "bytes", "seconds")


@dataclass(frozen=True)
class Row:
    """The runs that differ in their seed alone.

    Attributes:
        method: its name.
        model: its name.
        data: name of the data set.
        density: fraction of the weights that is kept; None where the method does not depend on one.
        recipe: how it is trained, as text.
        planned: number of runs, finished or not.
        results: of the finished ones, by the names of their folders.

    """

    method: str
    model: str
    data: str
    density: float | None
    recipe: str
    planned: int
    results: Mapping[str, JobResult]

    @property
    def accuracy(self) -> Mean:
        """Test accuracy over the seeds."""
        return mean([result.test.accuracy for result in self.results.values()])

    @property
    def loss(self) -> Mean:
        """Test loss over the seeds."""
        return mean([result.test.loss for result in self.results.values()])

    @property
    def by_loss(self) -> bool:
        """Whether the loss is what tells its runs from others."""
        return by_loss(self.data, [result.test for result in self.results.values()])

    @property
    def _measure(self) -> str:
        return "loss" if self.by_loss else "accuracy"

    def values(self) -> dict[str, Any]:
        """Return the row as plain values; what differs between its runs is their mean, but the most bytes."""
        measured = self.loss if self.by_loss else self.accuracy
        return {
            "method": self.method,
            "model": self.model,
            "data": self.data,
            "density": self.density,
            "recipe": self.recipe,
            f"test_{self._measure}": measured.value,
            "half_width": measured.half_width,
            "n": measured.n,
            "planned": self.planned,
            **{field: self._mean(field) for field in ("kept", "prunable", "best_step", "seconds")},
            "bytes": max(result.bytes for result in self.results.values()),
            "runs": {name: getattr(result.test, self._measure) for name, result in self.results.items()},
        }

    def texts(self) -> list[str]:
        """Return the cells under `COLUMNS`."""
        values = self.values()
        n = f"{values['n']}" if values["n"] == self.planned else f"{values['n']} of {self.planned}"
        counts = [f"{values[key]:,.0f}" for key in ("kept", "prunable", "best_step", "bytes")]
        return [self.loss.text() if self.by_loss else self.accuracy.percent(), n, *counts, f"{values['seconds']:.1f}"]

    @property
    def cost(self) -> float | None:
        """Optimizer steps that led to the network as a multiple of one training, mean over the seeds; None: unknown."""
        costs = [result.cost for result in self.results.values()]
        known = [cost for cost in costs if cost is not None]
        return fmean(known) if known and len(known) == len(costs) else None

    def cost_text(self, shown: bool) -> list[str]:
        """Return the cell of the cost, where it is shown."""
        text = "-" if self.cost is None else f"{self.cost:.3g}"
        return [text] if shown else []

    def _mean(self, field: str) -> float:
        found = fmean(getattr(result, field) for result in self.results.values())
        return int(found) if found.is_integer() else found


@dataclass(frozen=True)
class GridReport:
    """A grid as a table, as plain values and as a plot; it may be finished in part.

    Attributes:
        title: above the table and the plot.
        rows: of the whole grid; those without a finished run are not shown.

    """

    title: str
    rows: Sequence[Row]

    @classmethod
    def of(cls, plans: Sequence[Planned[Job]], results: Mapping[str, JobResult], title: str) -> "GridReport":
        """Return the report of a grid.

        Args:
            plans: all runs, in the order of the grid.
            results: of the finished ones, by name.
            title: above the table and the plot.

        """
        cells: dict[Cell, list[str]] = {}
        recipes: dict[Cell, str] = {}
        for plan in plans:
            cells.setdefault(Cell.of(plan.task), []).append(plan.name)
            recipes.setdefault(Cell.of(plan.task), _recipe(plan.task))
        rows = [
            Row(
                *cell,
                recipe=recipes[cell],
                planned=len(names),
                results={name: results[name] for name in names if name in results},
            )
            for cell, names in cells.items()
        ]
        return cls(title, rows)

    @property
    def begun(self) -> list[Row]:
        """The rows with finished runs."""
        return [row for row in self.rows if row.results]

    def table(self) -> str:
        """Return the table as Markdown; model and data set are columns where there are several."""
        keys = ["method", *self._several, "density"]
        # most methods train once, and need no column to say so
        priced = any(row.cost not in (None, 1.0) for row in self.begun)
        header = [*keys, self._measured, *COLUMNS[1:], *(["cost"] if priced else [])]
        return table(header, [[*_names(row, keys), *row.texts(), *row.cost_text(priced)] for row in self.begun])

    def recipes(self) -> str:
        """Return how the methods are trained: a line for each way."""
        recipes: dict[str, list[Row]] = {}
        for row in self.begun:
            recipes.setdefault(row.recipe, []).append(row)
        several = {
            row.method for row in self.begun if len({r.recipe for r in self.begun if r.method == row.method}) > 1
        }
        lines = []
        for recipe, rows in recipes.items():
            # the density only where the recipe of a method goes with it
            names = [f"{row.method} at {row.density:g}" if row.method in several else row.method for row in rows]
            lines.append(f"- {', '.join(dict.fromkeys(names))}: {recipe}")
        return "\n".join(lines)

    def text(self) -> str:
        """Return the title, the table and how the methods are trained, as Markdown."""
        return f"{self.title}\n\n{self.table()}\n\nTrained with:\n\n{self.recipes()}"

    def values(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {"title": self.title, "rows": [row.values() for row in self.begun]}

    def plot(self, path: Path) -> None:
        """Draw test accuracy by density, or, where all runs have the same one, validation accuracy over steps.

        Where the loss tells runs apart, it is drawn, over steps.
        """
        if any(row.by_loss for row in self.begun):
            plot_loss_over_steps({self._label(row): [*row.results.values()] for row in self.begun}, path, self.title)
        elif len({row.density for row in self.rows} - {None}) > 1:
            self._plot_by_density(path)
        else:
            results = {self._label(row): list(row.results.values()) for row in self.begun}
            plot_accuracy_over_steps(results, path, self.title)

    def write(self, out: Path, values: str) -> None:
        """Write table.md, accuracy.png and the plain values, in a file of that name, to a folder."""
        write_whole(out / "table.md", f"{self.text()}\n".encode())
        write_json(out / values, self.values())
        self.plot(out / "accuracy.png")

    @property
    def _measured(self) -> str:
        """The first column: losses are in nats where they are those of characters."""
        losses = [row.by_loss for row in self.begun]
        text = all(row.data.startswith(TEXT) for row in self.begun)
        loss = "test loss, nats per character" if text else "test loss"
        return loss if all(losses) else f"test accuracy or {loss}" if any(losses) else COLUMNS[0]

    @property
    def _several(self) -> list[str]:
        return [key for key in ("model", "data") if len({getattr(row, key) for row in self.rows}) > 1]

    def _label(self, row: Row) -> str:
        return ", ".join(_names(row, ["method", *self._several]))

    def _plot_by_density(self, path: Path) -> None:
        curves: dict[str, dict[float, Mean]] = {}
        levels: dict[str, Mean] = {}
        for row in self.begun:
            if row.density is None:
                levels[self._label(row)] = row.accuracy
            else:
                curves.setdefault(self._label(row), {})[row.density] = row.accuracy
        plot_accuracy_by_density(curves, levels, path, self.title)


def _recipe(job: Job) -> str:
    """Return how a job is trained, as text."""
    named = f"{job.setting} setting, " if job.algorithm.settings else ""
    return f"{named}{job.describe_training()}"


def _names(row: Row, keys: Sequence[str]) -> list[str]:
    names = [getattr(row, key) for key in keys]
    return ["-" if name is None else f"{name:g}" if isinstance(name, float) else name for name in names]
