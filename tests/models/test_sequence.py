"""A chain of plain modules survives its description, and what has none is refused."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask.errors import SupermaskError
from supermask.models.sequence import ARGUMENTS, describe, from_description
from supermask.models.wired import Add, Concatenate, InsertZeros, Wired

IMAGES, VECTORS, ROWS = (2, 4, 9, 11), (2, 12), (2, 4, 13)
CASES = [
    (nn.Linear(12, 3), VECTORS),
    (nn.Linear(12, 3, bias=False), VECTORS),
    (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), ROWS),
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular", bias=False), ROWS),
    (nn.Conv2d(4, 6, (2, 3), stride=(1, 2), padding=(1, 0), dilation=(2, 1), groups=2), IMAGES),
    (nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect", bias=False), IMAGES),
    (nn.ReLU(), VECTORS),
    (nn.Flatten(), IMAGES),
    (nn.Flatten(2, 3), IMAGES),
    (nn.Unflatten(1, (3, 4)), VECTORS),
    (nn.MaxPool2d(3, stride=2, padding=1, dilation=2, ceil_mode=True), IMAGES),
    (nn.MaxPool2d(2, ceil_mode=True), IMAGES),
    (nn.AvgPool2d(2, ceil_mode=True), IMAGES),
    (nn.AvgPool2d((3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False), IMAGES),
    (nn.AvgPool2d(2, divisor_override=3), IMAGES),
    (nn.AdaptiveAvgPool2d((2, None)), IMAGES),
    (nn.AdaptiveMaxPool2d(3), IMAGES),
    (nn.ZeroPad2d((1, 2, 0, 3)), IMAGES),
    (nn.ConstantPad1d((0, 1), 1.0), VECTORS),
    (nn.ConstantPad3d((0, 0, 0, 0, 0, 1), 1.0), IMAGES),
    (nn.LeakyReLU(0.2), VECTORS),
    (nn.ReflectionPad2d((1, 2, 0, 3)), IMAGES),
    (nn.ReplicationPad2d(1), IMAGES),
    (nn.CircularPad2d((2, 0, 1, 1)), IMAGES),
    (Add(), IMAGES),
    (Concatenate(), IMAGES),
    (InsertZeros((2, 3)), IMAGES),
]


def again(chain):
    """Return the chain that comes back from JSON, with the same weights."""
    fresh = from_description(json.loads(json.dumps(describe(chain))))
    fresh.load_state_dict(chain.state_dict())
    return fresh


def test_every_kind_has_a_case():
    assert {type(module) for module, _ in CASES} == ARGUMENTS.keys()


@pytest.mark.parametrize(("module", "shape"), CASES, ids=lambda value: str(value) if isinstance(value, tuple) else None)
def test_a_module_comes_back_and_computes_the_same(module, shape):
    chain = nn.Sequential(module)
    found = again(chain)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found(x), chain(x), rtol=0.0, atol=0.0)
    assert type(found[0]) is type(module)
    assert describe(found) == describe(chain)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    biases=st.lists(st.booleans(), min_size=4, max_size=4),
    relus=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_a_chain_comes_back_with_the_names_of_its_parameters(sizes, biases, relus):
    chain = nn.Sequential(nn.Flatten())
    for inputs, outputs, bias, relu in zip(sizes, sizes[1:], biases, relus, strict=False):
        chain.append(nn.Linear(inputs, outputs, bias=bias))
        if relu:
            chain.append(nn.ReLU())
    found = again(chain)
    assert {name: each.shape for name, each in found.named_parameters()} == {
        name: each.shape for name, each in chain.named_parameters()
    }
    x = torch.ones(2, sizes[0])
    assert torch.equal(found(x), chain(x))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_a_convolution_comes_back_whatever_its_geometry(kernel, stride, padding, dilation, groups, bias):
    chain = nn.Sequential(nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias))
    x = torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(chain)(x), chain(x))


def test_a_pooling_that_returns_places_too_comes_back():
    assert again(nn.Sequential(nn.MaxPool2d(2, return_indices=True)))[0].return_indices


def test_one_module_in_two_places_stands_in_both():
    relu = nn.ReLU()
    chain = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    assert [kind for kind, _ in describe(chain)] == ["Linear", "ReLU", "Linear", "ReLU"]


def test_what_comes_back_is_float32_and_owns_its_weights():
    chain = nn.Sequential(nn.Linear(2, 2)).double()
    before = copy.deepcopy(chain.state_dict())
    found = from_description(describe(chain))
    assert found[0].weight.dtype is torch.float32
    with torch.no_grad():
        found[0].weight.zero_()
    assert torch.equal(chain[0].weight, before["0.weight"])


def test_a_graph_comes_back_with_what_each_module_reads():
    modules = [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), Add(), Concatenate(), nn.Flatten()]
    graph = Wired(modules, [(0,), (1,), (2, 1), (3, 0, 1), (4,)])
    assert [len(part) for part in describe(graph)] == [2, 2, 3, 3, 2]
    found, x = again(graph), torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    y = graph[0](x)
    wanted = torch.cat([y.relu() + y, x, y], dim=1).flatten(1)
    assert torch.equal(found(x), wanted)
    assert torch.equal(graph(x), wanted)
    assert list(found.state_dict()) == list(graph.state_dict())


@pytest.mark.parametrize("sources", [[2], [-1], [], [0, 2]], ids=str)
def test_a_module_that_reads_what_is_not_there_yet_is_refused(sources):
    with pytest.raises(SupermaskError, match=r"^Module 2 reads .*; give numbers from 0 to 1\.$"):
        from_description([["ReLU", {}], ["Add", {}, sources]])


def test_a_description_that_doubles_its_channels_again_and_again_is_refused():
    with pytest.raises(SupermaskError, match=r"^It concatenates tensors to 1,099,511,627,776 times their channels"):
        from_description([["Concatenate", {}, [place, place]] for place in range(40)])


class Doubled(nn.Linear):
    """A Linear that is none."""


@pytest.mark.parametrize("module", [nn.Tanh(), nn.BatchNorm1d(2), nn.Sequential(nn.ReLU()), Doubled(2, 2)])
def test_other_kinds_are_refused_by_their_place(module):
    with pytest.raises(SupermaskError, match=rf"^1 is a {type(module).__name__}; only chains of Linear, .* described"):
        describe(nn.Sequential(nn.ReLU(), module))


@pytest.mark.parametrize(
    "description",
    [
        None,
        5,
        [5],
        "ab",
        [["Linear"]],
        [["Tanh", {}]],
        [["Linear", {"in_features": 2}]],
        [["Linear", {"in_features": "two", "out_features": 2}]],
        [["Linear", {"in_features": -1, "out_features": 2}]],
        [["Conv2d", {"in_channels": 3, "out_channels": 2, "kernel_size": 3, "groups": 2}]],
        [["ReLU", {"slope": 1}]],
        [["ReLU", None]],
        [[["ReLU"], {}]],
        [["Add", {}, "01"]],
        [["Add", {}, [0, "1"]]],
        [["Add", {}, [True]]],
        [["Add", {}, [0], [0]]],
    ],
    ids=str,
)
def test_what_describes_nothing_is_refused_in_a_sentence(description):
    with pytest.raises(SupermaskError, match="does not describe a ") as caught:
        from_description(description)
    assert str(caught.value).endswith(".")
