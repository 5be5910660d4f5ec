"""The plain reader, which is written apart from the package's own: both make the same bits of every file."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_golden_tickets import CASES
from torch import nn

from experiments.framework.report import RESULTS
from supermask import EdgePopup, Ticket
from supermask.random.distributions import KNOWN, Fans, SignOf, TruncatedNormal, named
from supermask.random.stream import philox
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import deflate_dictionary, plain

SOURCE = Path(plain.__file__)
PAGE = SOURCE.with_name("FORMAT.md")


def same_bits(array, tensor):
    expected = tensor.detach().numpy()
    return array.shape == expected.shape and array.astype(expected.dtype).tobytes() == expected.tobytes()


def check(ticket):
    """Read a ticket's file by the plain reader and hold all arrays against the ticket's tensors."""
    found = plain.read(ticket.to_bytes())
    assert found.seed == ticket.seed
    assert [*found.masks] == [*ticket.masks]
    assert found.constants == dict(ticket.constants)
    assert found.header["provenance"] == json.loads(json.dumps(dict(ticket.provenance)))
    frozen = {} if ticket.checkpoint else ticket.random_weights()
    parts = ((found.frozen, frozen), (found.masks, ticket.masks), (found.stored, ticket.learned))
    for arrays, tensors in parts:
        assert arrays.keys() == tensors.keys()
        assert all(same_bits(arrays[name], tensors[name]) for name in arrays)
    assert found.values.keys() == frozen.keys()
    for name in frozen:
        assert same_bits(found.values[name], ticket._value(name, frozen, torch.empty(0)))
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_golden_ticket_is_read_to_the_same_bits(name):
    check(replace(CASES[name](), provenance={"x": 1}))


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.ticket")), ids=lambda path: path.stem)
def test_every_ticket_of_the_project_is_read_to_the_same_bits(path):
    check(Ticket.load(path))


DISTRIBUTIONS = [named(name) for name in KNOWN] + [TruncatedNormal(cut=0.4), SignOf(TruncatedNormal(mode="fan_out"))]
SHAPES = [(), (7,), (3, 5), (1, 70), (6, 20), (2, 3, 3, 3), (4, 2, 2), (0, 3), (64, 2)]


@st.composite
def tickets(draw):
    """Draw a ticket of two parameters, one of them dense; its mask may have a preset and its weights a treatment."""
    seed, shape = draw(st.integers(0, 2**63 - 1)), draw(st.sampled_from(SHAPES))
    dice = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = {
        name: RandomWeight(size, draw(st.sampled_from(DISTRIBUTIONS)), Fans(5, 3), draw(st.sampled_from([1.0, 1.7])))
        for name, size in (("a.weight", shape), ("dénse", (3, 2)))
    }
    mask = torch.from_numpy(np.array(dice.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))))
    presets, treatments, count = {}, {}, mask.numel()
    if draw(st.booleans()):
        pruned = draw(st.integers(0, count))
        presets["a.weight"] = Preset(pruned, draw(st.integers(0, count - pruned)))
        free, locked = presets["a.weight"].grow(seed, "a.weight", shape)
        mask = mask & free | locked
    if draw(st.booleans()):
        factors = torch.from_numpy(np.array(dice.choice([-3, -1, 1, 2], shape), np.int8).reshape(shape)) * mask
        redraws = torch.from_numpy(np.array(dice.choice([0, 0, 1, 4], shape), np.int32).reshape(shape)) * mask
        treatments["a.weight"] = Treatment(
            draw(st.sampled_from([1.0, 0.3])),
            draw(st.sampled_from([None, factors])),
            draw(st.sampled_from([None, redraws])),
            draw(st.booleans()),
        )
    return Ticket(
        seed=seed,
        weights=weights,
        masks={"a.weight": mask},
        digest=digest(grow_all(weights, seed)),
        learned=STORED if draw(st.booleans()) else {},
        constants={"a.bias": 0.25},
        provenance={"x": "é"},
        treatments=treatments,
        presets=presets,
    )


STORED = {
    "mean": torch.linspace(-1, 1, 6).reshape(2, 3),
    "count": torch.tensor(12),
    "half": torch.linspace(-1, 1, 5).half(),
    "flags": torch.tensor([True, False]),
    "double": torch.linspace(-1, 1, 5).double(),
    "empty": torch.zeros(0, 2),
}


@settings(max_examples=150, deadline=None)
@given(tickets())
def test_any_ticket_is_read_to_the_same_bits(ticket):
    check(ticket)


def test_bfloat16_is_read_as_float32():
    numbers = torch.linspace(-1, 1, 9).bfloat16()
    ticket = replace(EdgePopup(nn.Linear(4, 3), density=0.5).ticket(), learned={"x": numbers})
    assert same_bits(plain.read(ticket.to_bytes()).stored["x"], numbers.float())


def test_of_a_ticket_over_given_weights_the_masks_are_read():
    found = check(EdgePopup(nn.Linear(4, 3), density=0.5, weights="given").ticket())
    assert not found.frozen
    assert found.masks["weight"].sum() == 6
    assert "given" in found.header


@pytest.fixture(scope="module")
def small():
    return EdgePopup(nn.Linear(4, 3), density=0.5).ticket().to_bytes()


def test_a_file_with_any_byte_changed_or_cut_is_refused(small):
    for place in range(len(small)):
        changed = bytearray(small)
        changed[place] ^= 1 + place % 255
        with pytest.raises(ValueError, match=r"it is damaged|does not begin|its prefix"):
            plain.read(bytes(changed))
        with pytest.raises(ValueError, match=r"does not begin|cut short"):
            plain.read(small[:place])


def test_what_is_not_read_is_refused_in_a_sentence(small):
    other = replace(Ticket.from_bytes(small), digest="0" * 64)
    with pytest.raises(ValueError, match="not those that it was made with"):
        plain.read(other.to_bytes())
    with pytest.raises(ValueError, match="'cauchy' is not one"):
        plain.drawn({"name": "cauchy"}, 3, (1, 1), (0, "weights", "a"))


def test_the_words_are_those_of_the_package():
    for seed, purpose in ((0, ("weights", "a")), (2**63 - 1, ("x", "é", "b"))):
        assert np.array_equal(plain.words(1_003, seed, *purpose), philox(seed, *purpose).random_raw(1_003))


def test_the_dictionary_is_that_of_the_package():
    assert plain.DICTIONARY == deflate_dictionary._DICTIONARY


def without(tmp_path, *arguments):
    """Run Python where nothing but NumPy and the standard library can be imported."""
    for name in ("torch", "numba", "scipy", "safetensors", "supermask"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)


def test_a_copy_of_the_file_reads_tickets_without_torch(small, tmp_path):
    copy = tmp_path / "somewhere.py"
    copy.write_bytes(SOURCE.read_bytes())
    (tmp_path / "a.ticket").write_bytes(small)
    done = without(tmp_path, copy, "a.ticket")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["seed 0", "'weight' 3x4: 6 of 12 kept (50.00%)", "'bias': constant 0.0"]
    (tmp_path / "a.ticket").write_bytes(small[:-1])
    done = without(tmp_path, copy, "a.ticket")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("plain: a.ticket: its prefix is damaged, or it is cut short")
    assert without(tmp_path, "-c", "import torch").returncode == 1  # it is refused, where it is asked for


def test_the_module_prints_what_a_file_holds(small, tmp_path, capsys):
    ticket = replace(Ticket.from_bytes(small), learned={"mean": torch.zeros(2, 3), "n": torch.tensor(3)})
    ticket.save(tmp_path / "a.ticket")
    assert plain.main([str(tmp_path / "a.ticket")]) == 0
    assert {"'mean' 2x3: stored", "'n' scalar: stored"} <= {*capsys.readouterr().out.splitlines()}
    assert plain.main([]) == 2
    assert plain.main([str(tmp_path / "missing")]) == 2


def vectors():
    rows = re.findall(r"^\| `(.*)` \| `(.*)` \|$", PAGE.read_text().split("## Test vectors")[1], re.MULTILINE)
    assert len(rows) >= 10
    return rows


@pytest.mark.parametrize(("expression", "value"), vectors())
def test_the_page_gives_the_values_of_the_code(expression, value):
    assert str(eval(expression, vars(plain))) == value


def test_the_first_vector_is_that_of_the_authors():
    """Of Random123, file kat_vectors: philox4x64 10, counter 0, key 0."""
    assert vectors()[0][1] == str([hex(word) for word in KNOWN_ANSWER])


KNOWN_ANSWER = (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
