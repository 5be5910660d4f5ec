"""Real images: structured pruning keeps most of the accuracy in a few hundred steps."""

import os

import pytest

from supermask.baselines.structured.early_bird import EarlyBird
from supermask.baselines.structured.filter_pruning import FilterPruning
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA names no folder of data sets"),
]


def test_filter_pruning_on_fashion_mnist(tmp_path):
    job = Job(
        method="filter_pruning",
        model="conv2",
        width=0.25,
        data="fashion_mnist",
        recipe=Recipe(iterations=400, learning_rate=0.05),
        search=SearchOptions(density=0.5),
        options=FilterPruning(rate=0.2),  # so short a retraining wants a larger rate than the paper's
    )
    result = run(job, tmp_path)
    assert result.details.filters == {name: (8, 16) for name in ("features.0.0", "features.0.2")} | {
        name: [32, 64] for name in ("classifier.0", "classifier.2")
    }
    assert result.test.accuracy > result.details.before.test_accuracy - 0.08 > 0.75
    assert result.test.accuracy > result.history[0].validation_accuracy + 0.05
    assert result.details.after.multiply_adds < 0.35 * result.details.before.multiply_adds


def test_early_bird_on_cifar10(tmp_path):
    job = Job(
        method="early_bird",
        model="resnet20",
        width=0.25,
        data="cifar10",
        recipe=Recipe(iterations=200, batch_size=64, evaluate_every=100),
        search=SearchOptions(density=0.6),
        options=EarlyBird(latest=0.5),
    )
    result = run(job, tmp_path)
    channels = 4 + 2 * 3 * (4 + 8 + 16) + 8 + 16
    assert result.details.channels == (round(0.6 * channels), channels)
    assert (result.details.drawn_step, result.details.settled, result.best_step) == (100, False, 200)
    assert result.test.accuracy > 0.22
