"""Data that do not fit a network or a loss are told in a sentence, in training and in evaluation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, nll_loss

from supermask import EdgePopup, SupermaskError
from supermask.data import Loaders, from_tensors
from supermask.training import Recipe, train
from supermask.training.evaluation import evaluate

INPUTS, LABELS = torch.randn(8, 12), torch.arange(8) % 3
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=0.01)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(inputs, targets, loss):
    loaders = Loaders([(inputs, targets)], [(inputs, targets)])
    train(EdgePopup(network(), density=0.5), loaders, RECIPE, seed=0, loss=loss, progress=False)


def evaluated(inputs, targets, loss):
    evaluate(network(), [(inputs, targets)], loss=loss)


WRONG = {
    "labels too high": (INPUTS, LABELS + 1, None, "labels from 1 to 3 of 3 classes, which are 0 to 2"),
    "labels far too high": (INPUTS, LABELS + 2**40, None, "labels from 1099511627776 to"),
    "labels below 0": (INPUTS, LABELS - 1, None, "labels from -1 to 1 of 3 classes"),
    "another loss": (INPUTS, LABELS + 1, nll_loss, "nll_loss does not take .* labels from 1 to 3 of 3"),
    "a column of labels": (INPUTS, LABELS[:, None], None, r"targets are int64 of shape \(8, 1\)"),
    "one for the loss": (INPUTS, LABELS[:, None], cross_entropy, r"cross_entropy does not take .*\(8, 1\)"),
    "labels of int8": (INPUTS, LABELS.to(torch.int8), cross_entropy, "targets that are int8"),
    "an array": (INPUTS, LABELS.numpy(), mse_loss, "targets that are of type ndarray"),
    "float64": (INPUTS.double(), LABELS, None, r"inputs that are float64 .* float32 \(inputs.to\(torch.float32\)"),
    "pixels": (INPUTS.byte(), LABELS, None, r"The network does not take inputs that are uint8 of shape \(8, 12\)"),
    "another size": (torch.randn(8, 13), LABELS, None, r"inputs that are float32 of shape \(8, 13\)"),
    "no dimensions": (torch.randn(8), LABELS, None, r"inputs that are float32 of shape \(8,\)"),
    "a text": ("x", LABELS, None, "inputs that are of type str"),
    "no function": (INPUTS, LABELS, "mse", "loss='mse' is of type str; give a function"),
    "a loss that fails": (INPUTS, LABELS, lambda outputs, targets: outputs - targets, "does not take outputs that are"),
}


@pytest.mark.parametrize("call", [trained, evaluated])
@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_is_a_sentence(kind, call):
    inputs, targets, loss, says = WRONG[kind]
    with pytest.raises(SupermaskError, match=says) as caught:
        call(inputs, targets, loss)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "labels", "says"),
    [
        (np.zeros((8, 12)), LABELS, "images are of type ndarray; give tensors"),
        (INPUTS.tolist(), LABELS, "images are of type list"),
        (INPUTS, None, "labels are of type NoneType"),
        (INPUTS.to_sparse(), LABELS, "images are of layout torch.sparse_coo"),
    ],
)
def test_a_data_set_is_of_dense_tensors(inputs, labels, says):
    with pytest.raises(SupermaskError, match=says):
        from_tensors((inputs, labels))


def test_what_the_system_is_short_of_is_not_blamed_on_the_data():
    def short(outputs, targets):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(RuntimeError, match="allocate memory") as caught:
        evaluated(INPUTS, LABELS, short)
    assert not isinstance(caught.value, SupermaskError)


def test_the_error_of_the_network_is_kept_behind_the_sentence():
    with pytest.raises(SupermaskError) as caught:
        evaluated(torch.randn(8, 13), LABELS, None)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_mistake_in_the_code_of_a_network_is_not_blamed_on_the_data():
    class Misnamed(nn.Linear):
        def forward(self, input):
            return self.head(input)

    with pytest.raises(AttributeError, match="head"):
        evaluate(Misnamed(2, 2), [(torch.zeros(1, 2), torch.zeros(1).long())])
