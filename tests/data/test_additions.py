"""A data set and a network of one's own: one line in a registry each, and every user of names knows them."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from torch import nn

from supermask import data, models
from supermask.data import registry
from supermask.data.registry import Source
from supermask.data.synthetic import read_synthetic
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe


def read_toy(folder):
    return replace(read_synthetic(classes=3, input_shape=(1, 4, 4), train=60, test=12), name="toy")


def make_toy(*, input_shape, classes, width):
    channels, rows, columns = input_shape
    hidden = max(1, round(8 * width))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * rows * columns, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


@pytest.fixture
def toys(monkeypatch):
    sets = registry.DATA_SETS | {"toy": Source(read_toy, validation=10)}
    monkeypatch.setattr(registry, "DATA_SETS", MappingProxyType(sets))
    specs = models.MODELS | {"toy": models.ModelSpec(make_toy, (1, 4, 4))}
    monkeypatch.setattr(models, "MODELS", MappingProxyType(specs))


@pytest.mark.usefixtures("toys")
def test_they_are_known_and_made_by_name():
    assert data.known()[-1] == models.known()[-1] == "toy"
    toy = data.load("toy")
    assert (toy.name, len(toy.train), len(toy.validation), toy.classes) == ("toy", 50, 10, 3)
    assert models.build("toy", classes=3)[1].in_features == 16


@pytest.mark.usefixtures("toys")
def test_a_run_takes_them_by_name(tmp_path):
    recipe = Recipe(iterations=4, batch_size=10, evaluate_every=4)
    result = run(Job(model="toy", data="toy", recipe=recipe, search=SearchOptions(density=0.5)), tmp_path)
    assert result.test.total == 12
    assert result.prunable == 16 * 8 + 8 * 3


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("load", [lambda: data.load("toi"), lambda: models.build("toi")])
def test_a_name_that_is_unknown_is_answered_with_theirs(load):
    with pytest.raises(ValueError, match=r"known are .*\btoy\b"):
        load()
