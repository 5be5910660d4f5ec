"""The graph computes what the target computes after training."""

import copy
import itertools

import einops
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from einops.layers.torch import Rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import supermask
from supermask.models.wired import Add, Concatenate, Wired
from theory.graph import graph_of
from theory.graph.calls import CALLS
from theory.graph.modules import HANDLERS
from theory.graph.weighted import PADS

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

MEMBERS = {
    nn.Linear,
    nn.Conv2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
    nn.ZeroPad2d,
    nn.LeakyReLU,
    nn.Unflatten,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.CircularPad2d,
    Add,
    Concatenate,
}

LINE, IMAGE = (6,), (4, 8, 7)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(module, seed=0):
    """Give each tensor, statistics included, values that a trained network could have; in training mode."""
    torch.manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not name.endswith(("_u", "_v")):
            tensor.data = 0.4 * torch.randn_like(tensor)
            tensor.data = tensor.data.abs() + 0.3 if name.endswith("running_var") else tensor.data
    return module.train()


def assert_chain(target, shape):
    """Read a target, compare on random inputs, and return the chain."""
    chain = graph_of(target)
    x = noise(5, *shape, seed=1)
    with torch.no_grad():
        wanted, got = copy.deepcopy(target).double().eval()(x), chain(x)
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= 1e-12 * float(wanted.abs().max())
    assert float(wanted.std()) > 0.0
    assert_plain(chain)
    return chain


def assert_plain(chain):
    assert type(chain) in (nn.Sequential, Wired)
    for module in chain:
        assert type(module) in MEMBERS
        assert not module.training
        for parameter in module.parameters():
            assert (parameter.dtype, parameter.device.type) == (torch.float64, "cpu")
            assert not parameter.requires_grad
    for conv in (module for module in chain if isinstance(module, nn.Conv2d)):
        assert conv.padding == (0, 0)
        assert all(isinstance(size, int) for size in (*conv.stride, *conv.dilation))


def then_linear(*modules, units=3):
    """Append a Linear that fits, on images of the shape of this file."""
    module = nn.Sequential(*modules, nn.Flatten()).double().eval()
    width = module(noise(2, *IMAGE)).shape[1]
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(width, units)).float()


class Steps(nn.Module):
    """A network written with calls: `between` comes between its convolution and its Linear."""

    def __init__(self, between, width):
        super().__init__()
        self.conv = nn.Conv2d(4, 5, 3, padding=1)
        self.between = between
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.between(self, F.relu(self.conv(x))))


def unpacked(self, x):
    b, _, _, _ = x.shape
    return x.view(b, -1)


def in_place(self, x):
    return F.relu(x, inplace=True).relu_().flatten(1)


WIDTH = 5 * 8 * 7
CALLED = {
    "torch.relu": (lambda self, x: torch.relu(x).flatten(1), WIDTH),
    "x.relu": (lambda self, x: (x.relu()).flatten(1), WIDTH),
    "in place": (in_place, WIDTH),
    "torch.flatten": (lambda self, x: torch.flatten(x, 1), WIDTH),
    "torch.flatten by name": (lambda self, x: torch.flatten(x, start_dim=1), WIDTH),
    "x.flatten": (lambda self, x: x.flatten(1), WIDTH),
    "view(size(0), -1)": (lambda self, x: x.view(x.size(0), -1), WIDTH),
    "view(size(dim=0), -1)": (lambda self, x: x.view(x.size(dim=0), -1), WIDTH),
    "view((size()[0], -1))": (lambda self, x: x.view((x.size()[0], -1)), WIDTH),
    "view(batch, width)": (lambda self, x: x.contiguous().view(x.shape[0], 280), WIDTH),
    "view of an unpacked shape": (unpacked, WIDTH),
    "reshape": (lambda self, x: x.reshape(x.shape[0], -1), WIDTH),
    "torch.reshape": (lambda self, x: torch.reshape(x, (-1, 280)), WIDTH),
    "view(-1, width)": (lambda self, x: x.view(-1, 280), WIDTH),
    "rearrange": (lambda self, x: einops.rearrange(x, "b c h w -> b (c h w)"), WIDTH),
    "rearrange by name": (lambda self, x: rearrange(x, "b c h w -> b (c h w)", c=5), WIDTH),
    "max_pool2d": (lambda self, x: F.max_pool2d(x, 2).flatten(1), 5 * 4 * 3),
    "max_pool2d of all options": (lambda self, x: F.max_pool2d(x, 3, (2, 1), 1, (1, 2), True).flatten(1), 125),
    "torch.max_pool2d": (lambda self, x: torch.max_pool2d(x, 2, 2, ceil_mode=True).flatten(1), 80),
    "avg_pool2d": (lambda self, x: F.avg_pool2d(x, 2).flatten(1), 60),
    "avg_pool2d of all options": (lambda self, x: F.avg_pool2d(x, 3, 2, 1, True, False, 7).flatten(1), 100),
    "adaptive_avg_pool2d": (lambda self, x: F.adaptive_avg_pool2d(x, (2, 3)).flatten(1), 30),
    "adaptive_max_pool2d": (lambda self, x: F.adaptive_max_pool2d(x, 2).flatten(1), 20),
    "dropout": (lambda self, x: F.dropout(F.dropout2d(x, 0.5, self.training), 0.9, self.training).flatten(1), WIDTH),
}


@pytest.mark.parametrize(("between", "width"), CALLED.values(), ids=CALLED.keys())
def test_calls_are_read(between, width):
    chain = assert_chain(trained(Steps(between, width)), IMAGE)
    assert isinstance(chain[-2], nn.Flatten)


class Early(nn.Module):
    """Asks for the batch before the layers, has more arguments, and a choice that depends on none."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU())
        self.head = nn.ModuleDict({"out": nn.Linear(60, 3)})

    def forward(self, images, mask=None, *rest, scale: float = 1.0, **options):
        batch = images.size(0)
        images = self.body(images)
        if mask is not None or scale != 1.0 or self.training:
            images = images * 2
        return self.head["out"](images.view(batch, -1))


def shared():
    linear, relu = nn.Linear(6, 6), nn.ReLU()
    return nn.Sequential(linear, relu, linear, relu, nn.Linear(6, 2))


def shared_stage():
    stage = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())
    return nn.Sequential(stage, nn.Sequential(stage, nn.Linear(6, 2)))


class Renamed(nn.Linear):
    """A subclass that computes what its base does."""


TARGETS = {
    "one layer": (lambda: nn.Sequential(nn.Linear(6, 2)), LINE, ["Linear"]),
    "no biases": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(True), nn.Linear(5, 2, bias=False)),
        LINE,
        ["Linear", "ReLU", "Linear"],
    ),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Sequential(), nn.Linear(6, 5)), nn.Sequential(nn.ReLU())),
        LINE,
        ["Linear", "ReLU"],
    ),
    "what vanishes": (
        lambda: nn.Sequential(
            nn.Dropout1d(), nn.Linear(6, 5), nn.Dropout(0.5), nn.Identity(3), nn.ReLU(), nn.AlphaDropout(0.5)
        ),
        LINE,
        ["Linear", "ReLU"],
    ),
    "what vanishes of images": (
        lambda: then_linear(nn.Conv2d(4, 3, 3), nn.Dropout2d(0.5), nn.ReLU(), nn.Identity()),
        IMAGE,
        ["Conv2d", "ReLU", "Flatten", "Linear"],
    ),
    "used twice": (shared, LINE, ["Linear", "ReLU", "Linear", "ReLU", "Linear"]),
    "a stage used twice": (shared_stage, LINE, ["Linear", "ReLU", "Linear", "ReLU", "Linear"]),
    "subclass": (lambda: nn.Sequential(Renamed(6, 2)), LINE, ["Linear"]),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 2)), nn.ReLU()),
        LINE,
        ["Linear", "ReLU"],
    ),
    "spectral norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(4, 2, 3)), nn.ReLU()),
        IMAGE,
        ["Conv2d", "ReLU"],
    ),
    "batch norm behind Linear": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.BatchNorm1d(5, eps=0.1), nn.ReLU(), nn.Linear(5, 2)),
        LINE,
        ["Linear", "ReLU", "Linear"],
    ),
    "batch norm of no bias": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, affine=False), nn.ReLU()),
        LINE,
        ["Linear", "ReLU"],
    ),
    "two batch norms": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, eps=0.2), nn.Identity(), nn.BatchNorm2d(5)),
        IMAGE,
        ["Conv2d"],
    ),
    "batch norm of groups": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        IMAGE,
        ["Conv2d", "ReLU"],
    ),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4)), IMAGE, ["Conv2d"]),
    "strides": (lambda: nn.Sequential(nn.Conv2d(4, 2, 3, (2, 1), (1, 0), (1, 2))), IMAGE, ["ZeroPad2d", "Conv2d"]),
    "same": (
        lambda: nn.Sequential(nn.Conv2d(4, 2, (3, 5), padding="same", dilation=(2, 1))),
        IMAGE,
        ["ZeroPad2d", "Conv2d"],
    ),
    "same, more behind": (
        lambda: nn.Sequential(nn.Conv2d(4, 2, (2, 4), padding="same"), nn.BatchNorm2d(2)),
        IMAGE,
        ["ZeroPad2d", "Conv2d"],
    ),
    "same, even rows": (lambda: nn.Sequential(nn.Conv2d(4, 2, (4, 3), padding="same")), IMAGE, ["ZeroPad2d", "Conv2d"]),
    "valid": (lambda: nn.Sequential(nn.Conv2d(4, 2, 3, padding="valid")), IMAGE, ["Conv2d"]),
    "zero padding": (
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 2, 3)),
        IMAGE,
        ["ZeroPad2d", "Conv2d"],
    ),
    "pooling": (
        lambda: then_linear(
            nn.MaxPool2d(2, stride=1, padding=1, dilation=2, ceil_mode=True),
            nn.Conv2d(4, 5, 3),
            nn.AvgPool2d((2, 1), 1, padding=(1, 0), ceil_mode=True, count_include_pad=False),
            nn.ReLU(),
            nn.AvgPool2d(2, padding=1, divisor_override=3),
            nn.AdaptiveMaxPool2d((2, 3)),
            nn.AdaptiveAvgPool2d(2),
        ),
        IMAGE,
        [
            *("MaxPool2d", "Conv2d", "AvgPool2d", "ReLU", "AvgPool2d"),
            *("AdaptiveMaxPool2d", "AdaptiveAvgPool2d", "Flatten", "Linear"),
        ],
    ),
    "einops": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, 3), Rearrange("n ch y x->n (ch y x)", ch=5), nn.Linear(150, 2)),
        IMAGE,
        ["Conv2d", "Flatten", "Linear"],
    ),
    "einops, one pixel": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, (8, 7)), Rearrange("b c 1 1 -> b c"), nn.Linear(5, 2)),
        IMAGE,
        ["Conv2d", "Flatten", "Linear"],
    ),
    "einops, any axes": (
        lambda: nn.Sequential(Rearrange("b ... -> b (...)"), nn.Linear(224, 2)),
        IMAGE,
        ["Flatten", "Linear"],
    ),
    "other arguments": (Early, IMAGE, ["Conv2d", "ReLU", "Flatten", "Linear"]),
    "float64": (lambda: nn.Sequential(nn.Linear(6, 2)).double(), LINE, ["Linear"]),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(6, 2)).bfloat16(), LINE, ["Linear"]),
}


@pytest.mark.parametrize(("build", "shape", "types"), TARGETS.values(), ids=TARGETS.keys())
def test_targets_are_read(build, shape, types):
    chain = assert_chain(trained(build()), shape)
    assert [type(module).__name__ for module in chain] == types


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet5", "conv2", "conv4", "conv6", "conv8"])
def test_networks_of_the_papers_are_read(name):
    model = supermask.models.build(name, width=0.125)
    assert_chain(trained(model), supermask.models.MODELS[name].input_shape)


def test_torchvision_networks_are_read():
    features = supermask.models.build("torchvision:vgg11_bn").features[:9]
    chain = assert_chain(trained(features), (3, 16, 16))
    assert [type(module).__name__ for module in chain] == [
        *["ZeroPad2d", "Conv2d", "ReLU", "MaxPool2d"] * 2,
        "ZeroPad2d",
        "Conv2d",
    ]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_random_chains_of_images(data, seed):
    channels, modules = IMAGE[0], []
    for _ in range(data.draw(st.integers(1, 3), label="convolutions")):
        groups = data.draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
        outputs = groups * data.draw(st.integers(1, 3))
        kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        padding = data.draw(st.sampled_from(["same", (2, 1), 2]))
        options = {"groups": groups, "padding": padding, "dilation": data.draw(st.integers(1, 2))}
        modules.append(nn.Conv2d(channels, outputs, kernel, bias=data.draw(st.booleans()), **options))
        extras = (
            [nn.BatchNorm2d(outputs, eps=data.draw(st.sampled_from([1e-5, 0.5])), affine=data.draw(st.booleans()))],
            [nn.Dropout2d(), nn.BatchNorm2d(outputs)],
            [nn.ReLU(inplace=True)],
            [nn.ReLU(), nn.MaxPool2d(2, 1), nn.Identity()],
            [nn.AvgPool2d(2, 1, 1), nn.ReLU()],
        )
        modules.append(nn.Sequential(*data.draw(st.sampled_from(extras))))
        channels = outputs
    assert_chain(trained(then_linear(*modules), seed), IMAGE)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    bias=st.booleans(),
    norm=st.booleans(),
    affine=st.booleans(),
)
def test_random_chains_of_vectors(sizes, seed, bias, norm, affine):
    modules = [
        nn.Sequential(
            nn.Linear(inputs, outputs, bias=bias),
            nn.BatchNorm1d(outputs, affine=affine) if norm else nn.Dropout(),
            *[nn.ReLU()] * (inputs > 2),
        )
        for inputs, outputs in itertools.pairwise([6, *sizes])
    ]
    chain = graph_of(trained(nn.Sequential(*modules), seed))
    x = noise(9, 6, seed=seed)
    wanted = nn.Sequential(*modules).double().eval()(x)
    torch.testing.assert_close(chain(x), wanted.detach(), rtol=1e-12, atol=1e-12 * max(1.0, float(x.abs().max())))
    assert_plain(chain)


def test_sizes_of_pooling_are_pairs_of_integers():
    target = then_linear(nn.Conv2d(4, 2, 1), nn.MaxPool2d(2), nn.AvgPool2d([2]), nn.AdaptiveAvgPool2d(1))
    _, biggest, mean, adaptive, *_ = graph_of(target)
    assert (biggest.kernel_size, biggest.stride, biggest.padding, biggest.dilation) == ((2, 2), (2, 2), (0, 0), (1, 1))
    assert (mean.kernel_size, mean.stride, mean.padding) == ((2, 2), (2, 2), (0, 0))
    assert adaptive.output_size == (1, 1)


def test_what_runs_twice_is_two_modules():
    first, _, second, *_ = graph_of(shared())
    assert first is not second
    assert torch.equal(first.weight, second.weight)
    assert first.weight.data_ptr() != second.weight.data_ptr()


class Counting(nn.Module):
    """Counts its own calls, as some networks do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.fc(x)


def test_the_target_is_left_as_it_was():
    counting = Counting()
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, padding="same"), nn.BatchNorm2d(6), nn.Flatten(), nn.Dropout(), nn.Linear(336, 6)
    )
    target = trained(nn.Sequential(net, parametrizations.spectral_norm(nn.Linear(6, 6)), counting))
    net[4].requires_grad_(False)
    net[1].eval()
    handle = net[0].register_full_backward_hook(lambda module, into, out: None)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    flags = [(module, module.training, type(module)) for module in target.modules()]
    grads = [parameter.requires_grad for parameter in target.parameters()]
    random = torch.random.get_rng_state()
    chain = graph_of(target)
    for parameter in chain.parameters():
        parameter.data.zero_()
    after = target.state_dict()
    assert after.keys() == before.keys()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    assert flags == [(module, module.training, type(module)) for module in target.modules()]
    assert grads == [parameter.requires_grad for parameter in target.parameters()]
    assert list(net[0]._backward_hooks) == [handle.id]
    assert counting.calls == 0
    assert torch.equal(random, torch.random.get_rng_state())


def test_weights_are_the_targets_bit_for_bit():
    target = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    first, _, last = graph_of(target)
    assert torch.equal(first.weight, target[0].weight.double())
    assert torch.equal(first.bias, target[0].bias.double())
    assert last.bias is None


def test_a_masked_weight_is_read_as_it_is_used():
    class Mask(nn.Module):
        def forward(self, weight):
            return weight * (weight > 0)

    target = nn.Sequential(nn.Linear(6, 5))
    parametrize.register_parametrization(target[0], "weight", Mask())
    (linear,) = assert_chain(target, LINE)
    assert bool((linear.weight == 0).any())
    assert bool((linear.weight >= 0).all())


def test_the_tables_hold_what_is_tested():
    assert set(HANDLERS) >= MEMBERS - {nn.Unflatten, *PADS.values()}
    assert all(callable(make) for make in CALLS.values())


@pytest.mark.gpu
def test_a_target_on_a_gpu_is_read_on_the_cpu():
    target = trained(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU())).cuda()
    chain = graph_of(target)
    assert_plain(chain)
    assert all(parameter.is_cuda for parameter in target.parameters())
