"""Transfer and sanity checks as experiments: what is carried, what is trained, and what their reports say."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from experiments import sanity_checks, transfer
from experiments.framework.small import Small
from supermask import data
from supermask.baselines.at_initialisation import SNIP
from supermask.data.tasks import split
from supermask.runs import Job
from supermask.runs.sanity import CHECKS
from supermask.training import Recipe

RECIPE = Recipe(iterations=12, batch_size=32, evaluate_every=12, learning_rate=0.05)
DIGITS = Small(Job(method="dense", model="lenet_300_100", width=0.1, data="digits", recipe=RECIPE), train=200, test=80)


def test_a_ticket_is_trained_on_every_target_beside_its_controls(tmp_path, monkeypatch):
    sets = {"all": (DIGITS, lambda found: found), "four": (DIGITS, lambda found: split(found, (1, 4, 7, 8)))}
    monkeypatch.setattr(transfer, "SETS", sets)
    monkeypatch.setattr(transfer, "STEP", 4)
    task = transfer.Transferred("all", 0, targets=("all", "four"))
    found = task.run(tmp_path / "all", device="cpu", data_folder=None)
    assert [*found.accuracies] == ["all", "four"]
    assert all({*each} == {"ticket", "reinitialised", "random"} for each in found.accuracies.values())
    assert task.run(tmp_path / "all", device="cpu", data_folder=None) == found
    by_adam = replace(task, adam=True, targets=("four",)).run(tmp_path / "adam", device="cpu", data_folder=None)
    assert by_adam.accuracies.keys() == {"four"}
    wider = replace(task, wider=2, targets=("four",))
    assert wider.config()["wider"] == 2
    assert "wider" not in task.config()
    assert wider.run(tmp_path / "wider", device="cpu", data_folder=None).accuracies.keys() == {"four"}
    row = transfer._row([found])
    assert len(row) == 2
    assert row[0].count("/") == 2
    assert "points on the data that it was found on" in transfer._conclusion({"all": [found]})


def test_a_verdict_is_that_of_the_paired_interval():
    def found(*pairs):
        accuracies = [{"here": {"ticket": a, "reinitialised": 0.5, "random": b}} for a, b in pairs]
        return [SimpleNamespace(accuracies=each) for each in accuracies]

    above = found((0.9, 0.8), (0.7, 0.61), (0.95, 0.84))
    assert transfer._cell(above, "here") == "85.0/50.0/75.0 +"
    assert transfer._verdict(found((0.8, 0.9), (0.61, 0.7), (0.84, 0.95)), "here") == "-"
    assert transfer._verdict(found((0.9, 0.8), (0.7, 0.75), (0.9, 0.84)), "here") == "="
    assert transfer._verdict(above[:1], "here") == "=", "one pair has no interval"


def test_grey_is_the_mean_of_the_colours():
    colours = data.load("synthetic", seed=0)
    images = colours.train.images
    three = replace(
        colours,
        input_shape=(3, 8, 8),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.5, 0.5),
        train=replace(colours.train, images=torch.cat([images, 0 * images, images], 1)),
        validation=replace(colours.validation, images=colours.validation.images.repeat(1, 3, 1, 1)),
    )
    grey = transfer._grey(three)
    assert grey.input_shape == (1, 8, 8)
    torch.testing.assert_close(grey.train.images.float(), (images.float() * 2 / 3).round())


def test_the_checks_of_a_study_are_those_of_the_method(tmp_path):
    study = sanity_checks.Checked(DIGITS, 0, SNIP(batch=30))
    found = study.run(tmp_path / "snip", device="cpu", data_folder=None)
    assert tuple(found.accuracies) == CHECKS
    assert study.run(tmp_path / "snip", device="cpu", data_folder=None) == found
    assert study.config()["method"] == "snip"
    assert len(sanity_checks._row([found])) == len(CHECKS)
    assert "SNIP loses" in sanity_checks._conclusion({"SNIP": [found], "GraSP": []})
