"""What the commands share that carry out a grid of runs: their options and the checks before a start."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro
from tqdm.auto import tqdm
from tyro.conf import OmitArgPrefixes

from supermask.cli.method_options import MethodNames, MethodOptions, default_options, options_of
from supermask.cli.options import DIGITS, LossName, Setting, names_in
from supermask.errors import SupermaskError
from supermask.runs import Job, SearchOptions
from supermask.runs.grid import VARIED, Checks, Grid, Vary
from supermask.runs.planned import Planned
from supermask.training import Recipe

VaryName = Annotated[
    Vary, tyro.conf.arg(metavar="WHAT", help="What differs between these runs: all, initialisation, split or order.")
]


@dataclass(frozen=True)
class SearchBesidesDensity(SearchOptions):
    """How a mask is searched for."""

    density: Annotated[float, tyro.conf.Suppress] = 0.3  # an axis of the grid


MOST_SEEDS = 10_000
"""Runs of one combination: each has a folder, and all are listed before the first begins."""


@dataclass(frozen=True)
class GridOptions:
    """Options of the runs of a grid."""

    methods: MethodNames = "edge_popup,dense"

    seeds: int = 3
    """Runs of each combination, from --seed on."""

    seed: int = 0
    """The first seed."""

    vary: VaryName = "all"

    width: float = 1.0
    """Factor on the hidden widths."""

    validation: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Examples held out; by default as usual."""

    loss: LossName = None

    initial: str = "kaiming_normal"
    """Weights that trainings start from: one of --weights."""

    setting: Setting = "short"

    recipe: OmitArgPrefixes[Recipe] = field(default_factory=lambda: DIGITS)

    search: OmitArgPrefixes[SearchBesidesDensity] = field(default_factory=SearchBesidesDensity)

    options: MethodOptions = field(default_factory=default_options)

    def plans(
        self, out: Path, models: Sequence[str], data: Sequence[str], densities: Sequence[float]
    ) -> list[Planned[Job]]:
        """Return the runs of the grid, each with its folder below `out`.

        Raises:
            SupermaskError: a method, a density or a seed does not exist, or an option is of another method.

        """
        if self.seeds < 1:
            raise SupermaskError(f"--seeds {self.seeds} is too small; give at least one.")
        if self.seeds > MOST_SEEDS:
            raise SupermaskError(f"--seeds {self.seeds} is too large; give at most {MOST_SEEDS:,}.")
        methods = names_in("--methods", self.methods)
        search = SearchOptions(**{part.name: getattr(self.search, part.name) for part in fields(SearchOptions)})
        grid = Grid(
            methods=methods,
            models=models,
            data=data,
            densities=densities,
            seeds=range(self.seed, self.seed + self.seeds),
            base=Job(
                width=self.width,
                validation=self.validation,
                recipe=self.recipe,
                search=search,
                initial=self.initial,
                loss=self.loss,
            ),
            setting=self.setting,
            options=options_of(methods, self.options),
            vary=self.vary,
        )
        return grid.plans(out)

    @property
    def counted(self) -> str:
        """How many runs a row has, and what differs between them, as text."""
        return f"{self.seeds} {VARIED[self.vary][self.seeds > 1]}"


def check(plans: Sequence[Planned[Job]], waiting: Sequence[Planned[Job]], data_folder: Path | None) -> None:
    """Find what would go wrong before anything is started.

    Args:
        plans: all runs, whose folders must not hold others.
        waiting: those that are to be started.
        data_folder: where the data sets lie.

    Raises:
        SupermaskError: something would; all reasons are named.

    """
    for plan in plans:
        plan.check_folder()
    checks = Checks(data_folder)
    # one of each row is enough: its runs differ in their seed alone
    jobs = {plan.row: plan.task for plan in waiting}
    bar = tqdm(jobs.values(), desc="checking", unit="job", leave=False, disable=None)
    # rows often fail for one reason, which is said once
    problems = list(dict.fromkeys(filter(None, map(checks.problem, bar))))
    if len(problems) > 1:
        listed = "; ".join(problem.rstrip(".") for problem in problems)
        raise SupermaskError(f"Nothing was started, for {len(problems)} reasons: {listed}.")
    if problems:
        raise SupermaskError(problems[0])
