"""A network without some channels computes what the network with these channels at zero does."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from einops.layers.torch import Rearrange
from torch import nn

from supermask import SupermaskError, models
from supermask.baselines.channel_pruning import removable_channels, remove_channels

GENERATOR = torch.Generator().manual_seed(0)


class _Mine(nn.Module):
    """A user's own network: two branches beside one another, batch norm over flat features, and einops."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.LeakyReLU())
        self.right = nn.Conv2d(3, 4, 1, bias=False)
        self.both = nn.Conv2d(9, 6, 3, stride=2, padding=1)
        self.order = Rearrange("b c h w -> b (h w c)")
        self.norm = nn.BatchNorm1d(24, affine=False)
        self.hidden = nn.Linear(24, 7)
        self.out = nn.Linear(7, 3)

    def forward(self, x):
        y = self.both(torch.cat([self.left(x), self.right(x).relu()], 1)).tanh()
        return self.out(self.hidden(self.norm(self.order(y))).relu())


_NETWORKS = {
    "lenet_300_100": (lambda: models.build("lenet_300_100", input_shape=(1, 8, 8)), (1, 8, 8), ["fc1", "fc2"], {}),
    "lenet5": (
        lambda: models.build("lenet5"),
        (1, 28, 28),
        ["features.0", "features.3", "classifier.0", "classifier.2"],
        {},
    ),
    **{
        f"conv{depth}": (
            lambda depth=depth: models.build(f"conv{depth}", width=0.25, input_shape=(3, 16, 16)),
            (3, 16, 16),
            [f"features.{stage}.{layer}" for stage in range(depth // 2) for layer in (0, 2)]
            + ["classifier.0", "classifier.2"],
            {},
        )
        for depth in (2, 4, 6)
    },
    "resnet20": (
        lambda: models.build("resnet20", width=0.5, input_shape=(3, 8, 8)),
        (3, 8, 8),
        [f"stage{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)],
        {"conv1": ["norm1"]},
    ),
    "resnet18": (
        lambda: models.build("torchvision:resnet18", classes=4),
        (3, 16, 16),
        [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)],
        {"conv1": ["bn1"]},
    ),
    "mine": (_Mine, (3, 4, 4), ["left.0", "right", "both", "hidden"], {"left.0": ["left.1"]}),
}


def _shaken(model):
    """Give every parameter and statistic a value of its own: zeros and ones would hide mistakes."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=GENERATOR) + (0.5 if "var" in name else -0.3))
    return model


def _some(channels):
    kept = torch.rand(channels, generator=GENERATOR) < 0.6
    kept[0], kept[-1] = False, True
    return kept


@torch.no_grad()
def _at_zero(model, kept, norms):
    """Set channels to zero by names alone: `norms` says which batch norms follow a layer in its module."""
    for name, channels in kept.items():
        layer = model.get_submodule(name)
        layer.weight[~channels] = 0
        if layer.bias is not None:
            layer.bias[~channels] = 0
        parent, _, leaf = name.rpartition(".")
        for follower in norms.get(leaf, []):
            norm = model.get_submodule(f"{parent}.{follower}")
            norm.weight[~channels] = norm.bias[~channels] = 0
        for follower in norms.get(name, []):
            norm = model.get_submodule(follower)
            norm.weight[~channels] = norm.bias[~channels] = 0
    return model


@pytest.mark.parametrize("name", _NETWORKS)
def test_equal_to_the_network_with_these_channels_at_zero(name):
    build, shape, layers, norms = _NETWORKS[name]
    torch.manual_seed(0)
    model, images = _shaken(build()), torch.randn(3, *shape, generator=GENERATOR)
    removable = removable_channels(model.eval(), images[:2])
    assert list(removable.layers) == layers
    kept = {layer: _some(removable.layers[layer]) for layer in layers}
    masked, small = _at_zero(deepcopy(model), kept, norms), remove_channels(deepcopy(model), kept, removable)
    if name == "mine":  # this batch norm has no weight to be zero: a channel of zeros has mean zero
        masked.norm.running_mean.view(4, 6)[:, ~kept["both"]] = 0
    with torch.no_grad():
        expected = masked(images)
        torch.testing.assert_close(small(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert float((model(images) - expected).abs().max()) > 0.01 * float(expected.abs().max())  # it does something
    for layer in layers:
        assert small.get_submodule(layer).weight.shape[0] == int(kept[layer].sum())


def test_every_attribute_and_tensor_has_the_small_size():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5), nn.Linear(5, 2))
    state = {name: tensor.clone() for name, tensor in _shaken(model).state_dict().items()}
    kept = {"0": torch.tensor([0, 1, 1, 0, 0, 1]).bool(), "3": torch.tensor([1, 0, 1, 1, 0]).bool()}
    remove_channels(model, kept, removable_channels(model, torch.randn(2, 3, 4, 4, generator=GENERATOR)))
    conv, norm, _, hidden, out = model
    sizes = [conv.in_channels, conv.out_channels, norm.num_features, hidden.in_features, hidden.out_features]
    assert [*sizes, out.in_features, out.out_features] == [3, 3, 3, 12, 3, 3, 2]
    pixels = [4 * channel + pixel for channel in (1, 2, 5) for pixel in range(4)]
    expected = {
        **{f"0.{leaf}": state[f"0.{leaf}"][[1, 2, 5]] for leaf in ("weight", "bias")},
        **{f"1.{leaf}": state[f"1.{leaf}"][[1, 2, 5]] for leaf in ("weight", "bias", "running_mean", "running_var")},
        "1.num_batches_tracked": state["1.num_batches_tracked"],
        "3.weight": state["3.weight"][[0, 2, 3]][:, pixels],
        "3.bias": state["3.bias"][[0, 2, 3]],
        "4.weight": state["4.weight"][:, [0, 2, 3]],
        "4.bias": state["4.bias"],
    }
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in model.parameters())


def test_a_small_network_trains_and_can_be_made_smaller_again():
    model, images = models.build("conv2", width=0.1, input_shape=(3, 8, 8)), torch.randn(2, 3, 8, 8)
    for _ in range(2):
        removable = removable_channels(model, images)
        remove_channels(model, {name: torch.arange(count) > 0 for name, count in removable.layers.items()}, removable)
        model(images).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    assert [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)] == [4, 4]


def test_frozen_parameters_stay_frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).requires_grad_(False)
    removable = removable_channels(model, torch.randn(2, 4))
    remove_channels(model, {"0": torch.tensor([1, 1, 0, 0]).bool()}, removable)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@cache
def _resnet():
    model = models.build("resnet20", width=0.5, input_shape=(3, 8, 8))
    return model, removable_channels(model, torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"conv": torch.ones(8).bool()}, r"The channels of conv cannot be removed, because they are combined with"),
        (
            {"fc": torch.ones(10).bool()},
            r"The channels of fc cannot be removed, because they reach the network's output",
        ),
        (
            {"cnov": torch.ones(8).bool()},
            r"of cnov cannot be removed, because there is no such layer; there are stage1",
        ),
        ({"stage1.0.conv1": torch.ones(9).bool()}, r"is torch.bool, \(9,\); give a bool tensor of \(8,\)"),
        ({"stage1.0.conv1": torch.ones(8)}, r"is torch.float32, \(8,\); give a bool tensor of \(8,\)"),
        ({"stage1.0.conv1": torch.zeros(8).bool()}, r"Nothing of stage1.0.conv1 would be left; keep at least one"),
    ],
)
def test_refused_in_one_sentence_and_nothing_done(kept, says):
    model, removable = _resnet()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SupermaskError, match=says) as caught:
        remove_channels(model, {"stage1.1.conv1": torch.arange(8) > 3, **kept}, removable)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
