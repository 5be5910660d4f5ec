"""Units without a live path are removed, and the network computes what it did."""

import sys
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Beside, Sum, images, live_by_trying, masked
from torch import nn
from torch.nn import functional as F

from supermask import SupermaskError, models
from supermask.deploy import narrow

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.Hardswish)
POOLS = (
    nn.Identity(),
    nn.MaxPool2d(2),
    nn.AvgPool2d(3, stride=1, padding=1),
    nn.AvgPool2d(2, ceil_mode=True),
    nn.AdaptiveAvgPool2d(3),
    nn.Upsample(scale_factor=2),
    nn.ZeroPad2d(1),
    nn.ReflectionPad2d(1),
)


@st.composite
def perceptrons(draw):
    widths = [draw(st.integers(1, 6)) for _ in range(draw(st.integers(2, 4)))]
    layers = [nn.Flatten()]
    for before, after in pairwise([18, *widths]):
        layers += [nn.Linear(before, after, bias=draw(st.booleans())), draw(st.sampled_from((nn.Tanh, nn.Sigmoid)))()]
        layers += [nn.BatchNorm1d(after)] * draw(st.integers(0, 1))
    layers.append(nn.Linear(widths[-1], 3))
    return masked(nn.Sequential(*layers), draw(st.sampled_from((0.1, 0.25, 0.5))), draw(st.integers(0, 10**6)))


@st.composite
def blocks(draw, before, after):
    """A convolution with what follows it, its channels from `before` to `after`."""
    kind, bias = draw(st.sampled_from(("plain", "grouped", "sum", "projected", "beside"))), draw(st.booleans())
    if kind == "sum" and before != after:
        kind = "projected"
    if kind == "grouped":
        middle = [nn.Conv2d(before, before, 3, padding=1, groups=before, bias=bias), nn.Conv2d(before, after, 1)]
        return nn.Sequential(*middle)
    if kind == "beside":
        return Beside(nn.Conv2d(before, after, 1, bias=bias), nn.Sequential(nn.Conv2d(before, 2, 1), nn.Sigmoid()))
    padding, mode = draw(st.sampled_from(((1, "zeros"), (1, "reflect"), (1, "circular"))))
    body = [nn.Conv2d(before, 4, 3, padding=padding, padding_mode=mode, bias=bias), nn.BatchNorm2d(4)]
    body += [draw(st.sampled_from(ACTIVATIONS))(), nn.Conv2d(4, after, 3, padding=1, bias=bias)]
    if kind == "plain":
        return nn.Sequential(*body[:-1], nn.Conv2d(4, after, 1, bias=bias))
    return Sum(nn.Sequential(*body), nn.Conv2d(before, after, 1, bias=bias) if kind == "projected" else None)


@st.composite
def convolutional(draw):
    layers, channels = [], 2
    for _ in range(draw(st.integers(1, 3))):
        after = draw(st.integers(2, 4))
        layers.append(block := draw(blocks(channels, after)))
        channels = after + 2 * isinstance(block, Beside)
        layers += [nn.BatchNorm2d(channels)] * draw(st.integers(0, 1))
        layers += [draw(st.sampled_from(ACTIVATIONS))(), draw(st.sampled_from(POOLS))]
    size = draw(st.sampled_from((1, 2)))
    layers += [nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(channels * size**2, 5), nn.Tanh(), nn.Linear(5, 3)]
    return masked(nn.Sequential(*layers), draw(st.sampled_from((0.1, 0.3, 0.6))), draw(st.integers(0, 10**6)))


@torch.no_grad()
def assert_equal(model, small, shape, *, tolerance=1e-12):
    for count in (1, 5):
        for x in (images(shape, count), 100 * images(shape, count, seed=2), torch.zeros(count, *shape).double()):
            expected = model(x)
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(small(x), expected, rtol=0, atol=tolerance * scale)


@given(perceptrons())
@settings(max_examples=20, deadline=None)
def test_of_a_perceptron_exactly_the_units_go_that_trying_finds_dead(model):
    found = proven(model, images((2, 3, 3), 2))
    assert_equal(model, found.network, (2, 3, 3))
    tried = live_by_trying(model, images((2, 3, 3)))
    left = {name: int((varies & matters).sum()) for name, (varies, matters) in tried.items()}
    left[list(left)[-1]] = 3  # outputs stay
    if min(left.values()) > 0:
        assert {name: count for name, (count, _) in found.units.items()} == left


@given(convolutional())
@settings(max_examples=5, deadline=None)
def test_of_a_convolutional_network_only_units_go_that_trying_finds_dead(model):
    assert_only_dead_units_go(model)


@pytest.mark.slow
@given(convolutional())
@settings(max_examples=40, deadline=None)
def test_of_many_convolutional_networks_only_units_go_that_trying_finds_dead(model):
    assert_only_dead_units_go(model)


def assert_only_dead_units_go(model):
    shape = (2, 8, 8)  # two poolings leave 2 x 2 pixels, which a reflection still fits around
    found = proven(model, images(shape, 2))
    assert_equal(model, found.network, shape)
    tried = live_by_trying(model, images(shape))
    for name, (left, count) in found.units.items():
        varies, matters = tried[name]
        assert left >= int((varies & matters).sum())
        assert count == len(varies)


def proven(model, example):
    """Narrow a network without the trial that would find a mistake of the proof and keep the units."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["supermask.deploy.narrow"], "_runs", lambda *_: True)
        return narrow(model, example)


def chain(*layers, density=0.5, seed=0, biases=1.0):
    return masked(nn.Sequential(*layers), density, seed, biases=biases)


def kept(model, shape):
    found = proven(model, images(shape, 2))
    assert_equal(model, found.network, shape)
    return {name: left for name, (left, _) in found.units.items()}


def no_inputs(layer, *units):
    with torch.no_grad():
        layer.weight[list(units)] = 0


def no_readers(layer, *units):
    with torch.no_grad():
        layer.weight[:, list(units)] = 0


def test_a_constant_goes_into_the_bias_of_a_linear_layer_even_if_it_has_none():
    for bias in (True, False):
        model = chain(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3, bias=bias), density=1)
        no_inputs(model[0], 1, 3)
        assert kept(model, (4,)) == {"0": 3, "2": 3}


@pytest.mark.parametrize(("padding", "mode", "left"), [(0, "zeros", 3), (1, "zeros", 4), (1, "reflect", 3)])
def test_a_constant_channel_stays_where_zeros_are_padded_around_it(padding, mode, left):
    last = nn.Conv2d(4, 2, 3, padding=padding, padding_mode=mode)
    model = chain(nn.Conv2d(1, 4, 3), nn.Sigmoid(), last, density=1)
    no_inputs(model[0], 2)
    assert kept(model, (1, 6, 6)) == {"0": left, "2": 2}
    with torch.no_grad():
        model[0].bias[2] = -1.0
    model[1] = nn.ReLU()  # the constant is 0 then
    assert kept(model, (1, 6, 6)) == {"0": 3, "2": 2}


def test_a_constant_that_pooling_makes_uneven_is_folded_pixel_by_pixel():
    pool = nn.AvgPool2d(3, stride=1, padding=1)
    flat = chain(nn.Conv2d(1, 3, 1), nn.Sigmoid(), pool, nn.Flatten(), nn.Linear(48, 2), density=1)
    convolved = chain(nn.Conv2d(1, 3, 1), nn.Sigmoid(), pool, nn.Conv2d(3, 2, 1), density=1)
    no_inputs(flat[0], 1)
    no_inputs(convolved[0], 1)
    assert kept(flat, (1, 4, 4)) == {"0": 2, "4": 2}
    assert kept(convolved, (1, 4, 4)) == {"0": 3, "3": 2}


def test_a_batch_norm_that_scales_by_zero_cuts_what_feeds_it():
    model = chain(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), density=1)
    with torch.no_grad():
        model[2].weight[:2] = 0
        model[1].weight[2:, 0] = 0  # channel 0 of the first is read by what was cut only
    assert kept(model, (1, 9, 9)) == {"0": 2, "1": 2, "4": 2}


@pytest.mark.parametrize(("lacks", "left"), [(("inputs",), 3), (("block",), 3), (("block", "next"), 2)])
def test_a_summand_goes_only_with_the_other(lacks, left):
    model = chain(nn.Conv2d(1, 3, 1), Sum(nn.Conv2d(3, 3, 1, bias=False)), nn.ReLU(), nn.Conv2d(3, 2, 1), density=1)
    if "inputs" in lacks:
        no_inputs(model[1].body, 1)
    if "block" in lacks:
        no_readers(model[1].body, 1)
    if "next" in lacks:
        no_readers(model[3], 1)
    assert kept(model, (1, 4, 4)) == {"0": left, "1.body": left, "3": 2}


def test_a_constant_that_the_input_scales_is_none():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.first(x).sigmoid() * x[:, :1])

    model = masked(Gated(), 1.0, 0)
    no_inputs(model.first, 1)
    found = proven(model, torch.ones(2, 4, dtype=torch.float64))  # on which it looks like one
    assert_equal(model, found.network, (4,))
    assert found.removed == 0


def test_units_that_only_read_one_another_go():
    """A channel of the residual stream that reaches itself through a block, and nothing else."""
    block = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Tanh(), nn.Linear(2, 3, bias=False))
    model = chain(nn.Linear(4, 3), Sum(block), nn.Linear(3, 2), density=1)
    with torch.no_grad():
        block[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 1]]))
        block[2].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 1]]))
    no_readers(model[2], 0)
    assert kept(model, (4,)) == {"0": 2, "1.body.0": 1, "1.body.2": 2, "2": 2}


def test_of_a_dead_layer_one_unit_stays():
    model = chain(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2), density=1)
    no_readers(model[2], 0, 1, 2, 3, 4)
    assert kept(model, (4,)) == {"0": 1, "2": 1, "4": 2}


class Flexible(nn.Module):
    """A network of one's own around two linear layers."""

    def __init__(self, between, width=6, more=None):
        super().__init__()
        self.first, self.last, self.more = nn.Linear(4, width), nn.Linear(width, 2), more
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


def flexible(between, *, more=None):
    model = masked(Flexible(between, more=more), 1.0, 0)
    no_readers(model.last, 0, 3)
    return model


@pytest.mark.parametrize(
    ("between", "left"),
    {
        "functions": (lambda m, y: F.leaky_relu(y, 0.1).clamp(-1, 1) * 2 + 1, 4),
        "in place": (lambda m, y: F.relu_(y).add_(1), 4),
        "a choice by sign": (lambda m, y: torch.where(y > 0, y, -y), 4),
        "a gate of one number": (lambda m, y: y * y.detach()[:, :1].sigmoid(), 6),  # slicing counts units
        "a product with itself": (lambda m, y: y * torch.sigmoid(y), 4),
        "softmax": (lambda m, y: y.softmax(1), 6),
        "layer norm": (lambda m, y: F.layer_norm(y, (6,)), 6),
        "halves": (lambda m, y: torch.cat(y.chunk(2, 1)[::-1], 1), 6),
        "turned": (lambda m, y: y.flip(1), 4),
        "a view of counted units": (lambda m, y: y.view(-1, 6), 6),
        "a view": (lambda m, y: y.view(y.size(0), -1), 4),
        "there and back": (lambda m, y: y[:, None].transpose(1, 2).squeeze(2), 4),
        "scaled by their number": (lambda m, y: y / y.shape[1], 6),
        "centred": (lambda m, y: y - y.mean(1, keepdim=True), 6),
        "dropout that stays on": (lambda m, y: F.dropout(y, 0.0, training=True), 6),
        "dropout": (lambda m, y: F.dropout(y, 0.5, training=m.training), 4),
        "a scale for each": (lambda m, y: y * torch.arange(6), 6),
        "sorted": (lambda m, y: y.sort(1).values, 6),
        "cast": (lambda m, y: y.to(torch.float64), 4),
    }.values(),
)
def test_what_happens_between_two_layers(between, left):
    found = narrow(model := flexible(between), images((4,), 2))
    assert_equal(model, found.network, (4,))
    assert found.units["first"] == (left, 6)


@pytest.mark.parametrize(
    ("more", "between"),
    [
        (nn.LSTM(6, 6, batch_first=True), lambda m, y: m.more(y[:, None])[0][:, 0]),
        (nn.GRU(6, 6), lambda m, y: m.more(y[None])[0][0]),
        (nn.MultiheadAttention(6, 2), lambda m, y: m.more(y[None], y[None], y[None])[0][0]),
        (nn.GroupNorm(2, 6), lambda m, y: m.more(y)),
        (nn.PReLU(6), lambda m, y: m.more(y)),
        (nn.Bilinear(6, 6, 6), lambda m, y: m.more(y, y)),
        (nn.Conv1d(6, 6, 1, groups=2), lambda m, y: m.more(y[..., None])[..., 0]),
        (nn.ConvTranspose1d(6, 6, 1), lambda m, y: m.more(y[..., None])[..., 0]),
        (nn.InstanceNorm1d(6), lambda m, y: m.more(y[..., None].expand(-1, -1, 2))[..., 0]),
        (nn.Linear(1, 1), lambda m, y: m.more(y[..., None])[..., 0]),
    ],
    ids=lambda case: type(case).__name__,
)
def test_layers_of_which_is_not_known_what_they_do_are_left_alone(more, between):
    model = flexible(between, more=more)
    no_inputs(model.first, 1)
    found = narrow(model, images((4,), 2))
    assert_equal(model, found.network, (4,))
    assert found.units["first"] == (6, 6)


def test_layers_that_are_used_twice_or_share_weights_are_left_alone():
    twice = chain(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2), density=1)
    no_readers(twice[2], 1)
    twice.insert(2, nn.Tanh())
    twice.insert(1, twice[0])
    tied = masked(Flexible(lambda m, y: F.linear(y, m.first.weight.t()) @ m.first.weight.t()), 1.0, 0)
    no_readers(tied.last, 1)
    shared = chain(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2), density=1)
    shared[2].weight = shared[0].weight
    no_readers(shared[4], 1)
    for model in (twice, tied, shared):
        found = narrow(model, images((4,), 2))
        assert_equal(model, found.network, (4,))
        assert found.removed == 0


def test_three_dimensions_and_one():
    line = chain(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 2, 1), density=1)
    room = chain(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.ReLU(), nn.AvgPool3d(2), nn.Conv3d(4, 2, 1), density=1)
    tokens = chain(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3), density=1)
    for model in (line, room):
        no_readers(model[4], 0)
    no_readers(tokens[2], 0)
    assert kept(line, (2, 8)) == {"0": 3, "4": 2}
    assert kept(room, (1, 5, 5, 5)) == {"0": 3, "4": 2}
    assert kept(tokens, (7, 3)) == {"0": 3, "2": 3}


def test_nothing_of_the_given_model_changes():
    model = chain(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.Linear(5, 3), density=0.3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = narrow(model.requires_grad_(False), images((4,), 2))
    assert model.training
    assert not found.network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert found.removed > 0
    assert not any(parameter.requires_grad for parameter in found.network.parameters())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in found.network.parameters()}


def test_costs_and_counts_by_hand():
    model = chain(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3), density=1)
    no_inputs(model[0], 0, 2)
    found = narrow(model, images((1, 4, 4), 2))
    assert (found.removed, found.units) == (2, {"0": (2, 4), "3": (3, 3)})
    assert (found.before.parameters, found.before.multiply_adds) == (36 + 8 + 51, 4 * 9 * 4 + 48)
    assert (found.after.parameters, found.after.multiply_adds) == (18 + 4 + 27, 2 * 9 * 4 + 24)


def test_again_changes_nothing():
    model = models.build("lenet5", width=0.5)
    found = narrow(masked(model, 0.1, 0), images((1, 28, 28), 2))
    again = narrow(found.network, images((1, 28, 28), 2))
    assert found.removed > 0
    assert again.removed == 0
    assert all(torch.equal(a, b) for a, b in zip(found.network.parameters(), again.network.parameters(), strict=True))


def test_where_order_does_not_change_it_is_equal_bit_for_bit():
    """Sums that run over the same terms one after the other; a unit without readers adds none."""
    model = chain(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1), density=1, biases=0).float()
    no_readers(model[2], 0, 1, 2)
    small = narrow(model, images((1,), 2).float()).network
    with torch.no_grad():
        assert torch.equal(small(images((1,)).float()), model(images((1,)).float()))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
            r"weights are still computed from others; give a plain module, from ticket.apply",
        ),
        (
            lambda: Flexible(lambda m, y: y if y.sum() > 0 else -y),
            r"cannot be written as one graph \(.*\); that needs a forward pass that does the same",
        ),
        (lambda: nn.Linear(5, 3), r"cannot be written as one graph"),
    ],
)
def test_refused_in_one_sentence(model, says):
    with pytest.raises(SupermaskError, match=says) as caught:
        narrow(model().double(), images((4,), 2))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_results_of_several_parts_stay():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            y = self.first(x)
            return {"hidden": (y,), "out": self.last(y)}

    model = masked(Two(), 1.0, 0)
    no_readers(model.last, 1)
    no_inputs(model.first, 0)
    assert narrow(model, images((4,), 2)).removed == 0


def test_it_still_trains():
    model = chain(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), density=0.3)
    small = narrow(deepcopy(model), images((4,), 2)).network
    small(images((4,))).sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
