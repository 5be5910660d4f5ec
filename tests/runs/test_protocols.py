"""The published protocols as presets."""

import pytest
import torch

from supermask import SupermaskError
from supermask.runs.protocols import PROTOCOLS, named_protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_setting_has_a_source_and_is_printed(name):
    protocol = named_protocol(name)
    shown = protocol.describe()
    for setting in protocol.settings:
        assert all(setting)
        assert f" {setting.value} |" in shown
        assert any(word in setting.source for word in ("section", "figure", "appendix"))
    assert all(line in shown for line in protocol.unsaid)


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


def test_an_unknown_protocol_is_refused():
    with pytest.raises(SupermaskError, match="known are lenet_300_100, conv2"):
        named_protocol("vgg19")
