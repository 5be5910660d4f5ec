import math

import pytest
import torch
from torch import nn

from supermask import EdgePopup
from supermask.errors import SupermaskError
from supermask.parameters.parameters import survey
from supermask.parameters.roles import Policy


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(8, 3)
        self.token = nn.Parameter(torch.arange(3.0))
        self.gain = nn.Parameter(torch.full((2, 2), 0.25))

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).flatten(1)) * self.gain.mean() + self.token


def roles(model=None, **options):
    return Policy(**options).roles(survey(model or Network()))


def after_a_search(**options):
    """The plain parameters once a search has set them."""
    torch.manual_seed(0)
    search = EdgePopup(Network(), density=0.5, **options)
    return search, {name: value for name, value in search.model.named_parameters() if ".parametrizations." not in name}


def test_the_default_is_that_of_the_paper():
    assert roles() == {
        "conv.weight": "masked",
        "conv.bias": 0.0,
        "norm.weight": 1.0,
        "norm.bias": 0.0,
        "fc.weight": "masked",
        "fc.bias": 0.0,
        "token": "given",
        "gain": 0.25,
    }


@pytest.mark.parametrize(("policy", "role"), [("none", 0.0), ("frozen", "dense"), ("learned", "learned")])
def test_biases_follow_their_policy(policy, role):
    found = roles(bias=policy)
    assert found["conv.bias"] == found["fc.bias"] == role
    assert found["norm.bias"] == 0.0


def test_normalisations_follow_their_policy():
    model = Network()
    nn.init.constant_(model.norm.weight, 3.0)
    model.norm.bias.data = torch.tensor([1.0, 2.0])
    found = [roles(model, norm=policy) for policy in ("affine_off", "frozen", "learned")]
    assert [(role["norm.weight"], role["norm.bias"]) for role in found] == [
        (1.0, 0.0),
        (3.0, "given"),
        ("learned", "learned"),
    ]


def test_a_search_sets_constants_and_leaves_what_was_given():
    torch.manual_seed(0)
    given = Network().token.detach()
    _, values = after_a_search()
    assert not values["conv.bias"].any()
    assert not values["norm.bias"].any()
    assert bool((values["norm.weight"] == 1).all())
    assert torch.equal(values["token"], given)
    assert bool((values["gain"] == 0.25).all())
    assert not any(value.requires_grad for value in values.values())


def test_frozen_biases_are_random_and_not_trained():
    _, values = after_a_search(bias="frozen")
    assert bool(values["fc.bias"].all())
    assert not values["fc.bias"].requires_grad
    # the Kaiming standard deviation of the layer, signed; nothing is pruned there, so nothing is scaled
    assert values["fc.bias"].abs().tolist() == pytest.approx([math.sqrt(2 / 8)] * 3)


def test_learned_parameters_are_trained_from_where_they_are_and_are_the_optimizers():
    torch.manual_seed(0)
    fresh = dict(Network().named_parameters())
    search, values = after_a_search(bias="learned", norm="learned", learned=("token",))
    names = ("conv.bias", "norm.weight", "norm.bias", "fc.bias", "token")
    assert all(torch.equal(values[name], fresh[name]) and values[name].requires_grad for name in names)
    trained = {id(parameter) for parameter in search.parameters()}
    assert trained == {id(values[name]) for name in names} | {id(score) for score in search.scores().values()}
    assert search.ticket().learned.keys() >= set(names)


def test_bypassed_normalisations_are_gone():
    search, values = after_a_search(norm="none")
    assert isinstance(search.model.norm, nn.Identity)
    assert values.keys() == {"conv.bias", "fc.bias", "token", "gain"}
    assert search.ticket().bypassed == ("norm",)


def test_names_and_patterns_claim_parameters():
    found = roles(include=("token", "conv.b*"), dense=("fc.*",), learned=("g??n",))
    assert [found[name] for name in ("token", "conv.bias", "fc.weight", "fc.bias", "gain")] == [
        "masked",
        "masked",
        "dense",
        "dense",
        "learned",
    ]


def test_a_dense_weight_is_random_whole_and_not_counted():
    search = EdgePopup(Network(), density=0.5, dense=("fc.weight",))
    assert list(search.masks()) == ["conv.weight"]
    assert search.ticket().prunable == 18
    assert bool(search.model.fc.weight.all())
    assert not search.model.fc.weight.requires_grad


@pytest.mark.parametrize("option", ["include", "dense", "learned"])
def test_a_pattern_that_matches_nothing_is_refused(option):
    with pytest.raises(SupermaskError, match=rf"{option}: 'fc.W' matches no parameter; there are token, .*fc.bias"):
        roles(**{option: ("fc.W",)})


def test_a_parameter_that_two_options_claim_is_refused():
    with pytest.raises(SupermaskError, match=r"fc\.weight is asked to be dense and learned; name it once"):
        roles(dense=("fc.*",), learned=("*weight",))


@pytest.mark.parametrize("option", ["include", "dense", "learned"])
def test_one_string_is_refused(option):
    with pytest.raises(SupermaskError, match=f"{option}='fc' is one string; give a tuple of names"):
        Policy(**{option: "fc"})


@pytest.mark.parametrize(("option", "value"), [("bias", "zero"), ("norm", "off"), ("bias", "affine_off")])
def test_an_unknown_policy_is_refused(option, value):
    with pytest.raises(SupermaskError, match=f"{option}='{value}' is unknown; known are none, .*learned"):
        Policy(**{option: value})


class Empty(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, 3))


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.BatchNorm1d(3), nn.PReLU()), Empty(), nn.ParameterList([torch.rand(2, 2)])],
    ids=["norm", "empty", "unnamed"],
)
def test_a_model_with_nothing_to_prune_is_refused_with_what_it_has(model):
    names = ", ".join(name for name, _ in model.named_parameters())
    with pytest.raises(SupermaskError, match=f"nothing to prune.* with include=, out of {names}"):
        EdgePopup(model, density=0.5)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(SupermaskError, match="has no parameters, so there is nothing to prune"):
        EdgePopup(nn.Sequential(nn.ReLU()), density=0.5)


def test_a_model_whose_every_weight_is_claimed_is_refused():
    with pytest.raises(SupermaskError, match="nothing to prune"):
        EdgePopup(Network(), density=0.5, dense=("*.weight",))
