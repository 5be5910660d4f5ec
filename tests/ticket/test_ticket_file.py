"""The file of a ticket is small, the same bytes for the same ticket, and refused when a single byte is not right."""

import contextlib
import dataclasses
import io
import json
import math
import os
import pickle
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import supermask
from supermask.errors import SupermaskError, TicketError
from supermask.random.distributions import Fans, SignedConstant
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket, side_information
from supermask.ticket import container as ticket_container
from supermask.ticket import ticket as ticket_module
from supermask.ticket.coding import encode_mask, encode_symbols
from supermask.ticket.container import FORMAT, Sections, seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated
from supermask.ticket.file import Contents, decode, encode, sizes

PRESET = Preset(20, 15)
SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)


def tiny(**changes):
    """Return a ticket with one of everything, in about a thousand bytes."""
    weights = {
        "w": RandomWeight((5, 3), SignedConstant(), Fans(3, 5), 0.5**-0.5),
        "v": RandomWeight((3,), SignedConstant(), Fans(3, 5)),
    }
    parts = {
        "seed": 1,
        "weights": weights,
        "masks": {"w": torch.arange(15).reshape(5, 3) % 2 == 0},
        "digest": digest(grow_all(weights, 1)),
        "learned": {"b": torch.tensor([1.0, -0.0, 3e-45]), "steps": torch.tensor(7)},
        "constants": {"c": 1.0},
        "bypassed": ("norm",),
        "provenance": {"model": "tiny", "größe": [1, 2.5, None]},
    }
    return Ticket(**{**parts, **changes})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a file that is in order."""
    path = tmp_path_factory.mktemp("sound") / "tiny.ticket"
    tiny().save(path)
    return path.read_bytes()


@pytest.fixture
def refusal(tmp_path):
    """Return the reason for which a file of some bytes is refused; any other error but a TicketError escapes."""
    path = tmp_path / "some.ticket"

    def reason(data):
        path.write_bytes(data)
        return refused(path)

    return reason


def refused(path):
    with pytest.raises(TicketError) as caught:
        Ticket.load(path)
    name, _, reason = str(caught.value).partition(": ")
    assert name in (f"{path} is not a sound ticket", f"Cannot read the ticket {path}")
    assert reason.endswith(".")
    assert ". " not in reason  # one sentence
    assert "\n" not in reason
    return reason


def same(one, other):
    """Whether two tickets hold the same, bit for bit."""
    plain = ("seed", "weights", "digest", "constants", "bypassed", "provenance")
    return all(getattr(one, name) == getattr(other, name) for name in plain) and all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(identical(tensor, getattr(other, part)[name]) for name, tensor in getattr(one, part).items())
        for part in ("masks", "learned")
    )


def identical(one, other):
    bits = [tensor.reshape(-1).view(torch.uint8).tolist() for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and bits[0] == bits[1]


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


def treated(seed=0, density=0.5, preset=PRESET, **changes):
    """Return a ticket with all treatments, and with a preset if one is given."""
    weights = {
        "w": RandomWeight((11, 7), SignedConstant(), Fans(7, 11)),
        "v": RandomWeight((4,), SignedConstant(), Fans(3, 5)),
    }
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(11, 7, generator=generator) < density
    presets = {}
    if preset is not None:
        free, locked = preset.grow(seed, "w", (11, 7))
        mask, presets = mask & free | locked, {"w": preset}
    factors = torch.randint(1, 4, mask.shape, generator=generator) * (
        1 - 2 * torch.randint(0, 2, mask.shape, generator=generator)
    )
    redraws = torch.randint(0, 5, mask.shape, generator=generator)
    treatment = Treatment(0.7, (factors * mask).to(torch.int8), (redraws * mask).to(torch.int32), True)
    parts = {
        "seed": seed,
        "weights": weights,
        "masks": {"w": mask, "v": torch.ones(4, dtype=torch.bool)},
        "digest": digest(grow_all(weights, seed)),
        "treatments": {"w": treatment, "v": Treatment(gain=2.0)},
        "presets": presets,
    }
    return Ticket(**{**parts, **changes})


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


# ---- damage


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_is_reported_as_damage(sound, refusal, bit):
    for position in range(len(sound)):
        data = bytearray(sound)
        data[position] ^= 1 << bit
        message = refusal(data)
        assert "damaged" in message
        assert "cut short" not in message


@pytest.mark.parametrize("value", [b"\0", b" ", b'"', b"\\", b"{", b"}", b"9"], ids=repr)
def test_a_changed_byte_anywhere_is_reported_as_damage(sound, refusal, value):
    for position in range(len(sound)):
        data = sound[:position] + value + sound[position + 1 :]
        if data != sound:
            message = refusal(data)
            assert "damaged" in message
            assert "cut short" not in message


def test_a_file_cut_anywhere_is_reported_as_cut_short(sound, refusal):
    for length in range(1, len(sound)):
        message = refusal(sound[:length])
        assert "cut short" in message
        assert "damaged" not in message


def test_an_empty_file_is_reported_as_empty(refusal):
    assert "it is empty" in refusal(b"")


@pytest.mark.parametrize("more", [b"\0", b" ", b"\n", b"}", b"\0" * 4096], ids=len)
def test_bytes_that_follow_the_end_are_reported(sound, refusal, more):
    assert f"it is damaged: {len(more):,} bytes follow its end" in refusal(sound + more)


def test_a_ticket_twice_over_is_refused(sound, refusal):
    assert "follow its end" in refusal(sound + sound)


def changed(data, dice):
    return bytes(dice.randrange(256) if dice.random() < 0.01 else byte for byte in data)


def swapped(data, dice):
    first, second = sorted(dice.sample(range(len(data)), 2))
    between = data[first + 1 : second]
    return data[:first] + data[second : second + 1] + between + data[first : first + 1] + data[second + 1 :]


def zeroed(data, dice):
    start, end = block(data, dice)
    return data[:start] + bytes(end - start) + data[end:]


def cut(data, dice):
    return data[: dice.randrange(len(data))]


def inserted(data, dice):
    place = dice.randrange(len(data) + 1)
    return data[:place] + dice.randbytes(dice.randint(1, 64)) + data[place:]


def deleted(data, dice):
    start, end = block(data, dice)
    return data[:start] + data[end:]


def repeated(data, dice):
    start, end = block(data, dice)
    return data[:end] + data[start:end] + data[end:]


def moved(data, dice):
    start, end = block(data, dice)
    rest = data[:start] + data[end:]
    place = dice.randrange(len(rest) + 1)
    return rest[:place] + data[start:end] + rest[place:]


def block(data, dice):
    start = dice.randrange(len(data))
    return start, min(len(data), start + dice.randint(1, 200))


DAMAGES = (changed, swapped, zeroed, cut, inserted, deleted, repeated, moved)


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_thousand_random_damages_none_is_accepted(sound, refusal, damage):
    dice = random.Random(damage.__name__)
    done = 0
    while done < 1000 // len(DAMAGES):
        data = damage(sound, dice)
        if data != sound:
            refusal(data)
            done += 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_other_error_escapes_whatever_the_bytes(data):
    with pytest.raises(TicketError):
        decode(data)


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(VALUES, VALUES, st.binary(max_size=20), st.binary(max_size=20))
def test_no_other_error_escapes_whatever_a_sealed_file_holds(value, own, coded, learned):
    for header in (
        value,
        {"file": own},
        {"file": {"masks": own}},
        {"file": {"masks": {"w": [2, 3]}, "treatments": own}},
    ):
        with contextlib.suppress(TicketError):
            decode(seal(Sections(deflated(json.dumps(header).encode()), coded, learned)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_no_other_error_escapes_whatever_the_sections(header, coded, learned):
    with pytest.raises(TicketError):
        decode(seal(Sections(header, coded, learned)))


# ---- other files


def zip_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1" * 50)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50),
        safetensors.torch.save({"a": torch.zeros(2)}),
        safetensors.torch.save({"a": torch.zeros(2)}, {"format": "pt"}),
        safetensors.torch.save({}),
        b"Dear reader, this is a letter and no ticket.\n",
        pickle.dumps([b"x" * 100]),
        zip_archive(),
        b'{"seed": 1, "mask": {"a": [1, 2, 3]}}',
        bytes(1000),
        b"\xff" * 1000,
    ],
    ids=[
        *["png", "plain", "metadata", "bare", "text", "pickle", "zip", "json", "zeros", "ones"],
    ],
)
def test_another_kind_of_file_is_said_to_be_one(refusal, data):
    assert "it is another kind of file, or damaged" in refusal(data)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refused(tmp_path / "missing.ticket")
    assert "directory" in refused(tmp_path)


# ---- files that are sealed but not sound


def resealed(data, change):
    """Return a file with a changed header and checksums that fit it: no accident makes one, another program may."""
    sections = unseal(data)
    header = json.loads(inflated(sections.header))
    change(header)
    return seal(sections._replace(header=deflated(json.dumps(header, separators=(",", ":")).encode())))


def places(value, path=()):
    """Yield the way to every value in plain values, the whole not included."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(header, path, value):
    for key in path[:-1]:
        header = header[key]
    header[path[-1]] = value


def test_resealing_alone_changes_nothing(sound):
    assert resealed(sound, lambda header: None) == sound


@pytest.mark.parametrize("other", [1, FORMAT + 1, 255])
def test_another_format_is_said_to_be_one(refusal, monkeypatch, other):
    sections = unseal(tiny().to_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(ticket_container, "FORMAT", other)
        data = seal(sections)
    assert f"it is of format {other}; this version reads only format {FORMAT}" in refusal(data)


JUNK = [None, True, -1, 1.5, 10**30, "x", [], [1], ["abc"], [[]], {}, {"x": 1}, {"x": [[1], 0, [1, 1], 1.0]}]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_other_error_escapes_whatever_a_sealed_header_says(sound, tmp_path, junk):
    path = tmp_path / "strange.ticket"
    for data in (sound, treated().to_bytes(), ticket_of_signs().to_bytes()):
        for way in places(json.loads(inflated(unseal(data).header))):
            path.write_bytes(resealed(data, lambda header, way=way: put(header, way, junk)))
            with contextlib.suppress(TicketError):
                Ticket.load(path)


def ticket_of_signs():
    """Return a ticket whose mask is coded with what the seed says of it: the signs."""
    weights = {"w": RandomWeight((30, 30), SignedConstant(), Fans(30, 30))}
    grown = grow_all(weights, 3)
    return Ticket(seed=3, weights=weights, masks={"w": grown["w"] > 0}, digest=digest(grown))


def test_a_mask_that_the_weights_tell_is_not_read_with_others(refusal):
    ticket = ticket_of_signs()
    data = ticket.to_bytes()
    assert sizes(data).layers["w"].mask < 0.4 * 900 / 8
    assert same(Ticket.from_bytes(data), ticket)
    for change in ({"digest": "0" * 64}, {"seed": 4}):
        message = refusal(resealed(data, lambda header, change=change: header.update(change)))
        assert "its masks cannot be read without its random weights, and those regrown from the seed are" in message
    assert "with the random weights at hand" in refusal(resealed(data, lambda header: header.pop("weights")))


@pytest.mark.parametrize("key", ["seed", "weights", "distributions", "constants", "bypassed", "digest", "provenance"])
def test_a_sealed_header_that_lacks_a_part_is_refused_by_its_name(sound, refusal, key):
    assert f"'{key}'" in refusal(resealed(sound, lambda header: header.pop(key)))


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"w": [5, 30]}, "bytes"),
        ({"w": [10**18]}, "its masks would take more memory than any machine has"),
        ({"w": [1 << 16, 1 << 16]}, "its masks would take"),
        ({"w": [-5, -3]}, "'w' of masks is -5, not a whole number"),
        ({"w": []}, "mask bytes"),
        ({"w": [5, 3], "v": [3]}, "its coded masks hold no whole number"),
        ({}, "its coded masks have .* bytes too many"),
        ({"w": [5.0, 3]}, "its parts are not those of a ticket"),
        ({"w": "x"}, "its parts are not those of a ticket"),
    ],
)
def test_masks_of_other_shapes_than_their_codes_are_refused(sound, refusal, masks, says):
    assert re.search(says, refusal(resealed(sound, lambda header: header["file"].update(masks=masks))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"treatments": {"w": [0.0, True, True, True]}}, "A gain of 0.0 was given"),
        ({"treatments": {"w": [1.0, True, True, False]}}, "bytes"),
        ({"treatments": {"w": [1.0, True, False, True]}}, "bytes"),
        ({"treatments": {}}, "bytes"),
        ({"treatments": {"w": [1.0]}}, "its parts are not those of a ticket"),
        ({"presets": {"w": [60, 60]}}, "fixes more entries than the 77 of w"),
        ({"presets": {"w": [-1, 0]}}, "entry 0 of 'w' of presets is -1, not a whole number"),
        ({"presets": {"w": [1]}}, "its parts are not those of a ticket"),
    ],
)
def test_treatments_and_presets_that_cannot_be_are_refused(refusal, change, says):
    assert says in refusal(resealed(treated().to_bytes(), lambda header: header["file"].update(change)))


def test_factors_of_more_than_eight_bits_are_refused(refusal):
    kept = np.ones(2, np.bool_)
    codes = [encode_mask(kept), encode_symbols(np.array([300, 1]), kept)]
    header = {"seed": 0, "file": {"masks": {"w": [2]}, "treatments": {"w": [1.0, False, True, False]}}}
    coded = b"".join(bytes([len(code)]) + code for code in codes)
    assert "factors of more than eight bits" in refusal(
        seal(Sections(deflated(json.dumps(header).encode()), coded, b""))
    )


@pytest.mark.parametrize(
    "header",
    [b"1", b"null", b"[]", b"{}", b"[" * 100_000, b'{"file":1}', b"\xff", b'"\\ud800"'],
    ids=lambda text: text[:9],
)
def test_a_sealed_header_that_is_no_header_is_refused(refusal, header):
    assert "its parts are not those of a ticket" in refusal(seal(Sections(deflated(header), b"", b"")))


@pytest.mark.parametrize("cut", ["header", "learned"])
def test_sections_that_do_not_inflate_are_refused(sound, refusal, cut):
    sections = unseal(sound)
    for section in (getattr(sections, cut)[:-1], getattr(sections, cut) + b"\0", b"\xff" * 9):
        assert "inflate" in refusal(seal(sections._replace(**{cut: section})))


def test_a_sealed_ticket_whose_parts_contradict_each_other_is_refused(sound, refusal):
    def rename(header):
        header["file"]["masks"] = {"other": header["file"]["masks"]["w"]}

    assert "mask of other has no random weight" in refusal(resealed(sound, rename))


def test_every_refusal_is_a_supermask_error():
    assert issubclass(TicketError, SupermaskError)
