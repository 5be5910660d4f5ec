"""Grids of jobs: which jobs there are, what their folders are called, and what is refused before a run."""

from dataclasses import dataclass, replace

import pytest

from supermask import RunError, SupermaskError
from supermask.runs import METHODS, Job, SearchOptions, run
from supermask.runs import grid as module
from supermask.runs.grid import Cell, Checks, Grid, read_results
from supermask.runs.planned import Planned
from supermask.training import Recipe

BASE = Job(data="synthetic", recipe=Recipe(epochs=1, batch_size=100))
GRID = Grid(("edge_popup", "dense"), ("lenet_300_100", "conv2"), ("synthetic", "digits"), (0.1, 0.5), (3, 4), BASE)


def planned(job, path):
    return Planned(job, path, "a run", Cell.of(job))


def test_every_combination_is_there_once_and_a_dense_network_once_for_all_densities():
    jobs = GRID.jobs()
    cells = [(job.method, job.model, job.data, job.search.density, job.seed) for job in jobs.values()]
    sparse = {cell for cell in cells if cell[0] == "edge_popup"}
    assert len(cells) == 2 * 2 * 2 * (2 + 1)
    assert len(sparse) == 2 * 2 * 2 * 2
    assert "edge_popup-conv2-digits-density0.1-seed4" in jobs
    assert "dense-conv2-digits-seed4" in jobs
    assert [job.seed for job in jobs.values()] == sorted(job.seed for job in jobs.values())
    assert {job.recipe for job in jobs.values()} == {BASE.recipe}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_folders_do_not_depend_on_the_order_or_the_size_of_the_grid(order):
    def turned(axis):
        return tuple(axis[place] for place in order)

    axes = (GRID.methods, GRID.models, GRID.data, GRID.densities, GRID.seeds)
    assert _plain(Grid(*map(turned, axes), BASE)) == _plain(GRID)
    smaller = replace(GRID, densities=(GRID.densities[order[0]],), seeds=(GRID.seeds[order[1]],))
    assert _plain(smaller).items() <= _plain(GRID).items()


def _plain(grid):
    """Return the names and what is run in them."""
    return {name: job.config() for name, job in grid.jobs().items()}


@pytest.mark.parametrize(
    ("vary", "folder", "differ"),
    [
        ("initialisation", "seed4-split3-order3", "seed"),
        ("split", "seed3-split4", "split"),
        ("order", "seed3-order4", "order"),
    ],
)
def test_one_source_of_randomness_can_vary_alone(vary, folder, differ):
    jobs = replace(GRID, methods=("dense",), models=("conv2",), data=("digits",), vary=vary).jobs()
    assert [*jobs][1] == f"dense-conv2-digits-{folder}"
    first, second = ({"seed": job.seed, "split": job.split, "order": job.order} for job in jobs.values())
    assert first == dict.fromkeys(first, 3)
    assert {name for name in first if first[name] != second[name]} == {differ}


def test_densities_that_share_a_name_are_refused():
    with pytest.raises(SupermaskError, match=r"0\.1234567 and 0\.1234568 are too close: .*density0\.123457-seed3"):
        replace(GRID, densities=(0.1234567, 0.1234568)).jobs()


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ({"methods": ("dense", "newton")}, "'newton'; known are"),
        ({"methods": ("edgepopup",)}, r"'edgepopup' \(perhaps edge_popup\); known are"),
        ({"densities": (0.1, 1.5)}, r"density=1\.5"),
    ],
)
def test_a_method_or_density_that_is_none_is_refused(axis, says):
    with pytest.raises(SupermaskError, match=says):
        replace(GRID, **axis).jobs()


def test_the_cell_of_a_dense_network_has_no_density(tmp_path):
    assert Cell.of(replace(BASE, method="dense")) == Cell("dense", "lenet_300_100", "synthetic", None)
    assert Cell.of(BASE) == Cell("edge_popup", "lenet_300_100", "synthetic", 0.3)


def test_a_folder_with_another_run_is_refused(tmp_path):
    run(BASE, tmp_path)
    plan = planned(BASE, tmp_path)
    plan.check_folder()
    plan.check_under_way()
    assert plan.finished
    other = planned(replace(BASE, recipe=Recipe(epochs=2, batch_size=100)), tmp_path)
    with pytest.raises(RunError, match=r"recipe\.epochs is 1 there and 2 now"):
        other.check_folder()
    with pytest.raises(RunError, match="being filled by a run with other options"):
        other.check_under_way()


def test_an_unfinished_run_of_another_recipe_is_refused_and_a_folder_without_a_run_is_not(tmp_path):
    planned(BASE, tmp_path / "new").check_folder()
    assert not (tmp_path / "new").exists()
    run(replace(BASE, seed=1), tmp_path)
    (tmp_path / "result.json").rename(tmp_path / "run.checkpoint")
    assert not planned(BASE, tmp_path).finished
    with pytest.raises(RunError, match="seed is 1 there and 0 now"):
        planned(BASE, tmp_path).check_folder()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"model": "lenet"}, "Unknown model 'lenet'"),
        ({"data": "minst"}, "no data set 'minst'"),
        ({"data": "mnist"}, "nowhere"),
        ({"validation": 10**6}, "validation"),
        ({"recipe": Recipe(batch_size=10**6)}, "batch_size=1000000 is larger than"),
        ({"search": SearchOptions(scope="global", density=1e-4)}, "leaves none in"),
        ({"search": SearchOptions(include=("fc9.weight",))}, "'fc9.weight' matches no parameter"),
    ],
)
def test_what_cannot_run_is_found_without_running(tmp_path, bad, says):
    assert says in Checks(tmp_path / "nowhere").problem(replace(BASE, **bad))


def test_a_sound_job_has_no_problem_and_data_are_read_once(monkeypatch):
    reads, load = [], module.load_data
    monkeypatch.setattr(module, "load_data", lambda *asked: reads.append(asked) or load(*asked))
    checks = Checks(None)
    jobs = [replace(BASE, search=SearchOptions(density=density)) for density in (0.1, 0.5)]
    assert [checks.problem(job) for job in jobs] == [None, None]
    assert len(reads) == 1
    assert checks.problem(replace(BASE, validation=50)) is None
    assert checks.problem(replace(BASE, data="digits")) is None
    assert len(reads) == 3


def test_what_is_trained_is_tried_too(tmp_path):
    job = replace(BASE, method="magnitude_init")
    assert Checks(None).problem(job) is None
    bad = replace(job, search=SearchOptions(dense=("fc9.weight",)))
    assert "'fc9.weight' matches no parameter" in Checks(None).problem(bad)


def test_options_are_those_of_their_method():
    @dataclass(frozen=True)
    class Graded(type(METHODS["magnitude_init"])):
        steps: int = 1

    grid = Grid(("dense", "magnitude_init"), ("conv2",), ("digits",), (0.1,), (0,), BASE)
    assert {job.options for job in grid.jobs().values()} == {None}
    METHODS["magnitude_init"], plain = Graded(), METHODS["magnitude_init"]
    try:
        dense, pruned = replace(grid, options={"magnitude_init": Graded(3)}).jobs().values()
    finally:
        METHODS["magnitude_init"] = plain
    assert (dense.options, pruned.options) == (None, Graded(3))


def test_results_are_read_of_the_finished_runs_alone(tmp_path):
    plans = Grid(("edge_popup",), ("lenet_300_100",), ("synthetic",), (0.1, 0.5), (3,), BASE).plans(tmp_path)
    result = run(plans[1].task, plans[1].path, progress=False)
    plans[0].claim()
    assert read_results(plans) == {plans[1].name: result}
