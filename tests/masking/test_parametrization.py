"""The searched module against an explicit, slow one: frozen x mask as a plain weight, the rule written by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrize import remove_parametrizations

from supermask import EdgePopup
from supermask.masking.parametrization import hold


class Text(nn.Module):
    """A language model whose output layer reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.recurrent = nn.LSTM(6, 6, batch_first=True)
        self.output = nn.Linear(6, 9, bias=False)
        self.output.weight = self.embed.weight

    def forward(self, words):
        return self.output(self.recurrent(self.embed(words))[0])


class Twice(nn.Module):
    """One linear layer used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs):
        return self.layer(self.layer(inputs).tanh())


class Own(nn.Module):
    """Raw parameters, in a list and in a dictionary too."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))
        self.list = nn.ParameterList([torch.rand(4, 4), torch.rand(4, 4)])
        self.dict = nn.ParameterDict({"matrix": torch.rand(4, 2)})
        self.gain = nn.Parameter(torch.rand(()))

    def forward(self, inputs):
        hidden = inputs @ self.weight
        for matrix in self.list:
            hidden = hidden @ matrix
        return hidden @ self.dict["matrix"] * self.gain


def images(channels, dims):
    return lambda: (torch.randn(2, channels, *[5] * dims),)


def words(count):
    return lambda: (torch.randint(0, count, (2, 5)),)


def vectors(*sizes):
    return lambda: tuple(torch.randn(2, 3, size) for size in sizes)


def rows(*sizes):
    return lambda: tuple(torch.randn(3, size) for size in sizes)


ZOO = {
    "linear": (lambda: nn.Linear(5, 4), rows(5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), images(4, 1)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2), images(4, 2)),
    "conv2d_depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), images(4, 2)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3, groups=2), images(2, 3)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), images(4, 1)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), images(4, 2)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 4, 3, groups=2), images(2, 3)),
    "embedding": (lambda: nn.Embedding(9, 4), words(9)),
    "embedding_bag": (lambda: nn.EmbeddingBag(9, 4), words(9)),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5), rows(3, 4)),
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), vectors(4, 4, 4)),
    "attention_kdim": (lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True), vectors(4, 3, 5)),
    "rnn": (lambda: nn.RNN(4, 3, num_layers=2, bidirectional=True, batch_first=True), vectors(4)),
    "lstm": (lambda: nn.LSTM(4, 3, batch_first=True), vectors(4)),
    "gru": (lambda: nn.GRU(4, 3, batch_first=True), vectors(4)),
    "rnn_cell": (lambda: nn.RNNCell(4, 3), rows(4, 3)),
    "lstm_cell": (lambda: nn.LSTMCell(4, 3), lambda: (torch.randn(3, 4), rows(3, 3)())),
    "gru_cell": (lambda: nn.GRUCell(4, 3), rows(4, 3)),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        vectors(4),
    ),
    "batch_norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3)),
        images(2, 2),
    ),
    "group_norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2)), rows(3)),
    "tied": (Text, words(9)),
    "twice": (Twice, rows(4)),
    "own": (Own, rows(3)),
}
OPTIONS = {"own": {"include": ("*",), "own_density": {"gain": 1.0}}}
every_layer = pytest.mark.parametrize("layer", ZOO)


def loss_of(output):
    """A number that depends on every entry of whatever a module returns, unequally."""
    if isinstance(output, torch.Tensor):
        return (output * torch.linspace(0.5, 1.5, output.numel()).reshape(output.shape)).sin().sum()
    return sum(loss_of(part) for part in output if part is not None)


def searched(layer, **options):
    torch.manual_seed(0)
    make, inputs = ZOO[layer]
    search = EdgePopup(make(), density=0.5, seed=3, **OPTIONS.get(layer, {}), **options)
    return search, make(), inputs()


def plain_tensors(search):
    """What the slow network is given besides its masked weights."""
    everything = [*search.model.named_parameters(), *search.model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in everything if "parametrizations." not in name}


def explicit(search, plain, inputs):
    """Return the loss of the slow network, and its plain gradients of frozen x mask."""
    masks = search.masks()
    leaves = {name: (frozen * masks[name]).requires_grad_() for name, frozen in search.frozen_weights().items()}
    loss = loss_of(functional_call(plain, {**plain_tensors(search), **leaves}, inputs))
    return loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("score", ["magnitude", "signed"])
@every_layer
def test_score_gradients_are_those_of_the_explicit_network(layer, score):
    search, plain, inputs = searched(layer, score=score)
    expected_loss, of_weights = explicit(search, plain, inputs)
    loss = loss_of(search.model(*inputs))
    loss.backward()
    torch.testing.assert_close(loss, expected_loss)
    for name, scores in search.scores().items():
        expected = of_weights[name] * search.frozen_weights()[name]
        if score == "magnitude":
            expected = torch.where(scores >= 0, expected, -expected)
        assert bool(expected[~search.masks()[name]].any()) or name == "gain", "the pruned learn nothing"
        torch.testing.assert_close(scores.grad, expected)


@every_layer
def test_outputs_are_equal_with_and_without_gradients(layer):
    search, _, inputs = searched(layer)
    search.model.eval()
    with_gradients = loss_of(search.model(*inputs))
    with torch.no_grad():
        without = loss_of(search.model(*inputs))
    with torch.inference_mode():
        inference = loss_of(search.model(*inputs))
    # attention takes another kernel when it needs no gradients
    torch.testing.assert_close(without, with_gradients)
    assert torch.equal(inference, without)


@every_layer
def test_a_deep_copy_of_a_search_goes_on_by_itself_as_the_first_would(layer):
    search, _, inputs = searched(layer)
    twin = copy.deepcopy(search)
    before = {name: scores.detach().clone() for name, scores in search.scores().items()}
    for one in (twin, search):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.5, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(one.model(*inputs)).backward()
            optimizer.step()
            one.step()
        if one is twin:
            assert all(torch.equal(scores, before[name]) for name, scores in search.scores().items())
    assert all(torch.equal(scores, twin.scores()[name]) for name, scores in search.scores().items())
    assert all(torch.equal(mask, twin.masks()[name]) for name, mask in search.masks().items())
    assert any(not torch.equal(scores, before[name]) for name, scores in search.scores().items())


def test_score_gradients_are_those_of_finite_differences():
    """The derivative of the loss by each entry of frozen x mask, pruned ones too, from two forward passes each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    search = EdgePopup(model, density=0.4, weights="kaiming_normal")
    inputs = torch.randn(5, 3).double()
    loss_of(model(inputs)).backward()
    plain = search.ticket().apply(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double())
    for name, scores in search.scores().items():
        weight = plain.get_parameter(name).detach().view(-1)
        slopes = []
        for index in range(weight.numel()):
            losses = []
            for step in (1e-6, -1e-6):
                weight[index] += step
                losses.append(loss_of(plain(inputs)).item())
                weight[index] -= step
            slopes.append((losses[0] - losses[1]) / 2e-6)
        expected = torch.tensor(slopes).double().reshape(scores.shape) * search.frozen_weights()[name] * scores.sign()
        torch.testing.assert_close(scores.grad, expected, rtol=1e-6, atol=1e-8)


def test_all_forward_passes_read_one_tensor():
    search = EdgePopup(nn.Sequential(nn.Linear(4, 4)), density=0.5)
    layer = search.model[0]
    place = layer.weight.data_ptr()
    assert layer.weight.data_ptr() == place
    with torch.no_grad():
        assert layer.weight.data_ptr() == place
    search.step()
    assert layer.weight.data_ptr() == place


def test_masks_must_not_change_between_a_forward_pass_and_its_backward():
    search = EdgePopup(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), density=0.5)
    loss = search.model(torch.ones(2, 4)).sum()
    search.step()
    with pytest.raises(RuntimeError, match="modified inplace"):
        loss.backward()


# ---- masks that are held while the weights are trained


def held_network():
    torch.manual_seed(0)
    search = EdgePopup(Text(), density=0.4)
    return search.ticket(), search.masks()


@pytest.mark.parametrize(
    "optimizer_of",
    [
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1),
    ],
    ids=["sgd", "adamw"],
)
def test_held_weights_stay_pruned_through_training_averaging_and_removal(optimizer_of):
    ticket, masks = held_network()
    model = ticket.apply(Text(), held=True)
    for parameter in model.parameters():
        parameter.requires_grad_()
        with torch.no_grad():
            parameter.sub_(0.01)  # also what stands behind a pruned weight
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = optimizer_of(model.parameters())
    words = torch.randint(0, 9, (2, 5))
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model(words)).backward()
        optimizer.step()
        averaged.update_parameters(model)
        for network in (model, averaged.module):
            assert torch.equal(network.output.weight, network.embed.weight)
            weight = network.embed.weight[~masks["embed.weight"]]
            assert not weight.any()
            assert not weight.signbit().any()
    assert bool(model.embed.weight[masks["embed.weight"]].all())
    remove_parametrizations(model.embed, "weight")
    assert not model.embed.weight[~masks["embed.weight"]].any()


def test_held_weights_get_no_gradient_where_they_are_pruned():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    plain = copy.deepcopy(model)
    mask = torch.rand(3, 4) < 0.5
    hold(model, {"weight": mask})
    inputs = torch.randn(2, 4)
    loss_of(model(inputs)).backward()
    leaf = (plain.weight * mask).detach().requires_grad_()
    loss_of(nn.functional.linear(inputs, leaf, plain.bias)).backward()
    assert torch.equal(model.parametrizations.weight.original.grad, leaf.grad * mask)
