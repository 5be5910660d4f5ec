"""Files of tickets are refused when a single byte is not right, and when they are sealed but say what cannot be."""

import contextlib
import io
import json
import pickle
import random
import re
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tickets import same, tiny, treated

from supermask.errors import SupermaskError, TicketError
from supermask.random.distributions import Fans, SignedConstant
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket
from supermask.ticket import container as ticket_container
from supermask.ticket.coding import encode_mask, encode_symbols
from supermask.ticket.container import FORMAT, Sections, seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated
from supermask.ticket.file import decode, sizes


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
