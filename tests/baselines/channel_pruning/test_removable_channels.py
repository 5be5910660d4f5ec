"""What can be removed from small networks, beside what is plain to see in their code."""

import re

import pytest
import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import nn
from torch.nn.functional import relu, softmax

from supermask import SupermaskError
from supermask.baselines.channel_pruning import removable_channels
from supermask.baselines.channel_pruning.norm_feeders import feeders

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
VECTORS = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers by name, and any forward over them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def _conv(before, after, size=3, **more):
    return nn.Conv2d(before, after, size, padding=size // 2, **more)


NONE = -1


def _origins(model, example=IMAGES):
    """Return, by layer and by what reads it, the channel that each input of the reader comes from, or NONE."""
    found = removable_channels(model, example)
    graph, origins = found.graph, {}
    modules = {**graph.followers, **{name: layer for name, layer in graph.layers.items() if layer.columns is not None}}
    for layer in found.layers:
        places = {group: place for place, group in enumerate(graph.groups(graph.layers[layer].rows).tolist())}
        read = {name: [places.get(u, NONE) for u in graph.groups(m.columns).tolist()] for name, m in modules.items()}
        origins[layer] = {name: places for name, places in read.items() if set(places) != {NONE}}
    return origins


@pytest.mark.parametrize("channels", [2, 3, 5, 8, 9])
def test_hidden_units_of_a_perceptron(channels):
    model = nn.Sequential(nn.Linear(6, channels), nn.ReLU(), nn.Linear(channels, 4), nn.Tanh(), nn.Linear(4, 2))
    assert _origins(model, VECTORS) == {"0": {"2": list(range(channels))}, "2": {"4": [0, 1, 2, 3]}}


def test_through_norm_activation_pooling_dropout_and_flattening():
    model = nn.Sequential(
        *(_conv(3, 5, bias=False), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)),
        *(nn.Dropout(0.5), _conv(5, 3), nn.PReLU(), nn.AvgPool2d(2, padding=1), nn.Flatten(), nn.Linear(12, 2)),
    )
    one_each = [0, 1, 2, 3, 4]
    assert _origins(model) == {"0": {"1": one_each, "5": one_each}, "5": {"9": [0] * 4 + [1] * 4 + [2] * 4}}


def test_einops_puts_the_channels_elsewhere():
    last = nn.Sequential(_conv(3, 3), Rearrange("b c h w -> b (h w c)"), nn.Linear(48, 2))
    assert _origins(last) == {"0": {"2": [0, 1, 2] * 16}}

    def by_token(net, x):
        return net.b(relu(net.a(rearrange(net.c(x), "b c h w -> b (h w) c"))))

    tokens = Net(by_token, c=_conv(3, 5), a=nn.Linear(5, 4), b=nn.Linear(4, 2))
    assert _origins(tokens) == {"c": {"a": [0, 1, 2, 3, 4]}, "a": {"b": [0, 1, 2, 3]}}


def test_channels_beside_one_another_in_any_order():
    def beside(net, x):
        return net.c(torch.cat([net.a(x), x, net.b(x).flip(1)], 1)).mean((2, 3))

    def twice(net, x):
        y = net.a(x)
        return net.b(torch.cat([y, -y], 1)).mean((2, 3))

    model, no = Net(beside, a=_conv(3, 2), b=_conv(3, 3), c=_conv(8, 4)), NONE
    assert _origins(model) == {"a": {"c": [0, 1, no, no, no, no, no, no]}, "b": {"c": [no, no, no, no, no, 2, 1, 0]}}
    assert _origins(Net(twice, a=_conv(3, 2), b=_conv(4, 2))) == {"a": {"b": [0, 1, 0, 1]}}


def test_two_readers_and_batch_norm_over_flat_features():
    def run(net, x):
        y = net.a(x)
        return net.c(net.b(y.flatten(1))) + net.d(y).mean((2, 3))

    model = Net(run, a=_conv(3, 2), b=nn.BatchNorm1d(32), c=nn.Linear(32, 5), d=_conv(2, 5))
    flat = [0] * 16 + [1] * 16
    assert _origins(model) == {"a": {"b": flat, "c": flat, "d": [0, 1]}}


def test_a_layer_called_by_keyword():
    model = Net(lambda net, x: net.b(input=relu(net.a(input=x))).mean((2, 3)), a=_conv(3, 4), b=_conv(4, 2))
    assert _origins(model) == {"a": {"b": [0, 1, 2, 3]}}


class _Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.scale


def _between(middle, channels=4, after=None):
    return nn.Sequential(_conv(3, channels), middle, after or _conv(channels, 2), nn.Flatten(), nn.Linear(32, 2))


def _tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48), nn.Linear(48, 2))
    model[3].weight = model[1].weight
    return model


def _two_outputs(net, x):
    y = net.a(x)
    return {"seen": [y.mean((2, 3))], "read": net.b(y).mean((2, 3))}


def _gate(net, x):
    y = net.a(x)
    return net.c(y * net.b(y.mean((2, 3)))[:, :, None, None]).mean((2, 3))


def _after_embedding(net, x):
    y = net.e(x)
    return net.b(net.a(y) + y)


def _attention(net, x):
    y = net.a(x)
    return net.b(softmax(y @ y.mT, -1) @ y).mean((1, 2))


def _where(net, x):
    y = net.a(x)
    return net.b(torch.where(y > 0, y, 0)).mean((2, 3))


def _read_by(change, after=2):
    """Two convolutions with something in between."""
    return Net(lambda net, x: net.b(change(net, x)).mean((2, 3)), a=_conv(3, 4), b=_conv(after, 2))


_REFUSALS = {
    "output": (nn.Sequential(_conv(3, 4)), "0", "they reach the network's output"),
    "two outputs": (Net(_two_outputs, a=_conv(3, 4), b=_conv(4, 4)), "a", "they reach the network's output"),
    "residual": (
        Net(lambda net, x: net.c(net.a(x) + net.b(x)).mean((2, 3)), a=_conv(3, 4), b=_conv(3, 4), c=_conv(4, 2)),
        "a",
        r"they are combined with those of b before c \(Conv2d\)",
    ),
    "gate": (Net(_gate, a=_conv(3, 4), b=nn.Linear(4, 4), c=_conv(4, 2)), "a", "they are combined with those of b"),
    "input": (
        Net(lambda net, x: net.b(x + net.a(x)).mean((2, 3)), a=_conv(3, 3), b=_conv(3, 2)),
        "a",
        "they are combined with numbers that are not units of a layer by add in the network itself",
    ),
    "softmax": (_between(nn.Softmax(1)), "0", r"they reach softmax in 1 \(Softmax\), which is not known"),
    "mean": (_read_by(lambda net, x: net.a(x).mean(1, keepdim=True), 1), "a", "they reach mean in the network itself"),
    "attention": (
        Net(_attention, a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
        "a",
        "they reach mT in the network itself",
    ),
    "layer norm": (
        _between(nn.LayerNorm([4, 4, 4])),
        "0",
        "they reach layer_norm in 1 ",
    ),
    "group norm": (_between(nn.GroupNorm(2, 4)), "0", r"they reach group_norm in 1 \(GroupNorm\), which is not known"),
    "slopes": (_between(nn.PReLU(4)), "0", r"they reach prelu in 1 \(PReLU\), which is not known"),
    "own parameter": (_between(_Scale(4)), "0", r"they reach mul in 1 \(_Scale\), which is not known"),
    "transposed": (
        _between(nn.ConvTranspose2d(4, 4, 1)),
        "0",
        "they reach conv_transpose2d in 1 ",
    ),
    "to groups": (
        _between(nn.ReLU(), after=_conv(4, 2, groups=2)),
        "0",
        r"they reach 2 \(Conv2d\), which is a grouped",
    ),
    "of groups": (_between(nn.ReLU(), after=_conv(4, 2, groups=2)), "2", "it is a grouped convolution"),
    "tied": (_tied(), "1", "it shares a parameter with 3"),
    "called twice": (
        Net(lambda net, x: net.b(net.a(relu(net.a(x)))).mean((2, 3)), a=_conv(3, 3), b=_conv(3, 2)),
        "a",
        "it is called 2 times in a forward pass",
    ),
    "reader called twice": (
        Net(lambda net, x: net.c(net.b(net.b(net.a(x)))).mean((2, 3)), a=_conv(3, 4), b=_conv(4, 4), c=_conv(4, 2)),
        "a",
        r"they reach b \(Conv2d\), which is called 2 times",
    ),
    "not called": (
        Net(lambda net, x: net.b(net.a(x)).mean((2, 3)), a=_conv(3, 4), b=_conv(4, 2), c=_conv(4, 4)),
        "c",
        "it is called 0 times",
    ),
    "one channel": (_between(nn.ReLU(), channels=1), "0", "it has only one"),
    "sigmoid": (_between(nn.Sigmoid()), "0", r"zeros of it arrive as other numbers at 2 \(Conv2d\)"),
    "a constant": (_read_by(lambda net, x: net.a(x) + 0.1, 4), "a", "zeros of it arrive as other numbers at b"),
    "depthwise": (
        Net(lambda s, x: s.c(s.b(s.a(x))), a=_conv(3, 4), b=_conv(4, 4, groups=4), c=_conv(4, 2)),
        "b",
        "it treats each channel by itself, and goes with those that it reads",
    ),
    "to one number": (
        Net(lambda net, x: net.b(x + net.a(x).mean()), a=_conv(3, 4), b=_conv(3, 2)),
        "a",
        "they reach mean",
    ),
    "in pairs": (_read_by(lambda net, x: (y := net.a(x)) + y.flip(1), 4), "a", "they are combined with one another"),
    "a size in the code": (
        Net(lambda net, x: net.b(relu(net.a(x)).view(-1, 64)), a=_conv(3, 4), b=nn.Linear(64, 2)),
        "a",
        "the forward pass does not work with fewer of them",
    ),
    "a shuffle": (
        _read_by(lambda net, x: net.a(x)[:, [3, 1, 0, 2]], 4),
        "a",
        "index in the network itself picks them by their number",
    ),
    "their number": (_read_by(lambda net, x: net.a(x) * net.a.out_channels, 4), "a", "the network then gives other"),
}


@pytest.mark.parametrize("case", _REFUSALS)
def test_refused_in_words(case):
    model, layer, says = _REFUSALS[case]
    found = removable_channels(model, IMAGES)
    assert layer not in found.layers
    assert re.match(says, found.refused[layer]), found.refused[layer]


def test_what_reads_a_tied_layer_is_not_touched_either():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 48), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48))
    model[4].weight = model[2].weight
    assert removable_channels(model, IMAGES).refused["1"] == "they reach 2 (Linear), which shares a parameter with 4"


def test_numbers_of_an_embedding_are_a_source():
    model = Net(_after_embedding, e=nn.Embedding(4, 5), a=nn.Linear(5, 5), b=nn.Linear(5, 2))
    found = removable_channels(model, torch.tensor([[0, 1], [2, 3]]))
    expected = "they are combined with numbers that are not units of a layer by add in the network itself"
    assert found.refused["a"] == expected


def test_one_bad_layer_does_not_spoil_the_others():
    model = Net(
        lambda s, x: s.d(relu(s.c(s.b(relu(s.a(x))).view(-1, 64)))),
        a=_conv(3, 4), b=_conv(4, 4), c=nn.Linear(64, 6), d=nn.Linear(6, 2),
    )  # fmt: skip
    found = removable_channels(model, IMAGES)
    assert list(found.layers) == ["a", "c"]
    assert set(found.refused) == {"b", "d"}


def test_a_model_is_left_as_it_was():
    model = nn.Sequential(_conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(), _conv(4, 2))
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    removable_channels(model, IMAGES)
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_read_is_refused():
    nan = removable_channels(Net(lambda s, x: s.b(s.a(x / (x - x))), a=_conv(3, 2), b=_conv(2, 2)), IMAGES)
    assert nan.refused["a"] == "the network gives NaN on the example by itself"
    with pytest.raises(SupermaskError, match=r"cannot be written as one graph \(.*\.$"):
        removable_channels(nn.Sequential(_conv(4, 2)), IMAGES)
    with pytest.raises(SupermaskError, match=r"cannot be written as one graph \(.*\.$"):
        removable_channels(Net(lambda s, x: s.a(x) if x.sum() > 0 else x, a=_conv(3, 2)), IMAGES)


def test_where_nan_would_not_pass():
    assert _origins(Net(_where, a=_conv(3, 4), b=_conv(4, 2))) == {"a": {"b": [0, 1, 2, 3]}}


def test_a_depthwise_convolution_goes_with_what_it_reads():
    model = nn.Sequential(_conv(3, 4), nn.ReLU(), _conv(4, 4, groups=4), nn.BatchNorm2d(4), _conv(4, 2), nn.Flatten())
    model = model.append(nn.Linear(32, 2))
    each = [0, 1, 2, 3]
    assert _origins(model)["0"] == {"2": each, "3": each, "4": each}


def test_what_feeds_a_batch_norm_alone():
    chain = nn.Sequential(_conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), _conv(4, 2), nn.ReLU(), nn.BatchNorm2d(2))
    found = feeders(chain, IMAGES)
    assert {norm: (layer, places.tolist()) for norm, (layer, places) in found.items()} == {
        "1": ("0", [0, 1, 2, 3]),
        "5": ("3", [0, 1]),
    }
    summed = Net(lambda s, x: s.n(s.a(x) + s.b(x)), a=_conv(3, 4), b=_conv(3, 4), n=nn.BatchNorm2d(4))
    assert feeders(summed, IMAGES) == {}
    seen_twice = Net(lambda s, x: (s.n(y := s.a(x)), s.b(y)), a=_conv(3, 4), b=_conv(4, 4), n=nn.BatchNorm2d(4))
    assert feeders(seen_twice, IMAGES) == {}
    norms = {"n": nn.BatchNorm2d(4), "m": nn.BatchNorm2d(4)}
    after_another = Net(lambda s, x: s.m(s.n(s.a(x)) + s.b(x)), a=_conv(3, 4), b=_conv(3, 4), **norms)
    assert set(feeders(after_another, IMAGES)) == {"n"}
    flat = nn.Sequential(_conv(3, 2), nn.Flatten(), nn.BatchNorm1d(32))
    assert feeders(flat, IMAGES) == {}
    turned = Net(lambda s, x: s.n(s.a(x)[:, [1, 2, 0]]), a=_conv(3, 3), n=nn.BatchNorm2d(3))
    assert feeders(turned, IMAGES)["n"][1].tolist() == [2, 0, 1]
    tied = Net(lambda s, x: (s.n(s.a(x)), s.b(x)), a=_conv(3, 4), b=_conv(3, 4), n=nn.BatchNorm2d(4))
    assert set(feeders(tied, IMAGES)) == {"n"}
    tied.b.weight = tied.a.weight
    assert feeders(tied, IMAGES) == {}
    again = Net(lambda s, x: s.n(s.n(s.a(x))), a=_conv(3, 4), n=nn.BatchNorm2d(4))
    assert feeders(again, IMAGES) == {}
