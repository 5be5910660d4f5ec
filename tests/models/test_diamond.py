"""The diamonds of Pensia et al. 2020: what their two hops compute, and that a search masks both."""

import math

import pytest
import torch
from torch import nn

from supermask import EdgePopup, models
from supermask.models.diamond import COPIES, Copies

DIAMONDS = ("linear_diamond_500", "relu_diamond_500")
SHAPE = (1, 3, 2)


def small(name):
    """A diamond 6-4-3 with weights and biases in general position."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build(name, input_shape=SHAPE, classes=3, width=0.008).double()


def some_images(count=5):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def prunable(model):
    return sum(value.numel() for name, value in model.named_parameters() if name.endswith("weight"))


def by_paths(model, image, relu):
    """The network of one image, path by path."""
    hops = [[module for module in model if isinstance(module, kind)] for kind in (Copies, nn.Linear)]
    units = image.reshape(-1).tolist()
    for copies, linear in zip(*hops, strict=True):
        outputs = []
        for o in range(linear.out_features):
            total = linear.bias[o].item()
            for i, unit in enumerate(units):
                for j in range(COPIES):
                    path = i * COPIES + j
                    middle = math.sqrt(COPIES) * copies.weight[path, 0].item() * unit
                    total += linear.weight[o, path].item() * (max(middle, 0.0) if relu else middle)
            outputs.append(total if linear is model[-1] else max(total, 0.0))
        units = outputs
    return units


@pytest.mark.parametrize(
    ("name", "width", "weights"),
    [
        ("fc_500", 1.0, 784 * 500 + 500 * 10),
        ("linear_diamond_500", 1.0, 5 * 784 + 5 * 784 * 500 + 5 * 500 + 5 * 500 * 10),
        ("relu_diamond_500", 1.0, 1_991_420),  # as the authors' logs print it
        ("fc_500", 5.016, 1_991_352),
    ],
)
def test_weights_are_those_of_the_paper(name, width, weights):
    with torch.device("meta"):
        assert prunable(models.build(name, width=width)) == weights


def test_the_wide_perceptron_has_2508_hidden_units():
    with torch.device("meta"):
        assert models.build("fc_500", width=5.016)[1].out_features == 2508


@pytest.mark.parametrize("name", DIAMONDS)
def test_a_diamond_adds_up_its_paths(name):
    model, batch = small(name), some_images()
    slow = [by_paths(model, image, relu="relu" in name) for image in batch]
    torch.testing.assert_close(model(batch), torch.tensor(slow, dtype=torch.float64))


def test_the_two_diamonds_differ_in_the_relu_alone():
    linear, relu = (small(name) for name in DIAMONDS)
    assert all(torch.equal(a, b) for a, b in zip(linear.parameters(), relu.parameters(), strict=True))
    assert not torch.allclose(linear(some_images()), relu(some_images()))


def test_copies_are_a_block_diagonal_matrix():
    copies = Copies(4, 3)
    dense = math.sqrt(3) * torch.block_diag(*copies.weight.view(4, 3, 1))
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(copies(inputs), inputs @ dense.T)


def test_copies_say_what_they_are():
    assert repr(Copies(4, 3)) == "Copies(inputs=4, copies=3)"


@pytest.mark.parametrize("name", DIAMONDS)
@pytest.mark.parametrize("density", [0.01, 0.5, 1.0])
def test_a_search_keeps_the_exact_budget_of_each_hop(name, density):
    search = EdgePopup(models.build(name, width=0.1), density=density)
    masks = search.masks()
    shapes = [tuple(mask.shape) for mask in masks.values()]
    assert shapes == [(3920, 1), (50, 3920), (250, 1), (10, 250)]
    for mask in masks.values():
        assert abs(int(mask.sum()) - density * mask.numel()) <= 0.5
    assert search.ticket().kept == sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("name", DIAMONDS)
def test_each_hop_is_drawn_by_its_own_fan_in(name):
    search = EdgePopup(models.build(name, width=0.1), density=0.5, weights="kaiming_normal", scaled=False)
    fans = [slot.fans for slot in search.network.masked.values()]
    assert fans == [(1, COPIES), (3920, 50), (1, COPIES), (250, 10)]


@torch.no_grad()
def test_the_paths_have_the_scale_of_the_authors():
    model = models.build("linear_diamond_500", width=0.1)
    EdgePopup(model, density=1.0, weights="kaiming_normal")
    _, copies, linear, *_ = model
    sums = linear(copies(torch.eye(784)))  # of five paths each, of standard deviations sqrt(2) and sqrt(2 / inputs)
    # of 3,920 first hops: five standard errors of the standard deviation are 6 %
    assert float(sums.std()) == pytest.approx(math.sqrt(COPIES * 2 * 2 / 784), rel=0.06)


def test_a_pruned_copy_cuts_its_path():
    search = EdgePopup(model := models.build("relu_diamond_500", width=0.01), density=0.5, seed=3)
    mask = next(iter(search.masks().values()))[:, 0]
    copies = next(module for module in model.modules() if isinstance(module, Copies))
    assert torch.equal(copies(torch.ones(1, 784))[0] != 0, mask)


def test_a_diamond_can_be_trained_whole():
    model = models.build("relu_diamond_500", width=0.05)
    before = [value.clone() for value in model.parameters()]
    nn.functional.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
