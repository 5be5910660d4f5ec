"""The file of a ticket is small, the same bytes for the same ticket, and refused when a single byte is not right."""

import contextlib
import io
import json
import math
import os
import pickle
import random
import zipfile
from copy import deepcopy

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import supermask
from supermask import ticket_file
from supermask.distributions import Fans, SignedConstant
from supermask.errors import SupermaskError, TicketError
from supermask.random_weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket
from supermask.ticket_file import FORMAT, Contents, decode, encode

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
    assert tiny(**change)._encode() != sound


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


@pytest.mark.parametrize("blank", [ticket_file._SUM.decode(), ticket_file._CRC.decode(), "0" * 72, "z" * 200, "s" * 99])
def test_text_that_looks_like_a_blanked_checksum_is_read_back(tmp_path, blank):
    tiny(provenance={"note": blank, blank: 1}).save(tmp_path / "a")
    assert Ticket.load(tmp_path / "a").provenance == {"note": blank, blank: 1}


@pytest.mark.parametrize("crc", [b"00000000", b"ffffffff", b"00000001"])
def test_a_file_is_read_back_whatever_its_header_checksum_happens_to_be(monkeypatch, crc):
    heads = []
    monkeypatch.setattr(ticket_file, "_crc", lambda head: heads.append(head) or crc)
    assert decode(encode(Contents({"note": 1}, {}, {}))).header["note"] == 1
    written, read = heads
    assert written == read


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
        {"provenance": {"folder": object()}},
        {"provenance": {"loss": torch.tensor(1.0)}},
        {"constants": {"c": math.inf}},
    ],
    ids=str,
)
def test_what_is_no_plain_value_is_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(TicketError, match="no plain, finite value"):
        tiny(**change).save(tmp_path / "a")
    assert os.listdir(tmp_path) == []


# ---- size


@settings(max_examples=50, deadline=None)
@given(st.lists(SHAPES, max_size=4))
def test_masks_take_one_bit_per_weight(shapes):
    masks = {str(i): torch.ones(shape, dtype=torch.bool) for i, shape in enumerate(shapes)}
    data = encode(Contents({}, masks, {}))
    head = 8 + int.from_bytes(data[:8], "little")
    assert len(data) - head == -(-sum(map(torch.numel, masks.values())) // 8)


@pytest.mark.parametrize(("name", "prunable"), [("lenet_300_100", 266_200), ("conv4", 2_425_024)])
def test_a_ticket_takes_an_eighth_of_a_byte_per_weight_and_a_small_header(tmp_path, name, prunable):
    ticket = supermask.EdgePopup(supermask.models.build(name), density=0.3).ticket(model=name)
    ticket.save(tmp_path / "a")
    assert ticket.prunable == prunable
    assert prunable / 8 <= (tmp_path / "a").stat().st_size <= prunable / 8 + 4096
    assert (tmp_path / "a").stat().st_size == ticket.size


# ---- an ordinary safetensors file, and no pickle


def test_any_safetensors_reader_opens_the_file(sound):
    tensors = safetensors.torch.load(sound)
    assert sorted(tensors) == [".mask bits", "b", "steps"]
    assert tensors["b"].tolist() == tiny().learned["b"].tolist()


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


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_other_error_escapes_whatever_the_bytes(data):
    with pytest.raises(TicketError):
        decode(data)


LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=10))
def test_no_other_error_escapes_whatever_the_json(value):
    head = json.dumps({"__metadata__": {"supermask.ticket": json.dumps(value)}, "a": value}).encode()
    with pytest.raises(TicketError):
        decode(len(head).to_bytes(8, "little") + head)


# ---- other files


def zip_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1" * 50)
    return buffer.getvalue()


def with_entry(text):
    """Return a sound safetensors file whose entry of ours is this text."""
    return safetensors.torch.save({"a": torch.zeros(2)}, {"supermask.ticket": text})


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
        with_entry("[" * 100_000),
        with_entry(""),
        with_entry("1"),
        with_entry("null"),
        with_entry('{"sha256": 1, "header_crc32": 2}'),
        with_entry(r'{"sha256": "\ud800", "header_crc32": ""}'),
    ],
    ids=[
        *["png", "plain", "metadata", "bare", "text", "pickle", "zip", "json", "zeros", "ones"],
        *["deep", "blank", "number", "null", "numbers", "surrogate"],
    ],
)
def test_another_kind_of_file_is_said_to_be_one(refusal, data):
    assert "it is another kind of file, or damaged" in refusal(data)


@pytest.mark.parametrize(
    "head",
    [
        *[b'{"a":' * 100_000, b'{"a":' + b"9" * 10_000 + b"}", b'{"a":NaN}'],
        *[b'{"\xff":1}', b'{"a\0":1}', b"{}", b'{"__metadata__":[]}'],
    ],
    ids=lambda head: repr(head[:20]),
)
@pytest.mark.parametrize("length", [None, 0, 2**64 - 1])
def test_a_strange_header_is_refused(refusal, head, length):
    refusal((len(head) if length is None else length).to_bytes(8, "little") + head)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refused(tmp_path / "missing.ticket")
    assert "directory" in refused(tmp_path)


# ---- files that are sealed but not sound


def resealed(data, change):
    """Return a file with a changed header and checksums that fit it: no accident makes one, another program may."""
    contents = sealable(decode(data))
    change(contents.header)
    return encode(contents)


def sealable(contents, *without):
    """Return a copy of what a file held, less its checksums and other parts of its header."""
    header = {
        name: value for name, value in contents.header.items() if name not in ("sha256", "header_crc32", *without)
    }
    return Contents(deepcopy(header), contents.masks, contents.learned)


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


@pytest.mark.parametrize("newer", [FORMAT + 1, 10**30, "1", None])
def test_a_newer_format_is_said_to_be_one(sound, refusal, newer):
    message = refusal(resealed(sound, lambda header: header.update(format=newer)))
    assert f"it is of format {newer}; this version reads format {FORMAT}" in message


JUNK = [None, True, -1, 1.5, 10**30, "x", [], [1], ["abc"], [[]], {}, {"x": 1}, {"x": [[1], 0, [1, 1], 1.0]}]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_other_error_escapes_whatever_a_sealed_header_says(sound, tmp_path, junk):
    path = tmp_path / "strange.ticket"
    for way in places(decode(sound).header):
        path.write_bytes(resealed(sound, lambda header, way=way: put(header, way, junk)))
        with contextlib.suppress(TicketError):
            Ticket.load(path)


@pytest.mark.parametrize("key", ["seed", "weights", "distributions", "constants", "bypassed", "digest", "provenance"])
def test_a_sealed_header_that_lacks_a_part_is_refused_by_its_name(sound, refusal, key):
    assert f"'{key}'" in refusal(encode(sealable(decode(sound), key)))


@pytest.mark.parametrize("masked", [{"w": [5, 30]}, {"w": [10**18]}, {"w": []}, {"w": [-5, -3]}, {}])
def test_mask_bits_of_another_number_than_the_shapes_say_are_refused(sound, refusal, masked):
    assert "its tensors are not those of a ticket" in refusal(
        resealed(sound, lambda header: header.update(masked=masked))
    )


def test_a_sealed_file_without_mask_bits_is_refused(sound, refusal, monkeypatch):
    contents = decode(sound)
    with monkeypatch.context() as patched:
        patched.setattr(ticket_file, "_BITS", "other")
        other = encode(sealable(contents))
    assert "its tensors are not those of a ticket (KeyError('.mask bits'))" in refusal(other)


def test_a_sealed_ticket_whose_parts_contradict_each_other_is_refused(sound, refusal):
    def rename(header):
        header["masked"] = {"other": header["masked"]["w"]}

    assert "mask of other has no random weight" in refusal(resealed(sound, rename))


def test_every_refusal_is_a_supermask_error():
    assert issubclass(TicketError, SupermaskError)
