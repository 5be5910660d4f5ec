"""The transforms of torch.func see the gradients of the scores, as an explicit frozen x mask has them."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from supermask import EdgePopup
from supermask.search import Biprop

INPUTS = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5) % 3


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def scores_of(search):
    return {name: part.detach() for name, part in search.model.named_parameters() if part.requires_grad}


def cost(search, scores, inputs, labels):
    return nn.functional.cross_entropy(functional_call(search.model, scores, (inputs,)), labels)


def by_hand(search, inputs, labels):
    """The gradient of each masked weight, times its frozen weight and the sign of its score."""
    frozen, masks, scores = search.frozen_weights(), search.masks(), search.scores()
    weights = {name: (frozen[name] * mask).requires_grad_() for name, mask in masks.items()}
    hidden = (inputs @ weights["0.weight"].T).relu()
    nn.functional.cross_entropy(hidden @ weights["2.weight"].T, labels).backward()
    found = {name: weight.grad * frozen[name] * scores[name].detach().sign() for name, weight in weights.items()}
    return {f"{name[:2]}parametrizations.weight.original": gradient for name, gradient in found.items()}


@pytest.mark.parametrize("packed", [True, False])
def test_gradients_of_a_batch_and_of_each_example(packed):
    search = EdgePopup(network(), density=0.4, packed=packed)
    scores = scores_of(search)
    found = grad(lambda scores: cost(search, scores, INPUTS, LABELS))(scores)
    expected = by_hand(search, INPUTS, LABELS)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])
    of_one = grad(lambda scores, image, label: cost(search, scores, image[None], label[None]))
    each = vmap(of_one, in_dims=(None, 0, 0))(scores, INPUTS, LABELS)
    for place in range(5):
        expected = by_hand(search, INPUTS[place : place + 1], LABELS[place : place + 1])
        for name, gradients in each.items():
            torch.testing.assert_close(gradients[place], expected[name])


def test_another_treatment_of_kept_weights_has_its_own_gradients():
    search = Biprop(network(), density=0.4)
    found = grad(lambda scores: cost(search, scores, INPUTS, LABELS))(scores_of(search))
    nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
    for name, scores in search.model.named_parameters():
        if scores.requires_grad:
            assert torch.equal(found[name], scores.grad)
