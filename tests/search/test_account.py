"""What becomes of every parameter is said, and what would silently go wrong is warned of, with the way out."""

import math
import warnings

import pytest
import torch
from torch import nn

from supermask import EdgePopup, Ticket, models
from supermask.errors import SupermaskError
from supermask.parameters.parameters import survey


class Conv1D(nn.Module):
    """GPT-2's layer: a linear map that stores (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.nf = outputs
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class InputsFirst(nn.Module):
    """A layer without a bias that says its sizes."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


class Experts(nn.Module):
    """A mixture's experts in one parameter, (experts, out, in), or (experts, in, out) with a bias beside."""

    def __init__(self, *, inputs_first=False):
        super().__init__()
        self.up_proj = nn.Parameter(torch.randn(4, 6, 16) if inputs_first else torch.randn(4, 16, 6))
        if inputs_first:
            self.up_proj_bias = nn.Parameter(torch.zeros(4, 16))
        self.router = nn.Linear(6, 4)

    def forward(self, x):
        up = self.up_proj if hasattr(self, "up_proj_bias") else self.up_proj.transpose(1, 2)
        return torch.einsum("bi,eio,be->bo", x, up, self.router(x).softmax(1))


def fans(model):
    return {name: tuple(slot.fans) for name, slot in survey(model).items()}


def test_layers_that_store_their_inputs_first_have_the_fans_of_a_linear_layer():
    assert fans(Conv1D(400, 100))["weight"] == fans(nn.Linear(100, 400))["weight"] == (100, 400)
    assert fans(Conv1D(400, 100))["bias"] == (100, 400)
    assert fans(InputsFirst(100, 400))["weight"] == (100, 400)
    search = EdgePopup(nn.Sequential(Conv1D(400, 100), nn.Linear(400, 10)), density=1.0)
    assert search.frozen_weights()["0.weight"].std() == pytest.approx(math.sqrt(2 / 100), rel=0.05)


@pytest.mark.parametrize("inputs_first", [False, True])
def test_fused_experts_are_masked_with_the_fans_of_one_expert(inputs_first):
    model = Experts(inputs_first=inputs_first)
    assert fans(model)["up_proj"] == (6, 16)
    search = EdgePopup(model, density=0.3)
    assert set(search.masks()) == {"up_proj", "router.weight"}
    assert int(search.masks()["up_proj"].sum()) == round(0.3 * 4 * 6 * 16)


def test_embeddings_of_positions_are_not_stacks_of_matrices():
    model = nn.Sequential(nn.Linear(4, 4))
    model.pos_embed = nn.Parameter(torch.randn(2, 3, 4))
    model.token = nn.Parameter(torch.randn(1, 1, 4))
    assert {name: slot.kind for name, slot in survey(model).items()}["pos_embed"] == "other"
    assert set(EdgePopup(model, density=0.5).masks()) == {"0.weight"}


def given():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    nn.init.eye_(model[0].weight)
    return model


def test_what_is_not_to_be_trained_stays_as_it_is_and_comes_back_from_the_ticket(tmp_path):
    model = given()
    model[0].requires_grad_(False)
    bias = model[0].bias.detach().clone()
    search = EdgePopup(model, density=0.5)
    assert torch.equal(model[0].weight, torch.eye(16))
    assert not model[0].weight.requires_grad
    assert search.account()["frozen"] == {"0.weight": 256, "0.bias": 16}
    assert set(search.masks()) == {"2.weight"}
    search.ticket().save(tmp_path / "a.ticket")
    fresh = Ticket.load(tmp_path / "a.ticket").apply(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))
    assert torch.equal(fresh[0].weight, torch.eye(16))
    assert torch.equal(fresh[0].bias, bias)


@pytest.mark.parametrize("option", ["include", "dense"])
def test_an_option_that_names_a_frozen_parameter_counts_more(option):
    model = given()
    model[0].requires_grad_(False)
    search = EdgePopup(model, density=0.5, **{option: ("0.weight",)})
    assert not torch.equal(search.frozen_weights().get("0.weight", model[0].weight), torch.eye(16))


def test_a_model_that_is_not_to_be_trained_at_all_is_refused_with_the_reason():
    with pytest.raises(SupermaskError, match=r"none of its parameters is to be trained \(requires_grad=False\)"):
        EdgePopup(given().requires_grad_(False), density=0.5)


def test_the_account_holds_every_number_once_and_the_repr_shows_it():
    model = models.build("resnet8", width=0.5)
    model.scale = nn.Parameter(torch.arange(5.0))
    search = EdgePopup(model, density=0.5, dense=("conv.weight",), learned=("fc.bias",))
    account = search.account()
    assert sum(sum(numbers.values()) for numbers in account.values()) == 19_954 + 5
    assert account["dense"] == {"conv.weight": 216}
    assert account["learned"] == {"fc.bias": 10}
    assert account["given"] == {"scale": 5}
    assert sum(account["masked"].values()) == sum(mask.numel() for mask in search.masks().values())
    assert "216 dense" in repr(search)
    assert "5 given" in repr(search)


def test_a_large_part_that_is_stored_is_warned_of_by_name():
    model = nn.Sequential(nn.Linear(20, 30))
    model.table = nn.Parameter(torch.randn(60, 40))
    model.wave = nn.Parameter(torch.randn(9, dtype=torch.complex64))
    with pytest.warns(
        UserWarning, match=r"2,409 numbers of 2 parameters .* beside 600 masked weights.* table \(2,400\)"
    ):
        search = EdgePopup(model, density=0.5)
    assert search.account()["given"] == {"table": 2400, "wave": 9}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = nn.Sequential(nn.Linear(20, 30))
        other.table = nn.Parameter(torch.randn(60, 40))
        EdgePopup(other, density=0.5, include=("table",))


class Block(nn.Module):
    """A residual branch behind a gain that starts near 0: ConvNeXt's layer scale, CaiT's gamma, ReZero's alpha."""

    def __init__(self, leaf, value):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.leaf = leaf
        self.register_parameter(leaf, nn.Parameter(torch.full((16,) if leaf != "alpha" else (), value)))

    def forward(self, x):
        return x + getattr(self, self.leaf) * self.branch(x)


def residual(leaf="layer_scale", value=1e-6):
    return nn.Sequential(nn.Linear(6, 16), *(Block(leaf, value) for _ in range(3)), nn.Linear(16, 3))


def advanced(search, steps=5):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.5, momentum=0.9)
    inputs = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    before = search.masks()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(inputs), torch.arange(32) % 3).backward()
        optimizer.step()
        search.step()
    after = search.masks()
    return {name: float((mask ^ before[name]).double().mean()) for name, mask in after.items()}


@pytest.mark.parametrize(("leaf", "value"), [("layer_scale", 1e-6), ("gamma_1", 1e-6), ("alpha", 0.0), ("ls1", 1e-5)])
def test_layers_behind_a_gain_near_zero_are_warned_of_and_the_way_out_moves_them(leaf, value):
    search = EdgePopup(residual(leaf, value), density=0.5)
    with pytest.warns(UserWarning, match=rf"scores of 1\.branch.*next to no gradient.*as 1\.{leaf}.*gains='one'"):
        moved = advanced(search)
    assert all(share == 0.0 for name, share in moved.items() if "branch" in name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = EdgePopup(residual(leaf, value), density=0.5, gains="one")
        moved = advanced(search)
    assert all(share > 0.0 for share in moved.values())
    ticket = search.ticket()
    assert ticket.constants[f"1.{leaf}"] == 1.0
    assert ticket.provenance["options"]["gains"] == "one"


def test_layers_that_a_low_density_cuts_off_are_not_called_dead():
    search = EdgePopup(models.build("lenet_300_100", input_shape=(1, 2, 3)), density=0.005)
    for _ in range(3):
        search.model(torch.ones(4, 1, 2, 3)).logsumexp(1).sum().backward()
        search.step()  # warnings are errors
    assert not search.scores()["fc1.weight"].grad.any()  # the last layer keeps 5 of 1,000 weights
    assert search.scores()["fc3.weight"].grad.any()


def test_a_ticket_of_the_given_gains_names_no_policy_that_older_ones_did_not():
    assert "gains" not in EdgePopup(residual(value=1.0), density=0.5).ticket().provenance["options"]


def test_an_unknown_policy_of_gains_is_refused():
    with pytest.raises(SupermaskError, match="gains='zero' is unknown; known are given, one"):
        EdgePopup(residual(), density=0.5, gains="zero")
