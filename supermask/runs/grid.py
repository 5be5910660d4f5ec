"""A grid of jobs: methods x models x data sets x densities x seeds, each job with a folder name of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from supermask.baselines.sparse import whole_ticket
from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.runs.folder import RunFolder
from supermask.runs.job import Job
from supermask.runs.methods import named_method
from supermask.runs.planned import Planned
from supermask.runs.result import JobResult
from supermask.runs.run_job import build_network, check_network, load_data
from supermask.search.algorithm import Algorithm, SettingName

Vary = Literal["all", "initialisation", "split", "order"]
"""What the seeds of a grid are of."""

VARIED: Mapping[Vary, tuple[str, str]] = {
    "all": ("seed", "seeds"),
    "initialisation": ("initialisation", "initialisations"),
    "split": ("validation split", "validation splits"),
    "order": ("order of the examples", "orders of the examples"),
}
"""What differs between the runs of a row, in the singular and the plural."""


class Cell(NamedTuple):
    """What the seeds of a grid share; the density is None where the method does not depend on one."""

    method: str
    model: str
    data: str
    density: float | None

    @classmethod
    def of(cls, job: Job) -> "Cell":
        """Return where in a grid a job belongs."""
        density = job.search.density if "density" in job.config().get("search", {}) else None
        return cls(job.method, job.model, job.data, density)


@dataclass(frozen=True)
class Grid:
    """All combinations of some methods, models, data sets, densities and seeds.

    The name of a job's folder depends on the job alone, so that a grid can be widened and what is finished is kept.

    Attributes:
        methods: names in `METHODS`.
        models: names that `supermask.models.build` takes.
        data: names that `supermask.data.load` takes.
        densities: fractions of the weights that are kept; what does not depend on the density is in the grid once.
        seeds: of the runs of each combination.
        base: everything else about a job, but the options of its method.
        options: of methods, by name; those that are not named have their defaults.
        setting: of the methods that have it; the others have the short one.
        vary: what the seeds are of; all else then has the first of them.

    """

    methods: Sequence[str]
    models: Sequence[str]
    data: Sequence[str]
    densities: Sequence[float]
    seeds: Sequence[int]
    base: Job
    options: Mapping[str, Algorithm] = field(default_factory=dict)
    setting: SettingName = "short"
    vary: Vary = "all"

    def jobs(self) -> Mapping[str, Job]:
        """Return the jobs by the names of their folders: one seed of every combination before the next seed of any.

        Raises:
            SupermaskError: a method or a density does not exist, or two jobs would have one folder.

        """
        jobs: dict[str, Job] = {}
        for job in self._combinations():
            name = f"{job.method}-{job.slug}-{job.slug_of_seeds}"
            if name in jobs and jobs[name].config() != job.config():
                first, second = jobs[name].search.density, job.search.density
                raise SupermaskError(f"Densities {first!r} and {second!r} are too close: both would be run in {name}.")
            jobs.setdefault(name, job)
        return jobs

    def plans(self, out: Path) -> list[Planned[Job]]:
        """Return the jobs as runs with folders below `out`, in the same order.

        Raises:
            SupermaskError: as `jobs`.

        """
        return [Planned(job, out / name, _title(job), Cell.of(job)) for name, job in self.jobs().items()]

    def _combinations(self) -> Iterator[Job]:
        # seeds vary slowest: a grid that is stopped early has a run in every row
        axes = (self.seeds, self.data, self.models, self.methods, self.densities)
        for seed, data, model, method, density in product(*axes):
            search = replace(self.base.search, density=density)
            job = replace(self.base, model=model, data=data, search=search, **self._seeds(seed))
            setting = self.setting if self.setting in named_method(method).settings else "short"
            yield replace(job, method=method, options=self.options.get(method), setting=setting)

    def _seeds(self, seed: int) -> dict[str, Any]:
        """Return the seeds of a job's fields."""
        first = self.seeds[0]
        return {
            "all": {"seed": seed},
            "initialisation": {"seed": seed, "split_seed": first, "order_seed": first},
            "split": {"seed": first, "split_seed": seed},
            "order": {"seed": first, "order_seed": seed},
        }[self.vary]


def _title(job: Job) -> str:
    density = Cell.of(job).density
    return f"{job.method}{'' if density is None else f' density {density:g}'} {job.describe_seeds()}"


def read_results(plans: Sequence[Planned[Job]]) -> dict[str, JobResult]:
    """Return the results of the finished runs by the names of their folders."""
    return {plan.name: JobResult.from_json(RunFolder(plan.path).read_result()) for plan in plans if plan.finished}


def _check_tested(job: Job, steps: int) -> None:
    if wrong := [step for step in job.recipe.test_at if step > steps]:
        raise SupermaskError(f"test_at={wrong[0]} is not one of the recipe's {steps} steps.")


class Checks:
    """Trials of jobs before they are started; data sets are read once for all of them."""

    def __init__(self, data_folder: Path | None) -> None:
        self._folder = data_folder
        self._data: dict[tuple[str, int | None], DataSet] = {}

    def problem(self, job: Job) -> str | None:
        """Return why a job cannot run: its model, data, density or batch size; None where it can."""
        try:
            job = job.settled()
            data_set = self._data_of(job)
            job.recipe.steps_per_epoch(len(data_set.train))
            _check_tested(job, job.recipe.steps(len(data_set.train)))
            check_network(job, data_set)
            model, search = build_network(job, data_set), job.search
            if job.algorithm.rule is not None:
                search.start(job.algorithm.rule, model, job.seed, job.training, job.training.steps(len(data_set.train)))
            elif job.algorithm.by_density:
                whole_ticket(model, seed=job.seed, weights=job.initial, include=search.include, dense=search.dense)
        except SupermaskError as error:
            return str(error)
        return None

    def _data_of(self, job: Job) -> DataSet:
        key = (job.data, job.validation)
        if key not in self._data:
            self._data[key] = load_data(job, self._folder)
        return self._data[key]
