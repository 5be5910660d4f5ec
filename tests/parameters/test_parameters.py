import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn.utils.parametrizations import weight_norm

from supermask import EdgePopup, models
from supermask.errors import SupermaskError
from supermask.parameters.parameters import normalizations, survey
from supermask.random.distributions import Fans

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def kinds(module):
    return {name: slot.kind for name, slot in survey(module).items()}


def fans(module):
    return {name: slot.fans for name, slot in survey(module).items()}


class Own(nn.Module):
    """Raw parameters under many names, as one's own modules have them."""

    def __init__(self):
        super().__init__()
        self.groups = nn.ModuleList([nn.Linear(2, 3)])
        self.weight = nn.Parameter(torch.rand(3, 4))
        self.gate_weight = nn.Parameter(torch.rand(4, 5, 6))
        self.weight_scale = nn.Parameter(torch.rand(3))
        self.output_bias = nn.Parameter(torch.rand(1, 7, 1))
        self.position_bias = nn.Parameter(torch.rand(7, 7))
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.weight_index = nn.Parameter(torch.zeros(2, 2, dtype=torch.int64), requires_grad=False)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.output = nn.Linear(4, 7, bias=False)
        self.output.weight = self.embed.weight


# ---- kinds


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 4),
        *(layer(4, 6, 3, groups=2) for layer in CONVOLUTIONS),
        nn.Embedding(5, 3),
        nn.EmbeddingBag(5, 3),
        nn.Bilinear(2, 3, 4),
        nn.RNN(3, 4, num_layers=2, bidirectional=True),
        nn.LSTM(3, 4, proj_size=2),
        nn.GRU(3, 4),
        nn.RNNCell(3, 4),
        nn.LSTMCell(3, 4),
        nn.GRUCell(3, 4),
        nn.MultiheadAttention(4, 2, add_bias_kv=True),
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
    ],
    ids=lambda module: type(module).__name__,
)
def test_torch_layers_are_weights_and_biases_by_their_names(module):
    expected = {name: "weight" if "weight" in name else "bias" for name, _ in module.named_parameters()}
    assert kinds(module) == expected


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm((3, 4)),
        nn.RMSNorm((3, 4)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_affine_parameters_of_normalisations_are_no_weights_whatever_their_dimensions(module):
    assert set(kinds(nn.Sequential(module)).values()) == {"norm"}


def test_raw_parameters_are_known_by_name_and_dimensions():
    assert kinds(Own()) == {
        "weight": "weight",
        "gate_weight": "weight",
        "weight_scale": "gain",
        "output_bias": "bias",
        "position_bias": "other",
        "token": "other",
        "weight_index": "other",
        "groups.0.weight": "weight",
        "groups.0.bias": "bias",
    }


def test_a_prelu_is_not_a_weight():
    assert kinds(nn.PReLU(3)) == {"weight": "other"}


def test_a_tied_weight_is_one_slot_with_two_places():
    model = Tied()
    slots = survey(model)
    assert list(slots) == ["embed.weight"]
    assert [(place.module, place.leaf) for place in slots["embed.weight"].places] == [
        (model.embed, "weight"),
        (model.output, "weight"),
    ]


def test_a_module_registered_twice_is_one_place():
    layer = nn.Linear(3, 3)
    assert [len(slot.places) for slot in survey(nn.Sequential(layer, layer)).values()] == [1, 1]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("mobilenet_v3_small", set()),
        ("convnext_tiny", {"layer_scale"}),
        ("swin_t", {"relative_position_bias_table"}),
        ("vit_b_16", {"class_token", "pos_embedding"}),
    ],
)
def test_every_parameter_of_torchvisions_models_is_what_its_layer_says(name, others):
    model = models.build(f"torchvision:{name}")
    slots = survey(model)
    assert list(slots) == [name for name, _ in model.named_parameters()]
    linear = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)
    layers = [module for module in model.modules() if isinstance(module, linear)]
    norms = [module for module in model.modules() if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))]
    found = [slot.kind for slot in slots.values()]
    assert (found.count("weight"), found.count("norm")) == (len(layers), 2 * len(norms))
    assert all(isinstance(slot.places[0].module, linear) for slot in slots.values() if slot.kind in ("weight", "bias"))
    assert {name.rpartition(".")[2] for name, slot in slots.items() if slot.kind in ("other", "gain")} == others


# ---- fans


def connections(module, *input_shape):
    """Count what the layer really does: the most inputs that one output reads, and outputs that one input feeds."""
    nn.init.ones_(module.weight)
    inputs = torch.rand(1, *input_shape)
    table = jacobian(module, inputs).reshape(-1, inputs.numel()) != 0
    return Fans(int(table.sum(1).max()), int(table.sum(0).max()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layer", CONVOLUTIONS)
def test_fans_of_a_convolution_are_its_connections(layer, groups):
    module = layer(2, 4, 2, groups=groups, bias=False)
    side = (4,) * (module.weight.ndim - 2)
    assert fans(module) == {"weight": connections(module, 2, *side)}


def test_fans_of_a_depthwise_convolution_are_its_connections():
    module = nn.Conv2d(3, 6, (3, 2), groups=3, bias=False)
    assert fans(module) == {"weight": connections(module, 3, 5, 5)}


def test_fans_of_a_linear_layer_are_its_connections():
    module = nn.Linear(3, 5, bias=False)
    assert fans(module) == {"weight": connections(module, 3)}


def test_fans_of_a_bilinear_layer_are_its_connections():
    module = nn.Bilinear(2, 3, 4, bias=False)
    nn.init.ones_(module.weight)
    first, second = torch.rand(2), torch.rand(3)
    # one output reads 2 x 3 products; one entry of the first input is in 3 of them, for each of 4 outputs
    assert torch.allclose(module(first, second), (first.sum() * second.sum()).expand(4))
    assert fans(module) == {"weight": Fans(6, 12)}


def test_fans_of_packed_weights_are_those_of_one_product():
    assert fans(nn.MultiheadAttention(4, 2))["in_proj_weight"] == Fans(4, 12)
    assert fans(nn.MultiheadAttention(4, 2, kdim=3))["k_proj_weight"] == Fans(3, 4)
    assert fans(nn.LSTM(3, 5))["weight_ih_l0"] == Fans(3, 20)
    assert fans(nn.Embedding(7, 4)) == {"weight": Fans(4, 7)}


def test_a_bias_has_the_fans_of_its_weight():
    assert fans(nn.Conv2d(3, 4, 2))["bias"] == Fans(12, 16)
    assert fans(nn.ConvTranspose2d(3, 4, 2))["bias"] == Fans(12, 16)
    assert fans(nn.LSTM(3, 5))["bias_hh_l0"] == Fans(3, 20)


def test_fans_of_one_are_the_least():
    assert fans(nn.PReLU()) == {"weight": Fans(1, 1)}
    empty = nn.Module()
    empty.weight = nn.Parameter(torch.empty(0, 3))
    assert fans(empty) == {"weight": Fans(3, 1)}


# ---- normalisations


def test_a_normalisation_registered_twice_is_found_under_both_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.again = model[1]
    assert normalizations(model) == ("1", "again")


# ---- models that cannot be masked


def test_all_problems_of_a_model_are_said_at_once():
    model = nn.Sequential(weight_norm(nn.Linear(2, 2)), nn.LazyLinear(3), nn.Linear(2, 2, device="meta"))
    with pytest.raises(SupermaskError, match=r"cannot be masked: .*; give a freshly built, plain model") as raised:
        survey(model)
    for part in ("0 is already parametrized", "1.weight has no shape yet", "2.weight is on the meta device"):
        assert part in str(raised.value)


def test_a_searched_model_is_refused():
    model = nn.Linear(4, 4)
    EdgePopup(model, density=0.5)
    with pytest.raises(SupermaskError, match="cannot be masked: it is already parametrized; give a freshly"):
        EdgePopup(model, density=0.5)


def test_a_layer_that_changes_its_own_weight_is_refused():
    with pytest.raises(SupermaskError, match=r"0 changes its own weight in place \(max_norm\)"):
        survey(nn.Sequential(nn.Embedding(5, 3, max_norm=1.0)))


def test_a_compiled_model_is_refused():
    with pytest.raises(SupermaskError, match="compile it after the search is attached"):
        survey(torch.compile(nn.Linear(2, 2), backend="eager"))
