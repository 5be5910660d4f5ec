import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import EdgePopup, Ticket, models
from supermask.errors import SupermaskError
from supermask.masking.budget import ERK, Global, named_scope
from supermask.masking.schedule import CubicRamp
from supermask.masking.selection import Selection
from supermask.random.distributions import KaimingNormal, Uniform
from supermask.random.weights import grow_all


class Small(nn.Module):
    """A grouped convolution, a normalisation and a classifier: 36 + 72 prunable weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 18)

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).relu().mean((2, 3)))


class Text(nn.Module):
    """A language model whose output layer reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.recurrent = nn.LSTM(6, 6, batch_first=True)
        self.output = nn.Linear(6, 9, bias=False)
        self.output.weight = self.embed.weight

    def forward(self, words):
        return self.output(self.recurrent(self.embed(words))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.position = nn.Parameter(torch.randn(5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.output = nn.Linear(8, 9)
        self.register_buffer("future", torch.triu(torch.full((5, 5), -math.inf), 1))

    def forward(self, words):
        return self.output(self.encoder(self.embed(words) + self.position, mask=self.future)[:, -1])


def images(*shape, count=4, dtype=torch.float32):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def words():
    return torch.randint(0, 9, (4, 5), generator=torch.Generator().manual_seed(1))


INPUTS = images(2, 5, 5)
LABELS = torch.arange(4)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05, weight_decay=0.01)


def train(search, steps=2, *, inputs=INPUTS, optimizer=None, network=None, each_step=lambda: None):
    """Train for a few steps on one batch; return the losses as bit patterns of Python."""
    optimizer = optimizer or sgd(search.parameters())
    network = search.model if network is None else network
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs), LABELS)
        loss.backward()
        optimizer.step()
        search.step()
        each_step()
        losses.append(loss.item())
    return losses


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def read_weights(search):
    """The weights as the modules read them."""
    return {name: search.model.get_submodule(name.rpartition(".")[0]).weight for name in search.masks()}


# ---- frozen weights


@pytest.mark.parametrize("optimizer", [sgd, adam])
@pytest.mark.parametrize("weights", ["signed_constant", "kaiming_normal", Uniform(0.3)])
def test_a_search_leaves_the_frozen_weights_as_the_seed_grew_them(optimizer, weights):
    search = EdgePopup(Small(), density=0.4, seed=5, weights=weights, bias="frozen")
    before = search.frozen_weights()
    biases = search.model.fc.bias.clone(), search.model.conv.bias.clone()
    masks = search.masks()
    train(search, 5, optimizer=optimizer(search.parameters()))
    assert not equal(search.masks(), masks)
    assert equal(search.frozen_weights(), before)
    regrown = grow_all(search.network.weights, 5)
    assert all(torch.equal(regrown[name], frozen) for name, frozen in before.items())
    assert torch.equal(search.model.fc.bias, biases[0])
    assert torch.equal(search.model.conv.bias, biases[1])


@pytest.mark.parametrize("to", [{"memory_format": torch.channels_last}, {"dtype": torch.float64}, {"device": "cpu"}])
def test_a_model_may_be_moved_in_the_middle_of_a_search(to):
    search = EdgePopup(Small(), density=0.4)
    frozen, masks = search.frozen_weights(), search.masks()
    search.model.to(**to)
    moved = {name: tensor.float() for name, tensor in search.frozen_weights().items()}
    assert equal(moved, frozen)
    assert equal(search.masks(), masks)
    optimizer = sgd(search.parameters())
    train(search, 3, inputs=INPUTS.to(dtype=to.get("dtype")), optimizer=optimizer)
    assert not equal(search.masks(), masks)
    assert {name: int(mask.sum()) for name, mask in search.masks().items()} == {"conv.weight": 14, "fc.weight": 29}
    assert all(torch.equal(search.frozen_weights()[name].float(), frozen[name]) for name in frozen)


def test_memory_format_does_not_choose_between_tied_scores():
    plain, strided = (
        EdgePopup(Small(), density=0.4),
        EdgePopup(Small().to(memory_format=torch.channels_last), density=0.4),
    )
    for search in (plain, strided):
        with torch.no_grad():
            for scores in search.scores().values():
                scores.fill_(0.5)
        search.step()
    assert equal(plain.masks(), strided.masks())
    assert plain.masks()["conv.weight"].flatten().tolist() == [True] * 14 + [False] * 22


# ---- masks


@pytest.mark.filterwarnings("ignore:density=")
@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([0.0, 1 / 72, 1.0]) | st.floats(1e-6, 1.0),
    st.sampled_from(["layer", Global(floor=0), "erk"]),
    st.sampled_from(["magnitude", "signed"]),
    st.integers(0, 2**63 - 1),
)
def test_masks_keep_the_budget_and_pruned_weights_are_plus_zero_at_every_step(density, scope, score, seed):
    search = EdgePopup(Small(), density=density, scope=scope, score=score, seed=seed)
    shapes = {"conv.weight": (4, 1, 3, 3), "fc.weight": (18, 4)}
    expected = {pool.names: pool.kept for pool in named_scope(scope).pools(shapes, density)}

    def check():
        masks = search.masks()
        assert {names: sum(int(masks[name].sum()) for name in names) for names in expected} == expected
        for name, weight in read_weights(search).items():
            gain = search.treatments()[name].gain if name in search.treatments() else 1.0
            assert torch.equal(weight[masks[name]], search.frozen_weights()[name][masks[name]] * gain)
            pruned = weight[~masks[name]]
            assert not pruned.any()
            assert not pruned.signbit().any()

    check()
    train(search, 3, each_step=check)


def test_the_mask_is_that_of_the_largest_scores():
    for score, ranked in (("magnitude", torch.abs), ("signed", lambda scores: scores)):
        search = EdgePopup(Small(), density=0.25, score=score)
        train(search)
        scores = ranked(search.scores()["fc.weight"].detach()).flatten().tolist()
        kept = sorted(sorted(range(72), key=lambda index: (-scores[index], index))[:18])
        assert search.masks()["fc.weight"].flatten().nonzero().flatten().tolist() == kept


@pytest.mark.filterwarnings("ignore:density=")
def test_all_equal_scores_and_one_weight():
    search = EdgePopup(nn.Linear(1, 1), density=1.0)
    assert search.masks()["weight"].tolist() == [[True]]
    assert EdgePopup(nn.Linear(1, 1), density=0.4).masks()["weight"].tolist() == [[False]]


def test_masks_are_selected_once_a_step_however_often_the_model_runs(monkeypatch):
    search = EdgePopup(Small(), density=0.5)
    counted = []
    select = Selection.select
    monkeypatch.setattr(Selection, "select", lambda *arguments: counted.append(1) or select(*arguments))
    values = {name: layer.value for name, layer in search._layers.items()}
    versions = {name: value._version for name, value in values.items()}
    optimizer = sgd(search.parameters())
    for _ in range(3):
        nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
    with torch.no_grad():
        search.model.eval()(INPUTS)
    search.ticket()
    assert len(counted) == 0
    assert {name: value._version for name, value in values.items()} == versions
    optimizer.step()
    search.step()
    assert len(counted) == 1
    assert {name: value._version - versions[name] for name, value in values.items()} == dict.fromkeys(values, 1)


def test_what_a_search_gives_out_is_a_copy():
    search = EdgePopup(Small(), density=0.5)
    output = search.model(INPUTS)
    for tensor in [*search.masks().values(), *search.frozen_weights().values()]:
        tensor.zero_()
    ticket = search.ticket()
    learned = {name: tensor.clone() for name, tensor in ticket.learned.items()}
    assert ticket.kept == 54
    train(search, 3)
    assert not equal(dict(ticket.masks), search.masks())
    assert not equal(search.ticket().learned, learned)
    assert equal(ticket.learned, learned)
    assert torch.equal(ticket.apply(Small())(INPUTS), output)


# ---- scores


def test_scores_depend_on_the_seed_and_the_name_and_not_on_the_weights_or_the_model():
    first = EdgePopup(Small(), density=0.5, seed=1)
    again = EdgePopup(Small(), density=0.2, seed=1, weights="kaiming_normal", scaled=False, scope="erk")
    other = EdgePopup(Small(), density=0.5, seed=2)
    assert equal(first.scores(), again.scores())
    assert all(not torch.equal(scores, other.scores()[name]) for name, scores in first.scores().items())
    twins = EdgePopup(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)), density=0.5).scores()
    assert not torch.equal(twins["0.weight"], twins["1.weight"])


def test_scores_and_weights_are_independent():
    """Drawn from one distribution they would be equal if they came from one stream."""
    search = EdgePopup(nn.Linear(100, 100), density=1.0, weights="kaiming_normal", scores=KaimingNormal())
    scores, frozen = search.scores()["weight"].detach().flatten(), search.frozen_weights()["weight"].flatten()
    assert abs(torch.corrcoef(torch.stack([scores, frozen]))[0, 1].item()) < 0.05
    assert abs(torch.corrcoef(torch.stack([scores.abs(), frozen.abs()]))[0, 1].item()) < 0.05


def test_first_scores_are_uniform_up_to_one_over_the_root_of_the_fan_in():
    scores = EdgePopup(nn.Linear(25, 400), density=0.5).scores()["weight"].detach()
    assert scores.abs().max().item() == pytest.approx(1 / 5, rel=1e-3)
    assert scores.abs().mean().item() == pytest.approx(1 / 10, rel=0.05)


def test_a_nan_score_stops_the_search():
    search = EdgePopup(Small(), density=0.5)
    with torch.no_grad():
        search.scores()["fc.weight"][0, 0] = math.nan
    with pytest.raises(SupermaskError, match="1 of 108 scores are NaN"):
        search.step()


def test_scores_that_a_training_in_half_precision_throws_out_of_range_stop_the_search():
    search = EdgePopup(Small().half(), density=0.5)
    with torch.no_grad():
        search.scores()["fc.weight"].mul_(1e4).mul_(1e4)
    with pytest.raises(SupermaskError, match=r"scores of fc\.weight are infinite.*lower the learning rate"):
        search.step()


def test_large_scores_whose_sum_is_out_of_range_are_no_infinite_ones():
    search = EdgePopup(Small(), density=0.5)
    with torch.no_grad():
        search.scores()["fc.weight"].fill_(3e38)
    search.step()
    assert int(search.masks()["fc.weight"].sum()) == 36


def test_an_average_with_infinite_scores_is_refused_and_the_search_goes_on():
    search = EdgePopup(Small(), density=0.5)
    average = copy.deepcopy(search.model)
    dict(average.named_parameters())["fc.parametrizations.weight.original"].data[0, 0] = -math.inf
    with pytest.raises(SupermaskError, match=r"1 of 72 scores of fc\.weight are infinite"):
        search.averaged(average)
    search.step()


# ---- options


def test_scaled_weights_keep_the_variance_of_what_is_left():
    plain = EdgePopup(Small(), density=0.25, scaled=False)
    scaled = EdgePopup(Small(), density=0.25, own_density={"fc.*": 0.5})
    factors = {"conv.weight": 2.0, "fc.weight": math.sqrt(2.0)}
    for name, frozen in plain.frozen_weights().items():
        torch.testing.assert_close(scaled.frozen_weights()[name], frozen * factors[name])
        assert frozen.abs().unique().numel() == 1


def test_scaling_by_erk_follows_the_density_of_the_layer():
    plain, scaled = (
        EdgePopup(nn.Sequential(nn.Linear(4, 20), nn.Linear(20, 20)), density=0.3, scaled=scaled, scope="erk")
        for scaled in (False, True)
    )
    densities = ERK().layer_densities(plain.network.shapes, 0.3)
    assert densities["0.weight"] > 2 * densities["1.weight"]
    for name, frozen in plain.frozen_weights().items():
        torch.testing.assert_close(scaled.frozen_weights()[name], frozen / math.sqrt(densities[name]))


def test_density_zero_and_one():
    none = EdgePopup(Small(), density=0.0)
    assert not none.model(INPUTS).any()
    train(none)
    whole = EdgePopup(Small(), density=1.0)
    train(whole)
    assert equal(read_weights(whole), whole.frozen_weights())


def test_a_schedule_sets_the_count_of_each_step_and_own_densities_stay():
    search = EdgePopup(Small(), density=0.25, schedule=CubicRamp(4), own_density={"conv.weight": 0.5})
    kept = []
    count = lambda: kept.append(tuple(int(mask.sum()) for mask in search.masks().values()))  # noqa: E731
    count()
    train(search, 6, each_step=count)
    ramp = [round((0.25 + 0.75 * (1 - step / 4) ** 3) * 72) for step in range(5)]
    assert kept == [(18, fc) for fc in [*ramp, 18, 18]]
    assert search.steps == 6


def test_an_unknown_score_is_refused():
    with pytest.raises(SupermaskError, match="score='absolute' is unknown; known are magnitude, signed"):
        EdgePopup(Small(), density=0.5, score="absolute")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 1.5}, "density=1.5 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"scope": "block"}, "Unknown scope 'block'"),
        ({"weights": "cauchy"}, "Unknown distribution 'cauchy'"),
        ({"own_density": {"fc.bias": 0.5}}, "own_density: 'fc.bias' matches no parameter"),
        ({"own_density": {"fc.*": 2}}, r"own_density\['fc\.\*'\]=2 is out of range"),
        ({"bias": "off"}, "bias='off' is unknown"),
        ({"include": ("nothing",)}, "include: 'nothing' matches no parameter"),
    ],
)
def test_a_refused_option_leaves_the_model_as_it_was(options, message):
    model = Small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SupermaskError, match=message):
        EdgePopup(model, **{"density": 0.5, **options})
    assert equal(model.state_dict(), before)


def test_options_are_plain_values_that_go_into_the_ticket():
    options = {"density": 0.3, "scope": Global(floor=1), "schedule": CubicRamp(5), "own_density": {"fc.*": 0.5}}
    search = EdgePopup(Small(), **options)
    train(search)
    provenance = search.ticket(model="small", metrics={"loss": 1.0}).provenance
    assert provenance["options"] == search.options
    assert search.options["scope"] == {"name": "Global", "floor": 1}
    assert search.options["schedule"] == {"name": "CubicRamp", "steps": 5, "initial": 1.0}
    assert (provenance["algorithm"], provenance["steps"], provenance["model"]) == ("edge_popup", 2, "small")


# ---- state


def test_a_search_that_takes_up_a_state_goes_on_bit_identically():
    whole = EdgePopup(Small(), density=0.3, schedule=CubicRamp(5), bias="learned", norm="learned")
    optimizer = adam(whole.parameters())
    train(whole, 2, optimizer=optimizer)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    expected = train(whole, 3, optimizer=optimizer)

    resumed = EdgePopup(Small(), density=0.3, schedule=CubicRamp(5), bias="learned", norm="learned")
    second = adam(resumed.parameters())
    resumed.load_state_dict(state[0])
    second.load_state_dict(state[1])
    assert resumed.steps == 2
    assert train(resumed, 3, optimizer=second) == expected
    assert equal(resumed.model.state_dict(), whole.model.state_dict())
    assert equal(read_weights(resumed), read_weights(whole))


def test_the_models_state_alone_is_enough_to_run():
    search = EdgePopup(Small(), density=0.3, seed=4, norm="learned")
    train(search, 3)
    fresh = EdgePopup(Small(), density=0.3, seed=4, norm="learned")
    assert not equal(fresh.masks(), search.masks())
    fresh.model.load_state_dict(search.model.state_dict())
    assert equal(fresh.masks(), search.masks())
    assert torch.equal(fresh.model.eval()(INPUTS), search.model.eval()(INPUTS))


def test_a_search_leaves_the_global_random_numbers_alone():
    model = Small()
    before = torch.get_rng_state()
    search = EdgePopup(model, density=0.5, weights="kaiming_normal", bias="frozen")
    train(search)
    search.ticket()
    assert torch.equal(torch.get_rng_state(), before)


# ---- precision and compilation


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_is_searched_in_it(dtype):
    inputs = images(2, 5, 5, dtype=dtype)
    search = EdgePopup(Small().to(dtype), density=0.4)
    masks = search.masks()
    train(search, 3, inputs=inputs)
    assert {tensor.dtype for tensor in [*search.scores().values(), *search.frozen_weights().values()]} == {dtype}
    assert not equal(search.masks(), masks)
    network = search.ticket().apply(Small().to(dtype)).eval()
    assert torch.equal(network(inputs), search.model.eval()(inputs))


def test_autocast_trains_float32_scores():
    search = EdgePopup(Small(), density=0.4)
    masks = search.masks()
    optimizer = sgd(search.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = search.model(INPUTS)
            assert logits.dtype is torch.bfloat16
            loss = nn.functional.cross_entropy(logits, LABELS)
        loss.backward()
        optimizer.step()
        search.step()
    assert {scores.grad.dtype for scores in search.scores().values()} == {torch.float32}
    assert not equal(search.masks(), masks)


def test_a_compiled_model_is_searched_alike():
    eager, other = EdgePopup(Small(), density=0.4), EdgePopup(Small(), density=0.4)
    compiled = torch.compile(other.model, backend="eager", fullgraph=True)
    assert train(eager, 4) == train(other, 4, network=compiled)
    assert equal(eager.masks(), other.masks())
    with torch.no_grad():
        assert torch.equal(compiled(INPUTS), eager.model(INPUTS))


def test_the_network_of_a_ticket_can_be_exported():
    search = EdgePopup(Small(), density=0.4)
    train(search)
    network = search.ticket().apply(Small()).eval()
    assert {type(module) for module in network.modules()} == {Small, nn.Conv2d, nn.BatchNorm2d, nn.Linear}
    exported = torch.export.export(network, (INPUTS,))
    assert equal(exported.state_dict, network.state_dict())
    for name, mask in search.masks().items():
        assert not exported.state_dict[name][~mask].any()
    assert torch.equal(exported.module()(INPUTS), search.model.eval()(INPUTS))


# ---- from the search to the file and back

slow = pytest.mark.slow
NETWORKS = {
    "lenet_300_100": (lambda: models.build("lenet_300_100"), images(1, 28, 28)),
    "conv4": (lambda: models.build("conv4"), images(3, 32, 32)),
    "resnet20": (lambda: models.build("resnet20"), images(3, 32, 32)),
    "resnet18": (lambda: models.build("torchvision:resnet18"), images(3, 64, 64)),
    "mobilenet_v3_small": (lambda: models.build("torchvision:mobilenet_v3_small"), images(3, 64, 64)),
    "vit_b_16": (lambda: models.build("torchvision:vit_b_16"), images(3, 224, 224)),
    "text": (Text, words()),
    "transformer": (Transformer, words()),
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, {}, marks=slow if name == "vit_b_16" else ()) for name in NETWORKS),
        ("resnet20", {"norm": "learned", "bias": "learned"}),
        ("resnet20", {"norm": "none", "bias": "frozen"}),
        ("resnet20", {"norm": "frozen", "dense": ("fc.*",)}),
        ("text", {"include": ("*bias*",)}),
        ("transformer", {"norm": "learned", "bias": "frozen", "learned": ("position",)}),
        ("transformer", {"score": "signed", "dense": ("embed.weight",), "own_density": {"output.*": 1.0}}),
    ],
)
def test_a_saved_ticket_gives_the_logits_of_the_search(name, options, tmp_path):
    make, inputs = NETWORKS[name]
    search = EdgePopup(make(), density=0.3, seed=9, scope="erk", **options)
    train(search, inputs=inputs, optimizer=torch.optim.SGD(search.parameters(), lr=0.01, momentum=0.9))
    search.ticket(model=name).save(tmp_path / "a.ticket")
    network = Ticket.load(tmp_path / "a.ticket").apply(make())
    with torch.no_grad():
        expected = search.model.eval()(inputs)
        assert bool(expected.isfinite().all())
        assert torch.equal(network.eval()(inputs), expected)


def test_a_model_with_an_infinite_buffer_has_a_ticket_until_it_diverges():
    search = EdgePopup(Transformer(), density=0.5, bias="learned")
    assert torch.equal(search.ticket().learned["future"], Transformer().future)
    with torch.no_grad():
        search.model.output.bias[0] = math.inf
    with pytest.raises(SupermaskError, match=r"output\.bias holds NaN or infinity; the training diverged"):
        search.ticket()


def test_a_normalisation_that_is_used_under_two_names_is_bypassed_under_both():
    def make():
        model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        return model.append(model[1])

    search = EdgePopup(make(), density=0.5, norm="none")
    inputs = torch.randn(3, 4)
    assert torch.equal(search.ticket().apply(make())(inputs), search.model(inputs))


def test_a_refused_budget_leaves_nothing_attached():
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1))
    with pytest.raises(SupermaskError, match="leaves none in"):
        EdgePopup(model, density=0.0001, scope="global")
    EdgePopup(model, density=0.5)


def test_a_state_of_other_random_weights_is_refused():
    one, other = (EdgePopup(nn.Linear(8, 8), density=0.5, seed=seed) for seed in (0, 1))
    with pytest.raises(SupermaskError, match="over other frozen weights"):
        one.load_state_dict(other.state_dict())


def test_normalisation_that_a_fast_path_reads_cannot_be_bypassed():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(SupermaskError, match="cannot go without its normalisation"):
        EdgePopup(model, density=0.5, norm="none")
    EdgePopup(model, density=0.5)


def test_a_bypassed_layer_cannot_be_claimed():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    with pytest.raises(SupermaskError, match="matches no parameter"):
        EdgePopup(model, density=0.5, norm="none", include=("1.weight",))


def test_a_step_of_a_schedule_is_refused_in_a_cuda_graph(monkeypatch):
    """A replay would keep the number of weights that was kept when it was captured."""
    search = EdgePopup(nn.Linear(20, 10), density=0.1, schedule=CubicRamp(3))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(SupermaskError, match=r"capture it once search\.complete is True"):
        search.step()
    assert search.steps == 0
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for _ in range(3):
        search.step()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    search.step()
    assert search.complete


@pytest.mark.parametrize("scope", ["layer", "erk", "global"])
def test_layers_that_a_density_empties_are_named(scope):
    network = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 2), nn.Linear(2, 1))
    if scope == "global":
        EdgePopup(network, density=0.2, scope=Global(floor=1))
        return
    with pytest.warns(UserWarning, match=r"density=0.01 keeps no weight of (1.weight|2.weight) \(.*own_density="):
        EdgePopup(network, density=0.01, scope=scope)


def test_a_layer_that_is_to_be_empty_is_no_mistake():
    network = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 2))
    assert not EdgePopup(network, density=0.5, own_density={"1.weight": 0.0}).masks()["1.weight"].any()
    assert not EdgePopup(nn.Linear(3, 2), density=0.0).masks()["weight"].any()


# ---- programs made of the model


@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda model: torch.jit.trace(model, INPUTS)], ids=["script", "trace"]
)
@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"packed": True}])
@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_torchscript_of_a_search_is_refused_in_a_sentence_and_that_of_its_ticket_is_right(make, options):
    search = EdgePopup(Small(), density=0.5, **options)
    with pytest.raises(SupermaskError, match=r"TorchScript cannot hold a search.*search\.ticket\(\)\.apply\(model\)"):
        make(search.model)
    search.model(INPUTS)  # as before
    for network in (search.ticket().apply(Small()).eval(), search.baked().eval()):
        assert torch.equal(make(network)(INPUTS), search.model.eval()(INPUTS))


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_a_trace_without_gradients_is_of_the_present_masks():
    search = EdgePopup(Small(), density=0.5)
    search.model.eval()
    with torch.no_grad():
        traced = torch.jit.trace(search.model, INPUTS)
    assert torch.equal(traced(INPUTS), search.model(INPUTS))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("options", [{}, {"scope": "global"}])
def test_an_exported_search_computes_with_the_masks_of_its_export(strict, options):
    search = EdgePopup(Small(), density=0.5, **options)
    search.model.eval()
    program = torch.export.export(search.model, (INPUTS,), strict=strict).module()
    assert torch.equal(program(INPUTS), search.model(INPUTS))
