"""Random networks with branches, sums and groups: the graph beside NaN in every channel, and channels set to zero."""

import sys
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probing import removable_by_probing
from torch import nn

from supermask.baselines.channel_pruning import removable_channels, remove_channels

SHAPE = (2, 7, 7)
PASSING = (nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.Hardswish, nn.Identity)
POOLS = (
    nn.Identity(),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.AvgPool2d(3, stride=1, padding=1),
    nn.AdaptiveAvgPool2d(3),
    nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.ZeroPad2d(1),
    nn.Dropout(),
)


class Joined(nn.Module):
    """Two branches over the same input: their sum, product, or both beside one another, some of them turned around."""

    def __init__(self, left, right, how):
        super().__init__()
        self.left, self.right, self.how = left, right, how

    def forward(self, x):
        left, right = self.left(x), self.right(x)
        if self.how == "sum":
            return left + right
        if self.how == "gate":
            return left * right.mean((2, 3), keepdim=True).sigmoid()
        return torch.cat([left.flip(1), right] if self.how == "turned" else [left, x, right], 1)


@st.composite
def branches(draw, before, after, *, depth):
    """A body from `before` to `after` channels."""
    kind = draw(st.sampled_from(("plain", "norm", "depthwise", "grouped", "bottleneck", "joined")))
    conv = nn.Conv2d(before, after, 3, padding=1, bias=draw(st.booleans()))
    if kind == "norm":
        return nn.Sequential(conv, nn.BatchNorm2d(after), draw(st.sampled_from(PASSING))())
    if kind == "depthwise":
        return nn.Sequential(conv, nn.Conv2d(after, after, 3, padding=1, groups=after), nn.ReLU())
    if kind == "grouped" and before % 2 == 0 == after % 2 and before > 2:
        return nn.Sequential(nn.Conv2d(before, 4, 1), nn.ReLU(), nn.Conv2d(4, after, 1, groups=2))
    if kind == "bottleneck":
        last = nn.Conv2d(draw(st.integers(2, 4)), after, 1)
        return nn.Sequential(nn.Conv2d(before, last.in_channels, 1), draw(st.sampled_from(PASSING))(), last)
    if kind == "joined" and depth:
        how = draw(st.sampled_from(("sum", "gate")))
        left, right = (draw(branches(before, after, depth=depth - 1)) for _ in range(2))
        return Joined(left, nn.Identity() if how == "sum" and before == after and draw(st.booleans()) else right, how)
    return conv


@st.composite
def networks(draw):
    layers, channels = [], SHAPE[0]
    for _ in range(draw(st.integers(1, 4))):
        after = draw(st.integers(2, 4))
        if draw(st.booleans()):
            beside = draw(st.sampled_from(("beside", "turned")))
            left, right = (draw(branches(channels, after, depth=1)) for _ in range(2))
            layers.append(Joined(left, right, beside))
            channels = 2 * after + (channels if beside == "beside" else 0)
        else:
            layers.append(draw(branches(channels, after, depth=2)))
            channels = after
        layers += [nn.BatchNorm2d(channels)] * draw(st.integers(0, 1))
        layers += [draw(st.sampled_from(PASSING))(), draw(st.sampled_from(POOLS))]
    size = draw(st.sampled_from((1, 2)))
    layers += [nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(channels * size**2, 5), nn.Tanh(), nn.Linear(5, 3)]
    return shaken(nn.Sequential(*layers).double().eval(), draw(st.integers(0, 10**6)))


@torch.no_grad()
def shaken(model, seed):
    """Give every parameter and statistic a value of its own: zeros and ones would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            random = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(0.5 + random if name.endswith("running_var") else 2 * random - 1)
    return model


def images(count, seed):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def at_zero(model, kept):
    """Return a copy in which the channels that are not kept have weight and bias 0, in batch norm too."""
    model = deepcopy(model)
    for name, channels in kept.items():
        layer = model.get_submodule(name)
        layer.weight[~channels] = 0
        if layer.bias is not None:
            layer.bias[~channels] = 0
    return model


def read_without_trial(model, example):
    """Read a network without the trial, which would find a mistake of the graph and refuse the layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["supermask.baselines.channel_pruning.removable"], "disagreement", lambda *_: None)
        return removable_channels(model, example)


@given(networks())
@settings(max_examples=8, deadline=None)
def test_the_layers_are_those_that_probing_finds(model):
    found = read_without_trial(model, images(2, 1))
    grouped = {name for name, reason in found.refused.items() if "grouped" in reason}
    assert set(found.layers) == set(removable_by_probing(model, images(2, 1))) - grouped
    assert list(removable_channels(model, images(2, 1)).layers) == list(found.layers)


@given(networks(), st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_without_channels_it_computes_what_it_does_with_them_at_zero(model, random):
    found = read_without_trial(model, images(2, 1))
    kept = {}
    for name, count in found.layers.items():
        kept[name] = torch.tensor([random.random() < 0.6 for _ in range(count)])
        kept[name][random.randrange(count)] = True
    cuts = found.cuts(kept)
    norms = {name: cut.rows for name, cut in cuts.items() if name not in kept and not cut.rows.all()}
    small, zero = remove_channels(deepcopy(model), kept, found), at_zero(model, {**kept, **norms})
    with torch.no_grad():
        for x in (images(1, 2), images(5, 3), 100 * images(3, 4)):
            expected = zero(x)
            torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-10 * max(1.0, float(expected.abs().max())))
    for name, channels in kept.items():
        assert len(small.get_submodule(name).weight) == int(channels.sum())
