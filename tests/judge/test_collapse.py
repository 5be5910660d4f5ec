"""Where layers collapse, and the conservation that explains it."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.judge.collapse import (
    collapsed_layers,
    compression,
    critical_compression,
    maximal_compression,
    saliency_flow,
)
from supermask.masking.budget import Global
from supermask.masking.pruning import prune


def test_compression_and_empty_layers():
    masks = {
        "a": torch.tensor([[True, False, False]]),
        "b": torch.zeros(3, dtype=torch.bool),
        "c": torch.ones(0).bool(),
    }
    assert compression(masks) == 6.0
    assert collapsed_layers(masks) == ("b",)
    assert compression({"a": torch.zeros(3).bool()}) == math.inf
    assert maximal_compression({"a": (1, 3), "b": (3,), "c": (0,)}) == 3.0


def test_without_weights_there_is_no_compression():
    with pytest.raises(SupermaskError, match="No layer has weights"):
        maximal_compression({"a": (0, 3)})


@pytest.mark.parametrize("seed", range(20))
def test_the_critical_compression_is_that_of_every_count_tried(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: scale * torch.rand(size, generator=generator)
        for name, size, scale in (("a", 40, 1.0), ("b", 7, 0.8), ("c", 13, 0.9))
    }
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    asked = []

    def choose(density):
        asked.append(density)
        return prune(scores, Global(floor=0).pools(shapes, density))

    found = critical_compression(choose, shapes)
    assert len(asked) <= 12
    sound = [kept for kept in range(1, 61) if not collapsed_layers(choose(kept / 60))]
    assert found == 60 / min(sound)


def test_a_method_that_empties_no_layer_in_vain_reaches_the_maximal_compression():
    shapes = {"a": (4,), "b": (6,), "none": (0,)}
    scores = {"a": torch.tensor([9.0, 1, 2, 3]), "b": torch.tensor([8.0, 1, 2, 3, 4, 5]), "none": torch.zeros(0)}
    found = critical_compression(lambda d: prune(scores, Global(floor=0).pools(shapes, d)), shapes)
    assert found == maximal_compression(shapes) == 5.0


def test_a_method_that_keeps_everything_or_nothing_has_critical_compression_1():
    def choose(density):
        return {"a": torch.full((5,), density == 1.0), "b": torch.full((3,), density == 1.0)}

    assert critical_compression(choose, {"a": (5,), "b": (3,)}) == 1.0


def linear():
    return nn.Sequential(
        nn.Flatten(), *(nn.Linear(32, 9, bias=False), nn.ReLU(), nn.Linear(9, 7, bias=False), nn.ReLU()),
        nn.Linear(7, 3, bias=False),
    )  # fmt: skip


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 3, bias=False),
    )


def saliencies(model, kind):
    """The scores of a chain, with their sign."""
    images = torch.randn(8, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if kind == "synflow":
        model.requires_grad_(False)
        for weight in model.parameters():
            weight.abs_()
        model.requires_grad_(True)
        images = torch.ones_like(images[:1])
    logits = model(images)
    objective = cross_entropy(logits, torch.arange(8) % 3) if kind == "snip" else logits.sum()
    weights = list(model.parameters())
    if kind == "magnitude":
        return [weight.detach().abs() for weight in weights]
    slopes = torch.autograd.grad(objective, weights)
    return [(weight * slope).detach() for weight, slope in zip(weights, slopes, strict=True)]


def is_conserved(flow):
    units = [torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(flow.incoming, flow.outgoing, strict=True)]
    sums = torch.stack(flow.layers)
    return units, torch.allclose(sums, sums[:1].expand_as(sums), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("build", [linear, convolutional])
@pytest.mark.parametrize("kind", ["synflow", "snip", "magnitude"])
def test_synaptic_saliency_is_conserved_and_magnitude_is_not(build, kind):
    torch.manual_seed(0)
    model = build().double()
    flow = saliency_flow(saliencies(model, kind))
    units, layers = is_conserved(flow)
    assert all(units) == any(units) == layers == (kind != "magnitude")
    assert [len(sums) for sums in flow.incoming] == ([9, 7] if build is linear else [5, 4, 6])
    assert all(sums.abs().max() > 1e-6 for sums in flow.incoming)


def test_sums_by_hand():
    first, second = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    flow = saliency_flow([first, second])
    assert [one.tolist() for one in flow.incoming] == [[3.0, 7.0]]
    assert [one.tolist() for one in flow.outgoing] == [[30.0, 70.0]]
    assert [float(one) for one in flow.layers] == [10.0, 100.0]


def test_layers_that_are_no_chain_are_refused():
    with pytest.raises(SupermaskError, match="5 inputs follows one of 2 outputs"):
        saliency_flow([torch.ones(2, 3), torch.ones(4, 5)])
