"""`supermask compare`: several methods, several seeds, one table."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from supermask.cli.options import DIGITS, Common, relative
from supermask.errors import SupermaskError
from supermask.files import make_folder, write_json, write_whole
from supermask.report import mean, plot_accuracy_over_steps, table
from supermask.runs import METHODS, Job, Result, SearchOptions, run
from supermask.search import EdgePopup
from supermask.training import Recipe, Stopped
from supermask.training.processes import Processes, joined


@dataclass(frozen=True)
class Compare(Common):
    """Compare methods on one network and one data set: a supermask, the dense network and a random mask.

    Runs that are finished in the folder are not repeated, and an unfinished one is taken up again.
    """

    methods: str = "edge_popup,dense,random_mask"
    """Methods to compare, separated by commas: edge_popup, dense, random_mask."""

    seeds: int = 3
    """Runs of each method, with seeds from --seed on."""

    threads: int = 1
    """CPU threads; 0 leaves the number to PyTorch. With one the results do not depend on the number of cores."""

    model: str = "lenet_300_100"
    """Network: see supermask search --help."""

    width: float = 1.0
    """Factor on the hidden widths of the network."""

    data: str = "digits"
    """Data set: digits (comes with scikit-learn), mnist, fashion_mnist, cifar10, cifar100 or synthetic."""

    validation: int | None = None
    """Examples held out of the training set to choose the best step; by default what is usual for the data set."""

    recipe: OmitArgPrefixes[Recipe] = field(default_factory=lambda: DIGITS)

    search: OmitArgPrefixes[SearchOptions] = field(default_factory=SearchOptions)

    out: Path | None = None
    """Folder for the table, the plot and the runs; by default one below runs."""

    def __call__(self) -> None:
        """Run what is not finished, then show the table."""
        device = self.prepare()
        methods = self._methods()
        out = self.out or Path("runs", f"compare-{self._job(EdgePopup.name, self.seed).slug}")
        seeds = self._seeds()
        with joined(device) as processes:
            processes.once(lambda: make_folder(out))
            results = {
                method: [self._run(method, seed, device, out, processes) for seed in seeds] for method in methods
            }
            processes.once(lambda: self._show(results, out))

    def _show(self, results: Mapping[str, Sequence[Result]], out: Path) -> None:
        shown = compare_table(results)
        first = self._job(next(iter(results)), self.seed)
        title = f"{first.model} on {first.data}, density {self.search.density:g}, {self.seeds} seeds"
        plot_accuracy_over_steps(results, out / "accuracy.png", title)
        write_json(out / "compare.json", results)
        write_whole(out / "table.md", f"{title}\n\n{shown}\n".encode())
        print(f"\n{title}\n\n{shown}\n")
        print(f"In {relative(out)}: table.md, accuracy.png, compare.json, and a folder per run with its network.")

    def _methods(self) -> list[str]:
        methods = list(dict.fromkeys(part.strip() for part in self.methods.split(",") if part.strip()))
        if not methods:
            raise SupermaskError(f"--methods is empty; give some of {', '.join(METHODS)}.")
        return methods

    def _seeds(self) -> range:
        if self.seeds < 1:
            raise SupermaskError(f"--seeds {self.seeds} is too small; give at least one.")
        return range(self.seed, self.seed + self.seeds)

    def _job(self, method: str, seed: int) -> Job:
        return Job(method, self.model, self.width, self.data, self.validation, seed, self.recipe, self.search)

    def _run(self, method: str, seed: int, device: str, out: Path, processes: Processes) -> Result:
        path = out / f"{method}-seed{seed}"
        before = (path / "result.json").exists()
        try:
            result = run(self._job(method, seed), path, device=device, data_folder=self.data_folder, resume=True)
        except Stopped as stop:
            raise Stopped(f"{method} seed {seed} {stop}; the same command goes on") from None
        note = "read from the folder" if before else f"{result['seconds']:.1f} s"
        if processes.leads:
            print(f"{method} seed {seed}: test accuracy {result['test']['accuracy']:.2%} ({note})", file=sys.stderr)
        return result


def compare_table(results: Mapping[str, Sequence[Result]]) -> str:
    """Return the table of several methods' runs, a row each."""
    header = ["method", "test accuracy", "n", "weights kept", "of", "bytes", "seconds"]
    return table(header, [_row(method, runs) for method, runs in results.items()])


def _row(method: str, runs: Sequence[Result]) -> list[str]:
    accuracy = mean([run["test"]["accuracy"] for run in runs])
    seconds = mean([run["seconds"] for run in runs])
    first = runs[0]
    return [
        method,
        accuracy.percent(),
        str(len(runs)),
        f"{first['kept']:,}",
        f"{first['prunable']:,}",
        f"{max(run['bytes'] for run in runs):,}",
        f"{seconds.value:.1f}",
    ]
