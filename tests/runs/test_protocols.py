"""The published protocols as presets."""

from fnmatch import fnmatch

import pytest
import torch

from supermask import SupermaskError, models
from supermask.baselines.sparse import whole_ticket
from supermask.runs.protocols import PROTOCOLS, REPORTED, named_protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_setting_has_a_source_and_is_printed(name):
    protocol = named_protocol(name)
    shown = protocol.describe()
    for setting in protocol.settings:
        assert all(setting)
        assert f" {setting.value} |" in shown
        assert any(word in setting.source for word in ("section", "figure", "appendix", "table", "experiments"))
    assert all(line in shown for line in protocol.unsaid)
    assert all(f" {figure.value} |" in shown for figure in protocol.figures)
    assert all(each.describe() in shown for each in protocol.beside)


@pytest.mark.parametrize(
    ("name", "rate", "iterations"),
    [("lenet_300_100", 1.2e-3, 50_000), ("conv2", 2e-4, 20_000), ("conv4", 3e-4, 25_000), ("conv6", 3e-4, 30_000)],
)
def test_the_jobs_are_what_the_text_says(name, rate, iterations):
    protocol = PROTOCOLS[name]
    recipe = protocol.job.training
    optimizer = recipe.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert (optimizer.defaults["eps"], optimizer.defaults["weight_decay"]) == (1e-8, 0.0)
    assert {recipe.rate(step, iterations) for step in (0, iterations - 1)} == {rate}
    assert (recipe.steps(55_000), recipe.batch_size, recipe.evaluate_every) == (iterations, 60, 100)
    assert protocol.job.validation == 5000
    assert recipe.best == "loss"
    assert protocol.job.initial == "xavier_normal"
    said = {setting.what: setting.value for setting in protocol.settings}
    assert f"{iterations:,}" in said["iterations"]
    assert f"{rate:g}" in said["optimizer"].replace("1.2e-3", "0.0012").replace("2e-4", "0.0002").replace(
        "3e-4", "0.0003"
    )


def test_resnet_warms_up_and_drops():
    recipe = PROTOCOLS["resnet20"].job.training
    rates = [recipe.rate(step, recipe.steps(45_000)) for step in (0, 9_999, 19_999, 20_000, 24_999, 25_000, 29_999)]
    assert rates == pytest.approx([0.03 / 20_000, 0.015, 0.03, 0.003, 0.003, 0.0003, 0.0003])


COURSES = {
    "resnet20_rate_0.1": {0: 0.1, 19_999: 0.1, 20_000: 0.01, 25_000: 0.001},
    "resnet20_rate_0.01": {0: 0.01, 20_000: 0.001},
    "vgg19": {0: 0.1 / 10_000, 9_999: 0.1, 56_239: 0.1, 56_240: 0.01, 84_360: 0.001},
    "vgg19_rate_0.01": {0: 0.01, 56_240: 0.001},
    "lmc_lenet_300_100": {0: 1.2e-3, 23_999: 1.2e-3},
    "lmc_resnet20": {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 62_999: 0.001},
    "lmc_resnet20_low": {0: 0.01, 32_000: 0.001},
    "lmc_resnet20_warm_up": {14_999: 0.015, 29_999: 0.03, 31_999: 0.03, 32_000: 0.003},
    "lmc_vgg16": {0: 0.1, 32_000: 0.01},
    "lmc_vgg16_low": {0: 0.01, 48_000: 0.0001},
    "lmc_vgg16_warm_up": {0: 0.1 / 30_000, 29_999: 0.1, 48_000: 0.001},
    "conv2_dropout": {0: 3e-4, 59_999: 3e-4},
    "conv4_dropout": {0: 2e-4, 74_999: 2e-4},
    "conv6_dropout": {0: 2e-4, 89_999: 2e-4},
    "ma_resnet20": {80 * 703 - 1: 0.01, 80 * 703: 0.001, 120 * 703: 0.0001, 160 * 703 - 1: 0.0001},
    "liu_resnet20_rate_0.01": {80 * 351 - 1: 0.01, 80 * 351: 0.001, 120 * 351: 0.0001, 150 * 351 - 1: 0.0001},
    "liu_resnet20_rate_0.1": {0: 0.1, 80 * 351: 0.01},
}


@pytest.mark.parametrize("name", COURSES)
def test_the_learning_rates_are_those_of_the_text(name):
    recipe = PROTOCOLS[name].job.training
    steps = recipe.steps(45_000)
    rates = COURSES[name]
    assert max(rates) < steps
    assert {step: recipe.rate(step, steps) for step in rates} == pytest.approx(rates)
    assert recipe.dropout == (0.5 if "dropout" in name else 0.0)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("resnet20_rate_0.01", {4: 41.7, 6: 27.1, 7: 21.9, 10: 11.8}),
        ("vgg19", {0: 100.0, 12: 6.9, 19: 1.5}),
        ("conv2_dropout", {6: 26.5, 14: 4.6}),
        ("lmc_lenet_300_100", {15: 3.5}),
        ("lmc_resnet20", {8: 16.8}),
        ("lmc_resnet20_low", {11: 8.6}),
        ("lmc_vgg16", {19: 1.4}),  # printed as 1.5
        ("lmc_vgg16_low", {13: 5.5}),
        ("ma_resnet20", {4: 41.0, 8: 16.8, 11: 8.6}),
    ],
)
def test_the_densities_are_those_of_the_papers(name, labels):
    protocol = PROTOCOLS[name]
    with torch.device("meta"):
        model = models.build(protocol.job.model)
    dense = protocol.job.search.dense
    shapes = {
        key: tuple(value.shape)
        for key, value in model.named_parameters()
        if value.ndim > 1 and not any(fnmatch(key, pattern) for pattern in dense)
    }
    assert {rounds: round(100 * protocol.weights_remaining(shapes, rounds), 1) for rounds in labels} == labels
    assert max(labels) <= protocol.rounds


def test_small_networks_have_the_prunable_weights_that_their_dense_patterns_leave():
    for name, count in (("ma_resnet20", 270_896 - 432 - 640), ("liu_resnet20_rate_0.1", 270_896 - 432)):
        job = PROTOCOLS[name].job
        assert whole_ticket(models.build(job.model), seed=0, dense=job.search.dense).prunable == count


def test_vgg19_is_tested_where_the_figure_reads_it():
    assert PROTOCOLS["vgg19"].job.config()["recipe"]["test_at"] == [30_000, 60_000, 112_000]


@pytest.mark.parametrize("name", REPORTED)
def test_what_cannot_be_run_is_text_beside_what_can(name):
    assert REPORTED[name].describe() in PROTOCOLS["lmc_vgg16"].describe()
    with pytest.raises(SupermaskError, match=f"{name} is text alone: ImageNet"):
        named_protocol(name)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(SupermaskError, match="known are lenet_300_100, conv2"):
        named_protocol("alexnet")
