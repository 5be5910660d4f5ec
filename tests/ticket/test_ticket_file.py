"""The file of a ticket is small, holds all of it, and is the same bytes for the same ticket."""

import dataclasses
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tickets import identical, same, tiny, treated
from torch import nn

import supermask
from supermask.errors import TicketError
from supermask.random.transform import Preset, Treatment
from supermask.ticket import Ticket, side_information
from supermask.ticket import ticket as ticket_module
from supermask.ticket.file import Contents, decode, encode, sizes

SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)


# ---- round trips


def test_a_ticket_is_read_back_bit_for_bit(tmp_path):
    tiny().save(tmp_path / "a")
    assert same(Ticket.load(str(tmp_path / "a")), tiny())


def test_the_same_ticket_is_the_same_bytes(tmp_path, sound):
    path = tmp_path / "again"
    tiny().save(path)
    Ticket.load(path).save(path)
    assert path.read_bytes() == sound
    assert tiny().size == len(sound)


def test_the_bytes_of_a_ticket_are_those_of_its_file(sound):
    assert tiny().to_bytes() == sound
    assert same(Ticket.from_bytes(sound), tiny())
    assert Ticket.from_bytes(sound).to_bytes() == sound
    with pytest.raises(TicketError, match=r"^it is cut short"):
        Ticket.from_bytes(sound[:-1])


def counted_calls(monkeypatch, module, name):
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments: (calls.append(arguments), function(*arguments))[1])
    return calls


def test_a_ticket_is_encoded_once(tmp_path, monkeypatch):
    calls = counted_calls(monkeypatch, ticket_module, "encode")
    ticket = tiny()
    ticket.save(tmp_path / "a")
    assert ticket.size == len(ticket.to_bytes()) == (tmp_path / "a").stat().st_size
    assert len(calls) == 1


def test_what_the_seed_says_of_a_layer_is_made_once(monkeypatch):
    calls = counted_calls(monkeypatch, side_information, "make_side_information")
    ticket = supermask.EdgePopup(supermask.models.build("lenet_300_100", input_shape=(1, 8, 8)), density=0.3).ticket()
    # factors of two values, so that the code of each layer is two masks
    signs = {name: torch.arange(mask.numel()).reshape(mask.shape) % 2 * 2 - 1 for name, mask in ticket.masks.items()}
    factors = {name: (mask * signs[name]).to(torch.int8) for name, mask in ticket.masks.items()}
    treatments = {name: Treatment(factors=each) for name, each in factors.items()}
    dataclasses.replace(ticket, treatments=treatments).to_bytes()
    assert len(calls) == len(ticket.masks) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda ticket: ticket.masks["v"].numpy().fill(False),  # which torch does not see
        lambda ticket: ticket.masks["v"].logical_not_(),
        lambda ticket: ticket.learned["b"].add_(1),
        lambda ticket: ticket.treatments["w"].factors.neg_(),
        lambda ticket: ticket.treatments["w"].redraws.mul_(2),
        lambda ticket: ticket.provenance["notes"].append("more"),
    ],
)
def test_bytes_are_made_again_after_something_was_written_into_the_ticket(write):
    ticket = treated(learned={"b": torch.ones(2)}, provenance={"notes": []}, preset=None)
    before = ticket.to_bytes()
    write(ticket)
    assert ticket.to_bytes() != before
    assert ticket.to_bytes() == dataclasses.replace(ticket, masks={**ticket.masks}).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"masks": {"w": torch.ones(5, 3, dtype=torch.bool)}},
        {"digest": "0" * 64},
        {"learned": {}},
        {"constants": {"c": -1.0}},
        {"bypassed": ()},
        {"provenance": {}},
    ],
    ids=str,
)
def test_another_ticket_is_other_bytes(change, sound):
    assert tiny(**change).to_bytes() != sound


@settings(max_examples=100, deadline=None)
@given(st.lists(SHAPES, max_size=4), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 99))
def test_masks_of_any_shape_and_density_are_read_back(shapes, density, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {f"layer{i}.weight": torch.rand(shape, generator=generator) < density for i, shape in enumerate(shapes)}
    data = encode(Contents({}, masks, {}))
    assert data == encode(Contents({}, masks, {}))
    read = decode(data).masks
    assert list(read) == list(masks)
    assert all(identical(read[name], mask) for name, mask in masks.items())


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(SHAPES, st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])),
        max_size=4,
    )
)
def test_stored_tensors_of_any_name_shape_and_type_are_read_back(kinds):
    learned = {name: torch.arange(math.prod(shape)).reshape(shape).to(dtype) for name, (shape, dtype) in kinds.items()}
    read = decode(encode(Contents({}, {"w": torch.ones(3, dtype=torch.bool)}, learned))).learned
    assert read.keys() == learned.keys()
    assert all(identical(read[name], tensor) for name, tensor in learned.items())


def test_tensors_that_are_views_or_share_memory_are_read_back():
    table = torch.arange(6.0).reshape(2, 3)
    learned = {"a": table, "b": table, "c": table.T, "d": table[:, 1], "e": nn.Parameter(table)}
    mask = (table > 2).T
    read = decode(encode(Contents({}, {"w": mask}, learned)))
    assert torch.equal(read.masks["w"], mask)
    assert all(torch.equal(read.learned[name], tensor) for name, tensor in learned.items())


@pytest.mark.parametrize("name", ["mask bits", "masks", "format", "sha256"])
def test_a_stored_tensor_may_have_any_name_a_module_allows(tmp_path, name):
    nn.Module().register_buffer(name, torch.ones(2))
    tiny(learned={name: torch.ones(2)}).save(tmp_path / "a")
    assert torch.equal(Ticket.load(tmp_path / "a").learned[name], torch.ones(2))


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {"loss": math.nan}},
        {"provenance": {"loss": math.inf}},
        {"provenance": {"folder": Path("runs")}},
        {"provenance": {"loss": torch.tensor(1.0)}},
        {"constants": {"c": math.inf}},
    ],
    ids=str,
)
def test_what_is_not_a_plain_value_is_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(TicketError, match="not a plain, finite value"):
        tiny(**change).save(tmp_path / "a")
    assert os.listdir(tmp_path) == []


# ---- size


@pytest.mark.parametrize(
    ("name", "prunable", "density"),
    [*(("lenet_300_100", 266_200, density) for density in (0.0, 0.01, 0.5, 1.0)), ("conv4", 2_425_024, 0.3)],
)
def test_a_ticket_takes_the_entropy_of_its_masks_and_a_small_header(tmp_path, name, prunable, density):
    ticket = random_ticket(name, density)
    ticket.save(tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    found = sizes((tmp_path / "a").read_bytes())
    assert ticket.prunable == prunable
    assert size == ticket.size == found.total
    bound = sum(layer.bound for layer in found.layers.values())
    assert size <= 1.02 * bound + 400
    for layer in found.layers.values():
        assert layer.mask <= 1.02 * layer.bound + 10


def random_ticket(name, density):
    """Return a ticket whose masks are drawn, so that nothing but their density is known of them."""
    found = supermask.EdgePopup(supermask.models.build(name), density=0.5).ticket(model=name)
    generator = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(mask.shape, generator=generator) < density for name, mask in found.masks.items()}
    return dataclasses.replace(found, masks=masks)


def test_the_bytes_of_a_file_are_all_accounted_for(sound):
    for data in (sound, tiny(learned={}).to_bytes(), treated().to_bytes()):
        found = sizes(data)
        layers = sum(layer.mask + layer.treatment for layer in found.layers.values())
        assert found.prefix + found.header + layers + found.learned == found.total == len(data)
    assert sizes(tiny(learned={}).to_bytes()).learned == 0
    assert list(sizes(sound).layers) == ["w"]
    assert sizes(treated().to_bytes()).layers["w"].treatment > 0


def test_many_small_tensors_share_their_header():
    learned = {f"layer{i}.bn.{part}": torch.ones(8) for i in range(50) for part in ("weight", "bias")}
    assert sizes(encode(Contents({}, {}, learned))).learned < 100 * 20


def test_the_first_scores_of_a_search_need_not_be_said_again():
    search = supermask.EdgePopup(supermask.models.build("lenet_300_100"), density=0.3)
    found = sizes(search.ticket().to_bytes())
    assert all(layer.mask < 0.4 * layer.bound for layer in found.layers.values())


# ---- what is done to weights, and what the seed fixes


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.one_of(st.none(), st.tuples(st.integers(0, 40), st.integers(0, 37))),
)
def test_treatments_and_presets_are_read_back(seed, density, preset):
    ticket = treated(seed, density, preset and Preset(*preset))
    data = ticket.to_bytes()
    read = Ticket.from_bytes(data)
    assert same(read, ticket)
    assert read.to_bytes() == data
    assert dict(read.presets) == dict(ticket.presets)
    for name, treatment in ticket.treatments.items():
        other = read.treatments[name]
        assert (other.gain, other.reshuffled) == (treatment.gain, treatment.reshuffled)
        for one, two in ((other.factors, treatment.factors), (other.redraws, treatment.redraws)):
            assert one is two is None or identical(one, two)


def test_what_the_seed_fixes_of_a_mask_is_not_stored():
    whole, preset = treated(preset=None), Preset(40, 30)
    some = sizes(treated(preset=preset, treatments={}).to_bytes()).layers["w"]
    assert some.mask <= 5
    assert sizes(whole.to_bytes()).layers["w"].mask > 9


# ---- no pickle


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("pickle")

    for module, name in [(pickle, "dumps"), (pickle, "dump"), (pickle, "loads"), (pickle, "load"), (torch, "save")]:
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    tiny().save(tmp_path / "a")
    assert same(Ticket.load(tmp_path / "a"), tiny())
