"""Sanity checks: each changes one thing, and the corruptions reach the choice of the mask and nothing else."""

import pytest
import torch

from supermask import SupermaskError, data, models
from supermask.baselines.at_initialisation import SNIP, SynFlow
from supermask.baselines.dense import DenseTraining
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import OneShot
from supermask.data.corruptions import random_labels
from supermask.runs.sanity import CHECKS, CORRUPTED, find, sanity_checks
from supermask.training import Recipe, train

DATA = data.load("synthetic", seed=0)
RECIPE = Recipe(iterations=6, batch_size=50, evaluate_every=6)


def work(trained):
    """Return what makes works, each of which writes down what it trains."""

    def on(data_set):
        def loop(subject, recipe, **more):
            trained.append((data_set.name, more["title"], getattr(subject, "masks", dict)()))
            return train(subject, data_set, recipe, **{**more, "folder": None, "resume": False}, progress=False)

        return RunContext(
            data=data_set,
            recipe=RECIPE,
            seed=0,
            density=0.2,
            device=torch.device("cpu"),
            build=lambda: models.build("lenet_300_100", width=0.1, input_shape=(1, 8, 8)),
            loop=loop,
        )

    return on


def flat(masks):
    return torch.cat([mask.flatten() for mask in masks.values()])


def test_every_check_trains_on_true_data_and_changes_what_it_says():
    trained = []
    found = sanity_checks(SNIP(batch=50), work(trained), DATA, seed=0)
    assert tuple(found) == CHECKS
    assert {name for name, _, _ in trained} == {DATA.name}
    masks = {title.rpartition("check-")[2]: flat(masks) for _, title, masks in trained}
    assert torch.equal(masks["reinitialised"], masks["ticket"])
    for name in set(CHECKS) - {"ticket", "reinitialised"}:
        assert not torch.equal(masks[name], masks["ticket"]), name
        assert int(masks[name].sum()) == int(masks["ticket"].sum())
    corrupted = random_labels(DATA, seed=0)
    expected = find(SNIP(batch=50), work([])(corrupted)).ticket.masks
    assert torch.equal(masks["random_labels"], flat(expected))


def test_a_method_that_does_not_look_at_data_finds_the_same_masks_on_corrupted_ones():
    trained = []
    sanity_checks(SynFlow(iterations=3), work(trained), DATA, seed=0, checks=("ticket", *CORRUPTED))
    first, *others = [flat(masks) for _, _, masks in trained]
    assert len(others) == 3
    assert all(torch.equal(first, other) for other in others)


def test_magnitude_is_found_by_a_training_on_the_corrupted_data():
    trained = []
    sanity_checks(
        OneShot(ranking="global"), work(trained), DATA, seed=0, checks=("ticket", "random_labels", "inverted")
    )
    names = [name for name, _, _ in trained]
    assert names.count(DATA.name) == 2 + 3
    assert names.count(random_labels(DATA, seed=0).name) == 2


def test_unknown_checks_and_methods_without_tickets_are_refused():
    with pytest.raises(SupermaskError, match="Unknown check 'rotated'; known are ticket, shuffled_in_layers"):
        sanity_checks(SNIP(), work([]), DATA, seed=0, checks=("rotated",))
    with pytest.raises(SupermaskError, match="dense leaves no network whose kept weights are trained"):
        find(DenseTraining(), work([])(DATA))
