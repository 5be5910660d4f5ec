"""A ticket is a seed and a mask: it is applied bit for bit, only to the network it was made from, and pruned weights
stay zero through whatever comes after."""

import dataclasses
import math
import os
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

import supermask
from supermask import EdgePopup, Ticket
from supermask import files as supermask_files
from supermask.errors import SupermaskError, TicketError
from supermask.random.distributions import Fans, SignedConstant
from supermask.random.transform import Treatment
from supermask.random.weights import RandomWeight, digest, grow_all


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def searched(model=None, *, inputs=(6,), **options):
    """Return a search whose statistics and learned tensors are no longer those of a fresh model."""
    model = model or network()
    search = EdgePopup(model, **{"density": 0.4, "bias": "learned", "norm": "learned", **options})
    optimizer = torch.optim.SGD(search.parameters(), lr=0.5)
    for step in range(2):
        optimizer.zero_grad()
        model(noise(8, *inputs, seed=step)).square().mean().backward()
        optimizer.step()
        search.step()
    return search


def lenet():
    return supermask.models.build("lenet_300_100", input_shape=(1, 8, 8))


def state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_pruned_is_zero(network, masks):
    """Every pruned weight, as the modules read it, is +0, and something is pruned."""
    assert masks
    for name, mask in masks.items():
        module, _, leaf = name.rpartition(".")
        weight = getattr(network.get_submodule(module), leaf).detach()
        pruned = weight[~mask]
        assert pruned.numel()
        assert not pruned.any()
        assert not pruned.signbit().any()


# ---- save, load, apply


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (network, (6,)),
        (lenet, (1, 8, 8)),
        (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)), (2, 6, 6)),
    ],
    ids=["batch norm", "lenet_300_100", "convolution"],
)
@pytest.mark.parametrize("options", [{}, {"bias": "none", "norm": "affine_off"}, {"norm": "none", "bias": "frozen"}])
def test_a_saved_ticket_gives_the_logits_of_the_search_bit_for_bit(tmp_path, make, inputs, options):
    search = searched(make(), inputs=inputs, **options)
    search.ticket().save(tmp_path / "a.ticket")
    applied = Ticket.load(tmp_path / "a.ticket").apply(make()).eval()
    x = noise(16, *inputs, seed=9)
    assert torch.equal(applied(x), search.model.eval()(x))
    assert_pruned_is_zero(applied, search.masks())


def test_statistics_and_learned_tensors_are_those_of_the_search(tmp_path):
    search = searched()
    search.ticket().save(tmp_path / "a.ticket")
    applied, fresh = Ticket.load(tmp_path / "a.ticket").apply(network()).state_dict(), network().state_dict()
    learned = {name: tensor for name, tensor in search.model.state_dict().items() if "parametrizations" not in name}
    assert {"0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"} < set(learned)
    assert equal({name: applied[name] for name in learned}, learned)
    # so that the test could fail
    assert all(not torch.equal(learned[name], fresh[name]) for name in learned)


def test_nothing_of_the_model_before_remains():
    ticket = searched().ticket()
    one, other = network(), network()
    for tensor in other.state_dict().values():
        tensor.fill_(3)
    assert equal(ticket.apply(one).state_dict(), ticket.apply(other).state_dict())


def test_applying_twice_changes_nothing():
    for norm in ("learned", "none"):
        ticket = searched(norm=norm).ticket()
        once = state(ticket.apply(model := network()))
        assert equal(state(ticket.apply(model)), once)


def test_an_applied_model_is_the_same_plain_module():
    model = network()
    parameters = list(model.parameters())
    applied = searched().ticket().apply(model)
    assert applied is model
    assert all(one is other for one, other in zip(applied.parameters(), parameters, strict=True))
    assert not any(parametrize.is_parametrized(module) for module in applied.modules())
    assert all(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_model_keeps_its_type(dtype, held):
    ticket = searched().ticket()
    applied = ticket.apply(network().to(dtype), held=held)
    assert {tensor.dtype for tensor in applied.parameters()} == {dtype}
    assert_pruned_is_zero(applied, ticket.masks)
    grown = ticket.random_weights()["0.weight"]
    kept = ticket.masks["0.weight"]
    assert torch.equal(applied[0].weight.detach()[kept], grown[kept].to(dtype))
    assert applied.eval()(noise(4, 6).to(dtype)).dtype is dtype


def test_the_training_mode_of_a_model_is_left_as_it_was():
    ticket = searched().ticket()
    assert ticket.apply(network()).training
    assert not ticket.apply(network().eval()).training


def test_bypassed_layers_become_the_identity():
    applied = searched(norm="none").ticket().apply(network())
    assert isinstance(applied[1], nn.Identity)


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_kept_over_prunable_is_the_density(density):
    ticket = EdgePopup(network(), density=density).ticket()
    assert (ticket.prunable, ticket.kept) == (45, {0.0: 0, 0.4: 18, 1.0: 45}[density])
    assert ticket.density == density


def test_a_ticket_without_masks_has_density_zero():
    ticket = Ticket(seed=0, weights={}, masks={}, digest=digest({}))
    assert (ticket.prunable, ticket.kept, ticket.density) == (0, 0, 0.0)
    ticket.apply(nn.ReLU())


def test_random_weights_are_those_the_search_froze():
    search = searched()
    grown = search.ticket().random_weights()
    assert all(torch.equal(grown[name], frozen) for name, frozen in search.frozen_weights().items())


@pytest.mark.parametrize("treated", [False, True])
def test_random_weights_at_hand_are_not_grown_again(monkeypatch, treated):
    ticket = searched().ticket()
    if treated:
        ticket = dataclasses.replace(ticket, treatments={"0.weight": Treatment(gain=2.0, reshuffled=True)})
    grown, expected = ticket.random_weights(), state(ticket.apply(network()))
    kept = {name: tensor.clone() for name, tensor in grown.items()}
    monkeypatch.setattr(RandomWeight, "grow", lambda *_, **__: pytest.fail("grown again"))
    assert equal(state(ticket.apply(network(), grown=grown)), expected)
    assert equal(grown, kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda grown: grown["0.weight"].view(torch.int32)[0, 0].bitwise_xor_(1),
        lambda grown: grown.update({"0.weight": grown["0.weight"].double()}),
        lambda grown: grown.pop("0.weight"),
    ],
    ids=["one bit", "float64", "missing"],
)
def test_random_weights_that_are_not_the_tickets_are_refused_and_the_model_untouched(change):
    ticket, model = searched().ticket(), network()
    grown, before = ticket.random_weights(), state(model)
    change(grown)
    with pytest.raises(TicketError, match="weights given are not those of the ticket; give those that its seed grows"):
        ticket.apply(model, grown=grown)
    assert equal(state(model), before)


# ---- a ticket of another machine or another architecture


def test_a_ticket_whose_weights_regrow_otherwise_is_refused_and_the_model_untouched():
    ticket = dataclasses.replace(searched().ticket(), digest="0" * 64, provenance={"versions": "numpy 9"})
    model = network()
    before = state(model)
    with pytest.raises(TicketError, match=r"regrown from the seed are not those of the ticket.*\(numpy 9\)"):
        ticket.apply(model)
    assert equal(state(model), before)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"scale": 2.0}, {"distribution": SignedConstant(gain=1.0)}, {"fans": Fans(1, 1)}], ids=str
)
def test_the_digest_finds_out_any_change_of_the_random_weights(change):
    ticket = searched().ticket()
    if "seed" in change:
        ticket = dataclasses.replace(ticket, **change)
    else:
        weights = {**ticket.weights, "0.weight": dataclasses.replace(ticket.weights["0.weight"], **change)}
        ticket = dataclasses.replace(ticket, weights=weights)
    with pytest.raises(TicketError, match="are not those of the ticket"):
        ticket.random_weights()


OTHERS = {
    "wider": (
        lambda: nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)),
        ["(7, 6)", "(5, 6)"],
    ),
    "other classes": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)),
        ["its 3.weight has shape (4, 5), not (3, 5)", "its 3.bias has shape (4,), not (3,)"],
    ),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False)),
        ["it lacks 3.bias"],
    ),
    "no statistics": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.ReLU(), nn.Linear(5, 3)
        ),
        ["it lacks 1.running_mean", "it lacks 1.running_var"],
    ),
    "no affine": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(), nn.Linear(5, 3)),
        ["it lacks 1.weight", "it lacks 1.bias"],
    ),
    "deeper": (lambda: nn.Sequential(*network(), nn.Linear(3, 3)), ["its 4.weight is unknown to the ticket", "4.bias"]),
    "one more normalisation": (
        lambda: nn.Sequential(*network(), nn.BatchNorm1d(3, affine=False)),
        ["its 4.running_mean is unknown to the ticket"],
    ),
    "empty": (lambda: nn.Sequential(), ["it lacks 0.weight", "more)"]),
    "other names": (
        lambda: nn.Sequential(nn.Sequential(network())),
        ["it lacks 0.weight", "more)"],
    ),
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("other", OTHERS)
def test_another_architecture_is_refused_by_the_difference_and_untouched(other, held):
    make, differences = OTHERS[other]
    model = make()
    before = state(model)
    with pytest.raises(TicketError, match="The model is of another architecture than the ticket") as caught:
        searched().ticket(model="tiny").apply(model, held=held)
    assert all(difference in str(caught.value) for difference in differences)
    assert str(caught.value).endswith("build the one it was made from (tiny).")
    assert equal(state(model), before)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Linear(5, 5)], ids=["activation", "linear"])
def test_a_layer_is_bypassed_only_if_it_normalises(layer):
    ticket = searched(norm="none").ticket()
    model = nn.Sequential(nn.Linear(6, 5), layer, nn.ReLU(), nn.Linear(5, 3))
    before = state(model)
    with pytest.raises(TicketError, match="its 1 is no normalisation layer to bypass"):
        ticket.apply(model)
    assert model[1] is layer
    assert equal(state(model), before)


def test_a_layer_to_bypass_that_is_not_there_is_named():
    bypassing = searched(norm="none").ticket()
    ticket = dataclasses.replace(bypassing, bypassed=("body.norm",))
    with pytest.raises(TicketError, match=r"its body.norm is no normalisation layer"):
        ticket.apply(nn.Sequential(nn.Linear(6, 5), nn.Identity(), nn.ReLU(), nn.Linear(5, 3)))


def test_buffers_that_a_model_does_not_save_are_its_own():
    class Positions(nn.Sequential):
        def __init__(self):
            super().__init__(*network())
            self.register_buffer("positions", torch.arange(6.0), persistent=False)

    applied = searched().ticket().apply(Positions())
    assert torch.equal(applied.positions, torch.arange(6.0))


# ---- tickets that cannot exist


def weight(*shape):
    return RandomWeight(shape, SignedConstant(), Fans(3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"seed": True}, "seed=True is out of range"),
        ({"seed": 0.0}, "seed=0.0 is out of range"),
        ({"masks": {"x": torch.ones(4, 3, dtype=torch.bool)}}, "mask of x has no random weight"),
        ({"masks": {"w": torch.ones(4, 3)}}, r"mask of w is torch.float32; a mask is a bool tensor"),
        ({"masks": {"w": torch.full((4, 3), 2, dtype=torch.uint8)}}, r"mask of w is torch.uint8"),
        ({"masks": {"w": torch.ones(3, 4, dtype=torch.bool)}}, r"shape \(3, 4\); its weight has \(4, 3\)"),
        ({"masks": {"w": torch.ones(12, dtype=torch.bool)}}, r"shape \(12,\); its weight has \(4, 3\)"),
        ({"learned": {"w": torch.ones(4, 3)}}, "w is both random and stored"),
        ({"constants": {"w": 0.0}}, "w is both random and stored"),
        ({"constants": {"b": 0.0}, "learned": {"b": torch.zeros(3)}}, "b is both constant and learned"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, message):
    parts = {"seed": 0, "weights": {"w": weight(4, 3)}, "masks": {"w": torch.ones(4, 3, dtype=torch.bool)}}
    with pytest.raises(SupermaskError, match=message):
        Ticket(**{**parts, "digest": "0" * 64, **change})


def test_a_ticket_cannot_be_changed():
    masks = {"w": torch.ones(4, 3, dtype=torch.bool)}
    ticket = Ticket(seed=0, weights={"w": weight(4, 3)}, masks=masks, digest="0" * 64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ticket.seed = 1
    with pytest.raises(TypeError):
        ticket.masks["w"] = torch.zeros(4, 3, dtype=torch.bool)
    masks.clear()
    assert list(ticket.masks) == ["w"]


def test_a_search_that_goes_on_leaves_its_ticket_alone():
    search = searched()
    ticket = search.ticket()
    before = deepcopy([dict(ticket.masks), dict(ticket.learned)])
    with torch.no_grad():
        for parameter in search.parameters():
            parameter.copy_(noise(*parameter.shape, seed=5))
    search.step()
    search.model(noise(8, 6))
    assert equal(before[0], ticket.masks)
    assert equal(before[1], ticket.learned)
    assert not equal(search.masks(), ticket.masks)


def test_a_state_loaded_into_a_held_network_leaves_the_ticket_alone():
    ticket = EdgePopup(network(), density=0.4).ticket()
    whole = EdgePopup(network(), density=1.0).ticket().apply(network(), held=True)
    before = {name: mask.clone() for name, mask in ticket.masks.items()}
    ticket.apply(network(), held=True).load_state_dict(whole.state_dict())
    assert equal(before, ticket.masks)


def test_the_prunable_weights_need_not_be_all_weights():
    weights = {"weight": weight(3, 4), "bias": weight(3)}
    mask = torch.arange(12).reshape(3, 4) < 4
    ticket = Ticket(seed=0, weights=weights, masks={"weight": mask}, digest=digest(grow_all(weights, 0)))
    applied = ticket.apply(nn.Linear(4, 3))
    assert (ticket.prunable, ticket.kept) == (12, 4)
    assert torch.equal(applied.bias.detach(), weights["bias"].grow(0, "bias"))


# ---- saving


@pytest.mark.parametrize("stage", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_a_save_that_fails_leaves_the_old_ticket_whole(tmp_path, monkeypatch, stage, error):
    path = tmp_path / "a.ticket"
    old = searched().ticket()
    old.save(path)
    written = path.read_bytes()

    def fail(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(supermask_files, "os", SimpleNamespace(**{**vars(os), stage: fail}))
        with pytest.raises((SupermaskError, KeyboardInterrupt)):
            searched(seed=1).ticket().save(path)
    assert os.listdir(tmp_path) == ["a.ticket"]
    assert path.read_bytes() == written
    assert equal(Ticket.load(path).masks, old.masks)


@pytest.mark.parametrize("where", ["missing/a.ticket", "file/a.ticket", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path, where):
    (tmp_path / "file").write_text("in place of a folder")
    with pytest.raises(SupermaskError, match=r"Cannot write .*; give a folder that can be written"):
        searched().ticket().save(tmp_path / where)
    assert os.listdir(tmp_path) == ["file"]


# ---- pruned weights stay zero

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


def train(model, optimizer, inputs=(6,), after_step=lambda: None):
    for step in range(5):
        optimizer.zero_grad()
        model(noise(8, *inputs, seed=step)).square().mean().backward()
        optimizer.step()
        after_step()


def plain(model):
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    assert not any("parametrizations" in name for name in model.state_dict())
    return model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_held_network_stays_pruned_while_it_is_trained(optimizer):
    ticket = searched().ticket()
    model = ticket.apply(network(), held=True)
    before = model[0].weight.detach().clone()
    train(model, OPTIMIZERS[optimizer](model.parameters()))
    assert_pruned_is_zero(model, ticket.masks)
    kept = ticket.masks["0.weight"]
    assert (model[0].weight.detach() != before)[kept].any()
    read = {name: model.get_submodule(name[:-7]).weight.detach().clone() for name in ticket.masks}
    assert_pruned_is_zero(plain(model), ticket.masks)
    assert all(torch.equal(dict(model.named_parameters())[name].detach(), weight) for name, weight in read.items())


def test_a_held_network_stays_pruned_whatever_is_written_into_it():
    ticket = searched().ticket()
    model = ticket.apply(network(), held=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-1.0)
    assert_pruned_is_zero(model, ticket.masks)
    assert_pruned_is_zero(plain(model), ticket.masks)


@pytest.mark.parametrize("average", [None, torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)], ids=["mean", "ema"])
def test_the_average_of_held_networks_is_pruned(average):
    ticket = searched().ticket()
    model = ticket.apply(network(), held=True)
    averaged = AveragedModel(model, multi_avg_fn=average)
    train(model, OPTIMIZERS["SGD"](model.parameters()), after_step=lambda: averaged.update_parameters(model))
    assert not torch.equal(averaged.module[0].weight, model[0].weight)
    assert_pruned_is_zero(averaged.module, ticket.masks)
    assert_pruned_is_zero(plain(averaged.module), ticket.masks)


def test_a_held_copy_stays_pruned():
    ticket = searched().ticket()
    model = deepcopy(ticket.apply(network(), held=True))
    train(model, OPTIMIZERS["Adam"](model.parameters()))
    assert_pruned_is_zero(model, ticket.masks)


def test_held_or_not_the_network_is_the_same():
    ticket = searched().ticket()
    x = noise(8, 6)
    assert torch.equal(ticket.apply(network(), held=True).eval()(x), ticket.apply(network()).eval()(x))


@pytest.mark.parametrize("held", [False, True])
def test_an_exported_network_keeps_its_zeros(held):
    ticket = searched().ticket()
    model = ticket.apply(network(), held=held).eval()
    x = noise(2, 6)
    exported = torch.export.export(model, (x,))
    assert torch.equal(exported.module()(x), model(x))
    weights = {name: tensor for name, tensor in exported.state_dict.items() if "weight" in name}
    for name, mask in ticket.masks.items():
        stored = weights[name.replace("weight", "parametrizations.weight.original") if held else name]
        assert not stored.detach()[~mask].any()


def test_the_kept_weights_have_the_size_that_the_density_asks_for():
    ticket = EdgePopup(network(), density=0.4).ticket()
    kept = ticket.apply(network())[0].weight.detach()[ticket.masks["0.weight"]]
    assert kept.abs().tolist() == pytest.approx([math.sqrt(2 / 6 / 0.4)] * len(kept), rel=1e-6)


def test_a_ticket_is_shown_in_one_line():
    search = EdgePopup(supermask.models.build("lenet_300_100"), density=0.3)
    assert repr(search) == "EdgePopup(266,200 weights in 3 layers, 410 constant, density=0.3, 0 steps)"
    assert repr(search.ticket()) == "Ticket(seed=0, 79,860 of 266,200 weights kept, edge_popup)"
