"""The published protocols as presets."""

from fnmatch import fnmatch

import pytest
import torch

from supermask import SupermaskError, models
from supermask.baselines.channel_pruning.filter_pruning import largest_filters, prunable_layers
from supermask.baselines.channel_pruning.removable import removable_channels, remove_channels
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
def test_what_cannot_be_run_is_text(name):
    assert REPORTED[name].why in REPORTED[name].describe()
    with pytest.raises(SupermaskError, match=f"{name} is text alone: "):
        named_protocol(name)


def test_text_of_the_same_table_stands_beside_what_can_be_run():
    for name, beside in (("lmc_vgg16", "lmc_resnet50"), ("li_vgg16_a", "rethinking_resnet")):
        assert REPORTED[beside].describe() in PROTOCOLS[name].describe()


@pytest.mark.parametrize(
    ("name", "method", "first", "last"),
    [
        ("li_vgg16_a", "filter_pruning", 0.5, 0.5),
        ("li_resnet56_a", "filter_pruning", 0.9, 0.9),
        ("su_resnet32", "random_smart_ratio", 0.1, 0.02),
        ("renda_resnet20", "learning_rate_rewind", 1.0, 0.0144),
        ("frankle2021_resnet20", "snip", 0.8, 0.0180),
    ],
)
def test_tables_of_pruning_have_the_densities_of_their_papers(name, method, first, last):
    protocol = PROTOCOLS[name]
    found = protocol.densities({"weight": (100, 100)})
    assert (protocol.job.method, found[0]) == (method, first)
    assert round(found[-1], 4) == last


def test_frankle_2021_prunes_to_the_sparsities_of_its_readme():
    sparsities = [20, 36, 48.8, 59, 67.2, 73.8, 79, 83.2, 86.6, 89.3, 91.4, 93.1, 94.5, 95.6, 96.5, 97.2, 97.7, 98.2]
    assert [round(100 * (1 - density), 1) for density in PROTOCOLS["frankle2021_resnet20"].levels] == sparsities


def test_li_vgg16_a_keeps_the_layers_that_the_paper_keeps():
    """Layers 8 to 13 of 256 channels; with half of layer 1 and the paper's layer of 512 units it has its 5.4e6."""
    job = PROTOCOLS["li_vgg16_a"].job
    model = models.build("vgg16")
    example = torch.zeros(2, 3, 32, 32)
    removable = removable_channels(model, example)
    layers = prunable_layers(removable, whole_ticket(models.build("vgg16"), seed=0, dense=job.search.dense).masks)
    kept = largest_filters(model, layers, job.search.density)
    small = remove_channels(model, kept, removable)
    left = sum(each.numel() for each in small.parameters() if each.ndim > 1)
    assert left == 5_275_840
    assert round((left - 864 - 18_432 - 2_560 + 256 * 512 + 512 * 10) / 1e6, 1) == 5.4


def test_an_unknown_protocol_is_refused():
    with pytest.raises(SupermaskError, match="known are lenet_300_100, conv2"):
        named_protocol("alexnet")
