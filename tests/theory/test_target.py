"""The target is read as it runs: the layers' algebra is the module's own forward pass, or the module is refused."""

import pytest
import torch
from torch import nn

from supermask.errors import SupermaskError
from theory.target import layers_of


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(layers, x):
    for layer in layers:
        x = x @ torch.from_numpy(layer.weight).T + torch.from_numpy(layer.offset)
        x = x.relu() if layer.relu else x
    return x


def shared_relu():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(4, 6), relu, nn.Linear(6, 5), relu, nn.Linear(5, 2))


def shared_linear():
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.ReLU(), linear, nn.ReLU(), nn.Linear(4, 2))


TARGETS = {
    "one layer": lambda: nn.Sequential(nn.Linear(4, 2)),
    "no biases": lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)),
    "a bias in one layer only": lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)),
    "linear": lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)),
    "ends with a ReLU": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2), nn.ReLU()),
    "two ReLUs in a row": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 2)),
    "passed over": lambda: nn.Sequential(
        nn.Identity(), nn.Flatten(), nn.Linear(4, 5), nn.Dropout(0.5), nn.ReLU(), nn.Identity(), nn.Linear(5, 2)
    ),
    "one ReLU used twice": shared_relu,
    "one Linear used twice": shared_linear,
}


@pytest.mark.parametrize("build", TARGETS.values(), ids=TARGETS.keys())
def test_layers_compute_what_the_module_computes(build):
    torch.manual_seed(0)
    target = build().double().eval()
    x = 3.0 * noise(50, 4)
    torch.testing.assert_close(run(layers_of(target), x), target(x), rtol=0.0, atol=1e-12)


def test_layers_hold_the_weights_exactly_in_float64():
    target = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    first, last = layers_of(target)
    assert first.weight.dtype == "float64"
    assert (first.weight == target[0].weight.detach().double().numpy()).all()
    assert (first.offset == target[0].bias.detach().double().numpy()).all()
    assert (first.inputs, first.outputs, first.relu) == (4, 3, True)
    assert (last.inputs, last.outputs, last.relu) == (3, 2, False)
    assert last.bias is None
    assert (last.offset == 0.0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_no_numbers_are_refused(name, value):
    target = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        getattr(target[0], name).view(-1)[0] = value
    with pytest.raises(SupermaskError, match=rf"0\.{name} holds NaN or infinity\.$"):
        layers_of(target)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (nn.Linear(3, 2), r"is a Linear; give an nn\.Sequential"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "0 is a Conv2d; only Linear and ReLU"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh()), "1 is a Tanh; only Linear and ReLU"),
        (nn.Sequential(nn.Flatten()), "no Linear layer"),
        (nn.Sequential(), "no Linear layer"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "begins with a ReLU"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2)), "2 takes 5 inputs, and 4 come"),
    ],
    ids=lambda value: None if isinstance(value, nn.Module) else value.split(";")[0],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(target, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        layers_of(target)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
