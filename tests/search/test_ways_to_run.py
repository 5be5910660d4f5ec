"""Compilers, precisions, memory formats, checkpointing, accumulation, packed weights: the same search each time."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from supermask import EdgePopup, models
from supermask.errors import SupermaskError
from supermask.masking.signs import pack, unpack

slow = pytest.mark.slow
NETWORKS = {
    "lenet_300_100": (1, 28, 28),
    "conv4": (3, 32, 32),
    "torchvision:resnet18": (3, 32, 32),
}


def build(name):
    torch.manual_seed(0)
    return models.build(name, input_shape=None if ":" in name else NETWORKS.get(name))


def batches(name, count, size=4):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, *NETWORKS[name], generator=generator), torch.randint(0, 10, (size,), generator=generator))
        for _ in range(count)
    ]


def run(search, data, network=None, loss=lambda network, images, labels: cross_entropy(network(images), labels)):
    """Search a few steps; return the losses, and in the end that of evaluation mode."""
    network = search.model if network is None else network
    optimizer = torch.optim.SGD(search.parameters(), lr=0.001, momentum=0.9)
    losses = []
    for images, labels in data:
        optimizer.zero_grad()
        value = loss(network, images, labels)
        value.backward()
        optimizer.step()
        search.step()
        losses.append(float(value.detach()))
    network.eval()
    with torch.no_grad():
        losses.append(float(cross_entropy(network(data[0][0]).float(), data[0][1])))
    return losses


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=slow)])
@pytest.mark.parametrize("name", [pytest.param(name, marks=slow if ":" in name else ()) for name in NETWORKS])
def test_a_compiled_network_has_no_graph_break_and_the_losses_of_the_eager_one(name, backend):
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    eager, other = (EdgePopup(build(name), density=0.4) for _ in range(2))
    compiled = torch.compile(other.model, backend=backend, fullgraph=True)
    data = batches(name, 4)
    before = other.masks()
    expected, losses = run(eager, data), run(other, data, compiled)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert not same(other.masks(), before)
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) == 0
    changed = {name: (mask != eager.masks()[name]).float().mean().item() for name, mask in other.masks().items()}
    assert max(changed.values()) < 1e-3


@pytest.mark.parametrize("packed", [True, False])
def test_a_compiled_network_is_not_compiled_anew_when_the_masks_change(packed):
    torch.compiler.reset()
    search = EdgePopup(build("lenet_300_100"), density=0.4, packed=packed)
    counted = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    run(search, batches("lenet_300_100", 5), torch.compile(search.model, backend=counted, fullgraph=True))
    assert counted.frame_count == 2  # training and evaluation


def test_channels_last_and_bfloat16_search_almost_alike():
    name = "conv4"
    plain, other = (EdgePopup(build(name), density=0.4) for _ in range(2))
    other.model.to(memory_format=torch.channels_last)
    assert other.scores()["features.0.2.weight"].is_contiguous(memory_format=torch.channels_last)
    data = batches(name, 3)
    last = [(images.to(memory_format=torch.channels_last), labels) for images, labels in data]
    expected = run(plain, data)
    assert run(other, last) == pytest.approx(expected, rel=1e-4)
    budget = {name: round(0.4 * mask.numel()) for name, mask in plain.masks().items()}
    for search in (plain, other):
        assert {name: int(mask.sum()) for name, mask in search.masks().items()} == budget

    def under_autocast(network, images, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(network(images).float(), labels)

    half = EdgePopup(build(name), density=0.4)
    assert run(half, last, loss=under_autocast) == pytest.approx(expected, rel=0.05)
    assert {scores.dtype for scores in half.scores().values()} == {torch.float32}
    assert {name: int(mask.sum()) for name, mask in half.masks().items()} == budget


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_recomputes_the_same_gradients(reentrant):
    plain, other = (EdgePopup(build("conv4"), density=0.4) for _ in range(2))

    def recomputed(network, images, labels):
        hidden = checkpoint(network.features, images.requires_grad_(), use_reentrant=reentrant)
        return cross_entropy(network.classifier(hidden.flatten(1)), labels)

    data = batches("conv4", 3)
    assert run(other, data, loss=recomputed) == run(plain, data)
    assert same(dict(plain.scores()), dict(other.scores()))


def test_gradients_accumulate_over_passes_with_one_masked_weight():
    one, other = (EdgePopup(build("lenet_300_100"), density=0.4) for _ in range(2))
    ((images, labels),) = batches("lenet_300_100", 1, size=8)
    cross_entropy(one.model(images), labels).backward()
    for part in (slice(0, 4), slice(4, 8)):
        (cross_entropy(other.model(images[part]), labels[part]) / 2).backward()
    for name, scores in one.scores().items():
        torch.testing.assert_close(other.scores()[name].grad, scores.grad, rtol=1e-4, atol=1e-7)


def test_a_step_between_a_forward_and_its_backward_is_noticed():
    """The masked weight changed under the graph that reads it."""
    search = EdgePopup(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), density=0.5)
    loss = search.model(torch.randn(2, 4, requires_grad=True)).sum()
    search.step()
    with pytest.raises(RuntimeError, match="modified inplace"):
        loss.backward()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("score", ["magnitude", "signed"])
def test_packed_weights_give_the_same_search_bit_for_bit(layout, score):
    whole, packed = (EdgePopup(build("conv4"), density=0.4, score=score, packed=option) for option in (False, True))
    for search in (whole, packed):
        search.model.to(memory_format=layout)
    data = batches("conv4", 3)
    assert run(packed, data) == run(whole, data)
    assert same(dict(packed.scores()), dict(whole.scores()))
    assert same(packed.masks(), whole.masks())
    assert same(packed.frozen_weights(), whole.frozen_weights())
    assert same(packed.model.state_dict(), whole.model.state_dict())
    assert packed.ticket().digest == whole.ticket().digest


def test_packed_weights_take_an_eighth_of_a_byte_each():
    def held(search):
        return sum(tensor.numel() * tensor.element_size() for tensor in search.model.buffers())

    whole, packed = (EdgePopup(build("lenet_300_100"), density=0.4, packed=option) for option in (False, True))
    saved = held(whole) - held(packed)
    assert saved == pytest.approx((4 - 1 / 8) * 266_200, abs=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (3, 5), (0, 4), (2, 3, 4, 5)])
def test_what_is_packed_comes_out_again(dtype, shape):
    generator = torch.Generator().manual_seed(0)
    weights = (torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(dtype) * 0.3
    for like in (weights, weights.clone().as_strided(weights.shape, weights.stride())):
        assert torch.equal(unpack(pack(weights, "w"), like), weights)
    assert pack(weights, "w").bits.numel() == -(-weights.numel() // 8)


@pytest.mark.parametrize("wrong", [torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.0, -0.0]), torch.tensor([1.0, 0.0])])
def test_weights_of_several_magnitudes_are_not_packed(wrong):
    with pytest.raises(SupermaskError, match="w cannot be packed into bits: only weights='signed_constant'"):
        pack(wrong, "w")
    model = nn.Linear(8, 8)
    with pytest.raises(SupermaskError, match="weight cannot be packed"):
        EdgePopup(model, density=0.5, weights="kaiming_normal", packed=True)
    EdgePopup(model, density=0.5, packed=True)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.output = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, inputs):
        return self.output(self.cells(inputs)[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.second(self.first(inputs))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: build("conv4"), (3, 32, 32)),
        (lambda: build("resnet20"), (3, 32, 32)),
        (Recurrent, (6, 4)),
        (Tied, (4,)),
    ],
)
def test_a_baked_network_is_plain_and_gives_the_same_outputs(make, shape):
    search = EdgePopup(make(), density=0.4)
    optimizer = torch.optim.SGD(search.parameters(), lr=0.1)
    for _ in range(2):
        inputs = torch.randn(3, *shape)
        search.model(inputs).square().mean().backward()
        optimizer.step()
        search.step()
    network = search.baked()
    fresh = make()
    assert [type(module) for module in network.modules()] == [type(module) for module in fresh.modules()]
    assert network.state_dict().keys() == fresh.state_dict().keys()
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in fresh.named_parameters()}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        expected = search.model.eval()(inputs)
        assert torch.equal(network.eval()(inputs), expected)
        for parameter in search.parameters():
            parameter.mul_(torch.rand_like(parameter))
        search.step()
        assert torch.equal(network(inputs), expected)
        # in one mode of autograd: with gradients recurrent layers may take other loops, which round otherwise
        assert torch.equal(copy.deepcopy(network)(inputs), expected)
