"""What cannot hold scores is refused before anything is changed, and only where it would be masked."""

import copy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from supermask import EdgePopup, Ticket
from supermask.errors import SupermaskError
from supermask.random.distributions import Distribution, SignOf


class Referring(nn.Module):
    """Reads the weight of its layer past the layer, in some way."""

    def __init__(self, refer):
        super().__init__()
        self.l = nn.Linear(16, 3, bias=False)
        self.m = nn.Linear(16, 16)
        refer(self)

    def forward(self, x):
        return self.l(self.m(x))


class Kernel:
    def __init__(self, weight):
        self.weight = weight


def shared(model):
    model.twin = nn.Linear(16, 3, bias=False)
    model.twin.weight = nn.Parameter(model.l.weight.detach())


def by_function(model):
    weight = model.l.weight
    model.run = lambda x: functional.linear(x, weight)


REFERRING = {
    "list": lambda model: setattr(model, "ref", [model.l.weight]),
    "dict of tuples": lambda model: setattr(model, "ref", {"a": (1, model.l.weight)}),
    "attribute": lambda model: model.__dict__.__setitem__("ref", model.l.weight),
    "part": lambda model: setattr(model, "ref", model.l.weight.detach()[1:].t()),
    "kernel": lambda model: setattr(model, "ref", Kernel(model.l.weight)),
    "partial": lambda model: setattr(model, "ref", partial(functional.linear, weight=model.l.weight)),
    "function": by_function,
    "buffer": lambda model: model.m.register_buffer("ref", model.l.weight.detach()),
    "parameter over the same memory": shared,
}


@pytest.mark.parametrize("refer", REFERRING.values(), ids=REFERRING.keys())
def test_a_weight_that_is_read_elsewhere_is_refused_and_left_as_it_was(refer):
    model = Referring(refer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SupermaskError, match=r"cannot be masked: .*l\.weight.* are one memory, which is read past"):
        EdgePopup(model, density=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    EdgePopup(model, density=0.5, learned=("l.weight", "twin.weight") if hasattr(model, "twin") else ("l.weight",))


def test_what_holds_other_tensors_is_not_refused():
    def refer(model):
        model.ref = [torch.zeros(3), model.m.bias, {"l.weight": model.l.weight.clone()}, lambda x: model.l(x)]
        model.tied = nn.Linear(16, 3, bias=False)
        model.tied.weight = model.l.weight
        model.rnn = nn.LSTM(4, 4)

    EdgePopup(Referring(refer), density=0.5)


def networks(change):
    model = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1), nn.Flatten(), nn.Linear(40, 3))
    change(model[1])
    return model


REPARAMETRISED = {
    "1 is already parametrized": parametrizations.weight_norm,
    "1 is already parametrized ": parametrizations.orthogonal,
    "1 has a weight norm": torch.nn.utils.weight_norm,
    "1 is already pruned": lambda module: prune.l1_unstructured(module, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("message", REPARAMETRISED)
def test_a_reparametrised_layer_is_refused_where_it_would_be_masked_and_else_kept(message):
    change = REPARAMETRISED[message]
    with pytest.raises(SupermaskError, match=f"cannot be masked: {message.strip()}; give"):
        EdgePopup(networks(change), density=0.5)
    inputs = torch.randn(2, 4, 5)
    trained = EdgePopup(networks(change), density=0.5, learned=("1.*",))
    assert set(trained.masks()) == {"0.weight", "3.weight"}
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    trained.model(inputs).square().sum().backward()
    optimizer.step()
    trained.step()
    frozen = networks(change)
    frozen[1].requires_grad_(False)
    for search in (trained, EdgePopup(frozen, density=0.5)):
        with torch.no_grad():  # an old-style norm keeps its weight with its graph, which nothing can copy
            expected = search.model.eval()(inputs)
        assert torch.equal(search.baked().eval()(inputs), expected)
        applied = Ticket.from_bytes(search.ticket().to_bytes()).apply(networks(change)).eval()
        assert torch.equal(applied(inputs), expected)


def test_an_old_style_spectral_norm_divides_what_is_masked():
    search = EdgePopup(networks(torch.nn.utils.spectral_norm), density=0.5)
    weight = search.model[1].weight_orig
    assert int(weight.count_nonzero()) == 96
    inputs = torch.randn(2, 4, 5)
    search.model(inputs)
    applied = search.ticket().apply(networks(torch.nn.utils.spectral_norm))
    assert torch.equal(applied.eval()(inputs), search.model.eval()(inputs))


class Spread(torch.Tensor):
    """A tensor of another kind, such as a DTensor."""


def test_a_parameter_of_another_kind_of_tensor_is_refused():
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(4, 4).as_subclass(Spread))
    with pytest.raises(SupermaskError, match="weight is a Spread, spread over devices or stored in a way of its own"):
        EdgePopup(model, density=0.5)


@dataclass(frozen=True)
class Mine(Distribution):
    name = "mine"

    def draw(self, stream, count, fans):
        return stream.uniform(count) - 0.5

    def deviation(self, fans):
        return 12**-0.5


@pytest.mark.parametrize("weights", [Mine(), SignOf(Mine())])
def test_a_distribution_that_no_ticket_can_name_is_refused_before_anything_is_drawn(weights):
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    with pytest.raises(SupermaskError, match="Mine is a distribution of your own, which a ticket cannot name"):
        EdgePopup(model, density=0.5, weights=weights)
    assert torch.equal(model.weight, before)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_model_is_refused_and_left_as_it_was():
    plain = nn.Sequential(nn.Linear(4, 4))
    before = plain[0].weight.detach().clone()
    with pytest.raises(SupermaskError, match="it is TorchScript, whose parameters cannot be parametrized"):
        EdgePopup(torch.jit.script(plain), density=0.5)
    assert torch.equal(plain[0].weight, before)


class Asking(nn.Module):
    """Asks for its parameters in the forward pass, as if they were the weights."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 3, bias=False)

    def forward(self, x):
        return functional.linear(x, dict(self.named_parameters()).popitem()[1])


def referred_globally():
    layer = nn.Linear(16, 3, bias=False)
    model = nn.Sequential(layer)
    model.forward = Outside(layer.weight).forward
    return model


class Outside:
    """Not a part of the model: its bound method is."""

    def __init__(self, weight):
        self.held = [weight]

    def forward(self, x):
        return functional.linear(x, self.held[0])


@pytest.mark.parametrize("make", [Asking, referred_globally])
def test_scores_that_are_read_as_if_they_were_weights_are_found_at_the_first_step(make):
    torch.compiler.reset()  # after a compilation in this process nothing is said
    search = EdgePopup(make(), density=0.5)
    optimizer = torch.optim.SGD(search.parameters(), lr=0.1)
    search.model(torch.ones(2, 16)).square().sum().backward()
    optimizer.step()
    with pytest.raises(SupermaskError, match=r"scores of (l|0)\.weight got a gradient though its module never read"):
        search.step()


def test_a_penalty_on_the_scores_and_gradients_by_hand_are_no_such_reading():
    search = EdgePopup(nn.Sequential(nn.Linear(16, 3)), density=0.5)
    scores = search.scores()["0.weight"]
    scores.abs().sum().backward()  # before the forward pass
    search.model(torch.ones(2, 16)).sum().backward()
    search.step()
    other = EdgePopup(nn.Sequential(nn.Linear(16, 3)), density=0.5)
    other.scores()["0.weight"].grad = torch.ones(3, 16)
    other.step()


class Hiding(nn.Module):
    """Has layers in a plain list, which torch does not know of either."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = nn.Linear(4, 4), [nn.Linear(4, 3)]

    def forward(self, x):
        return self.rest[0](self.first(x))


class Counting(nn.Linear):
    """Saves a state of its own."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Hiding(), r"neither its parameters nor its saved buffers: rest \(15 numbers\)"),
        (nn.Sequential(Counting(4, 3)), r"saved buffers: 0\._extra_state\. They"),
    ],
)
def test_what_no_ticket_could_hold_is_warned_of(model, says):
    with pytest.warns(UserWarning, match=says):
        EdgePopup(model, density=0.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quant")
def test_a_quantised_layer_is_refused():
    layer = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})[0]
    with pytest.raises(SupermaskError, match="cannot be masked: 1 is quantised"):
        EdgePopup(nn.Sequential(nn.Linear(4, 4), layer), density=0.5)


def test_inference_mode_is_refused_within_and_after():
    with torch.inference_mode():
        model = nn.Linear(4, 3)
    with pytest.raises(SupermaskError, match=r"weight was made within torch\.inference_mode"):
        EdgePopup(model, density=0.5)
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()
    with torch.inference_mode(), pytest.raises(SupermaskError, match=r"this is within torch\.inference_mode"):
        EdgePopup(model, density=0.5)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn])
def test_what_cannot_be_ranked_or_moved_is_refused_by_name_and_else_stays(dtype):
    def make():
        model = nn.Sequential(nn.Linear(4, 3))
        model.register_parameter("table", nn.Parameter(torch.arange(6).view(2, 3).to(dtype), requires_grad=False))
        return model

    name = str(dtype).removeprefix("torch.")
    with pytest.raises(SupermaskError, match=f"include: table is {name}"):
        EdgePopup(make(), density=0.5, include=("table",))
    if not dtype.is_complex:
        with pytest.raises(SupermaskError, match=f"learned: table is {name}"):
            EdgePopup(make(), density=0.5, learned=("table",))
    search = EdgePopup(make(), density=0.5)
    applied = Ticket.from_bytes(search.ticket().to_bytes()).apply(make())
    assert torch.equal(applied.table.view(torch.uint8), make().table.view(torch.uint8))
