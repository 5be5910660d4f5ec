"""The experiment on characters, with a short text and a few steps in place of Shakespeare."""

import json
from dataclasses import replace

import pytest

from experiments import characters
from experiments.characters import EXPERIMENT, OverDense
from supermask import Ticket, models


def short(task, path):
    """Return a task on another text, of few steps."""

    def shorter(job):
        data, recipe = f"text:{path}?context=8", replace(job.recipe, iterations=min(6, job.recipe.iterations))
        return replace(job, data=data, validation=8, recipe=replace(recipe, batch_size=4, evaluate_every=3))

    if isinstance(task, OverDense):
        dense = shorter(task.dense)
        steps = min(6, task.recipe.iterations)
        return replace(task, dense=dense, recipe=replace(dense.recipe, iterations=steps))
    return replace(task, job=shorter(task.job))


def test_the_rows_are_of_one_data_set_and_the_masked_network_is_the_dense_one(tmp_path, report):
    text = tmp_path / "cat.txt"
    text.write_text("the cat sat on the mat. " * 60)
    tasks = [short(group.tasks[0], text) for group in EXPERIMENT.groups]
    shown = report(EXPERIMENT, tasks)
    assert all(f"| {group.label} " in shown for group in EXPERIMENT.groups)
    runs = tmp_path / "runs" / "characters"
    results = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/result.json")}
    assert len({result["test"]["total"] for result in results.values()}) == 1
    over = [runs / name / "search" / "network.ticket" for name in results if "dense--density" in name]
    dense = runs / characters.STAGES / "dense-seed0" / "network.safetensors"
    for path in over:
        ticket = Ticket.load(path)
        named = ticket.provenance["model"]
        ticket.apply(models.make(**named), given=dense)  # which refuses any other checkpoint
    assert len(over) == 2
    assert dense.read_bytes() == (runs / "dense-seed0" / "network.safetensors").read_bytes()
    largest = results["largest-weights-of-dense--density-0.3-seed0"]
    assert largest["steps"] == 0
    assert str(tmp_path / "runs") not in json.dumps({name: each["config"] for name, each in results.items()})


def test_every_row_is_trained_on_as_many_windows():
    steps = {
        task.recipe.iterations if isinstance(task, OverDense) else task.job.recipe.iterations
        for group in EXPERIMENT.groups
        for task in group.tasks
    }
    assert steps == {0, characters.STEPS}
    assert all(len(group.tasks) == len(characters.SEEDS) for group in EXPERIMENT.groups)
    assert pytest.approx(0.3) == EXPERIMENT.groups[-1].tasks[0].search.density
