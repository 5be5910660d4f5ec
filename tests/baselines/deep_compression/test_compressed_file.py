"""The file: back again bit for bit, its size in parts, and refused when it is damaged or of another network."""

import dataclasses
import json
import random
import zlib
from itertools import pairwise

import pytest
import torch
from compressed_networks import bits_of, coded, shared, some_contents, with_everything
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import SupermaskError, models
from supermask.baselines.deep_compression import file, load
from supermask.baselines.deep_compression.file import Compressed, decode, encode, parts, restored

LAYERS = st.tuples(
    st.lists(st.integers(0, 7), max_size=3),
    st.floats(0, 1),
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    st.integers(0, 10**6),
)


@settings(deadline=None, max_examples=80)
@given(LAYERS)
def test_every_layer_comes_back_bit_for_bit(layer):
    shape, density, values, gap_bits, dtype, seed = layer
    dice = random.Random(seed)
    size = int(torch.Size(shape).numel())
    places = [place for place in range(size) if dice.random() < density]
    own, weight = coded(shape, places, [dice.randrange(-values, values) / 8 for _ in places], gap_bits, dtype)
    back = decode(encode(Compressed({"w": own}, {}))).layers["w"].weight()
    assert (back.shape, back.dtype) == (weight.shape, weight.dtype)
    assert bits_of(back) == bits_of(weight)


def test_the_parts_add_up_to_the_file_and_equal_contents_give_equal_bytes():
    contents = some_contents()
    data = encode(contents)
    assert sum(parts(contents).values()) == len(data)
    assert parts(contents)["codebooks"] == 4 * (3 + 0 + 0 + 1 + 1)
    assert parts(contents)["biases_and_others"] == 8 + 8 + 2
    assert encode(some_contents()) == data
    back = decode(data)
    assert [bits_of(tensor) for tensor in back.rest.values()] == [bits_of(t) for t in contents.rest.values()]
    assert back.rest["count"].shape == ()
    assert encode(back) == data


def test_a_network_comes_back_bit_for_bit_with_statistics_and_tied_weights(tmp_path):
    network = shared(with_everything(), density=0.4)
    network.model[1].running_mean.fill_(0.25)
    network.model[1].num_batches_tracked.fill_(7)
    bits = {name: 2 for name in network.prunable}
    (tmp_path / "a").write_bytes(encode(Compressed.of(network, bits)))
    back = load(tmp_path / "a", with_everything())
    for name, tensor in network.model.state_dict().items():
        assert bits_of(back.state_dict()[name]) == bits_of(tensor), name
    assert back[-1].weight is back[-2].weight
    for name, mask in network.masks().items():
        gone = back.get_parameter(name)[~mask]
        assert gone.numel() > 0
        assert bits_of(gone) == bits_of(torch.zeros_like(gone))


@pytest.mark.parametrize("name", ["lenet5_caffe", "resnet20"])
@pytest.mark.parametrize("density", [0.0, 0.01, 1.0])
def test_other_models_come_back_at_any_density(tmp_path, name, density):
    network = shared(models.build(name, width=0.25), density, clusters=32)
    (tmp_path / "a").write_bytes(encode(Compressed.of(network, dict.fromkeys(network.prunable, 5))))
    back = load(tmp_path / "a", models.build(name, width=0.25).to(memory_format=torch.channels_last))
    assert all(bits_of(back.state_dict()[key]) == bits_of(t) for key, t in network.model.state_dict().items())


# ---- damage


@pytest.fixture(scope="module")
def sound():
    return encode(some_contents())


def test_every_changed_byte_is_refused(sound):
    for place in range(len(sound)):
        for flip in (1, 128, 255):
            changed = bytearray(sound)
            changed[place] ^= flip
            with pytest.raises(SupermaskError):
                decode(bytes(changed))


def test_every_cut_and_every_longer_file_is_refused(sound):
    for end in range(len(sound)):
        with pytest.raises(SupermaskError):
            decode(sound[:end])
    with pytest.raises(SupermaskError, match="checksum does not fit"):
        decode(sound + b"\0")


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_no_other_error_escapes_whatever_the_bytes(data):
    for begin in (b"", b"dcnn\x01"):
        with pytest.raises(SupermaskError):
            decode(begin + data)


def test_a_newer_format_is_said_to_be_one(sound):
    with pytest.raises(SupermaskError, match="of a newer format; this version reads format 1"):
        decode(sound[:4] + b"\x02" + sound[5:])


def resealed(header, body):
    """Return a file with another header under a checksum that fits: no accident makes one, another program may."""
    text = zlib.compress(json.dumps(header).encode())
    sealed = len(text).to_bytes(4, "little") + text + body
    return b"dcnn\x01" + file._digest(sealed) + sealed


def opened(data):
    """Return the header of a file as plain values, and what follows it."""
    length = int.from_bytes(data[13:17], "little")
    return json.loads(zlib.decompress(data[17 : 17 + length])), data[17 + length :]


def small():
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 9))


@pytest.fixture(scope="module")
def network_file():
    network = shared(small(), density=0.3)
    return encode(Compressed.of(network, dict.fromkeys(network.prunable, 2)))


def load_or_refuse(data):
    """Load a file; only the project's own error may come of it, and then nothing was changed."""
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        restored(decode(data), model)
    except SupermaskError:
        assert all(bits_of(tensor) == bits_of(before[name]) for name, tensor in model.state_dict().items())


JUNK = [None, True, -1, 1.5, 10**30, "x", [], [1], [[]], {}, {"x": 1}, 3]


def places(value, path=()):
    """Yield the way to every value in plain values, the whole not included."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_other_error_escapes_whatever_a_sealed_header_says(network_file, junk):
    for path in places(opened(network_file)[0]):
        header, body = opened(network_file)
        inner = header
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = junk
        load_or_refuse(resealed(header, body))


def test_resealing_alone_changes_nothing(network_file):
    model = restored(decode(resealed(*opened(network_file))), small())
    expected = restored(decode(network_file), small()).state_dict()
    assert all(bits_of(tensor) == bits_of(expected[name]) for name, tensor in model.state_dict().items())


def test_a_sealed_body_of_another_length_is_refused(network_file):
    header, body = opened(network_file)
    with pytest.raises(SupermaskError, match="1 bytes follow its end"):
        decode(resealed(header, body + b"\0"))
    with pytest.raises(SupermaskError, match="it lacks bytes: "):
        decode(resealed(header, body[:-1]))


@pytest.mark.parametrize("header", [None, 3, [], {}, {"layers": {}}, {"layers": [], "rest": {}}, "x"], ids=repr)
def test_a_sealed_header_of_another_kind_is_refused(header):
    with pytest.raises(SupermaskError, match="does not describe a compressed network"):
        decode(resealed(header, b""))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_other_error_escapes_whatever_a_sealed_body_says(network_file, data):
    header, body = opened(network_file)
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    load_or_refuse(resealed(header, bytes(changed)))


def test_a_file_that_is_missing_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(SupermaskError, match=r"Cannot read the compressed network .*a: No such file"):
        load(tmp_path / "a", nn.Linear(1, 1))
    (tmp_path / "a").write_bytes(b"Dear reader")
    with pytest.raises(SupermaskError, match=r"Cannot load .*a: it does not begin as a compressed network"):
        load(tmp_path / "a", nn.Linear(1, 1))


# ---- another network


def chain(*widths):
    return nn.Sequential(*(nn.Linear(one, two) for one, two in pairwise(widths)))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: chain(3, 4, 2), "0.weight is float32 .4, 3. in the model and float32 .5, 3. in the file"),
        (lambda: chain(3, 5), "it lacks 1.weight; it lacks 1.bias"),
        (lambda: chain(3, 5, 2, 2), "the file lacks 2.weight; the file lacks 2.bias"),
        (lambda: chain(3, 5, 2).double(), r"float64 .* and float32 .* in the file.*\(and 1 more\)"),
    ],
)
def test_another_architecture_is_refused_and_left_as_it_was(other, words):
    network = shared(chain(3, 5, 2))
    contents = decode(encode(Compressed.of(network, dict.fromkeys(network.prunable, 5))))
    model = other()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SupermaskError, match=words):
        restored(contents, model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_a_layer_that_cannot_be_decoded_leaves_the_model_as_it_was():
    network = shared(chain(3, 5, 2))
    contents = Compressed.of(network, dict.fromkeys(network.prunable, 5))
    last = contents.layers["1.weight"]
    broken = dataclasses.replace(last, entries=last.entries + 1)
    model = chain(3, 5, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SupermaskError):
        restored(Compressed({**contents.layers, "1.weight": broken}, contents.rest), model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
