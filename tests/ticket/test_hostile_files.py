"""Files with right checksums that say anything: refused in a sentence, before memory is taken for what they declare."""

import contextlib
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc

import pytest
import safetensors.torch
import torch
from torch import nn

from supermask import EdgePopup
from supermask.errors import TicketError
from supermask.random.distributions import Fans, SignedConstant
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.superposition.tasks_file import decode as decode_tasks
from supermask.superposition.tasks_file import encode as encode_tasks
from supermask.ticket import Ticket
from supermask.ticket.coding.varints import write
from supermask.ticket.container import Sections, seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated

ONE = {"name": "signed_constant", "gain": 1.0, "mode": "fan_in"}


def sealed(shapes, codes, *, learned=b"", **changes):
    """Return a file with right checksums whose masks have these shapes and codes."""
    header = {
        "seed": 0,
        "distributions": [ONE],
        "weights": {name: [shape, 0, [1, 1], 1.0] for name, shape in shapes.items()},
        "constants": {},
        "bypassed": [],
        "digest": "0" * 64,
        "provenance": {},
        "file": {"masks": shapes},
    }
    text = json.dumps({**header, **changes}).encode()
    return seal(Sections(deflated(text), b"".join(write(len(code)) + code for code in codes), learned))


def zeros(count, high=1):
    """Return the code of a mask that keeps nothing, as one block."""
    return bytes([16]) + write(high, count, 0)


def refusal(data, read=Ticket.from_bytes):
    with pytest.raises(TicketError) as caught:
        read(data)
    reason = str(caught.value)
    assert reason.endswith(".")
    assert len(reason) < 1_000
    return reason


# ---- memory before sense

DECLARED = {
    "a mask of 2**31": lambda: sealed({"w": [1 << 31]}, [zeros(1 << 31)]),
    "three of 2**30": lambda: sealed({name: [1 << 30] for name in "abc"}, [zeros(1 << 30)] * 3),
    "counted": lambda: sealed({"w": [1 << 31]}, [bytes([0]) + write(*[0] * 128)]),
    "mixed": lambda: sealed({"w": [1 << 12, 1 << 16]}, [bytes([2, 0]) + write(1) + bytes(99)]),
    "told by the weights": lambda: sealed({"w": [1 << 25]}, [bytes([6, 0]) + write(1) + bytes(99)]),
    "weights without a mask": lambda: sealed({}, [], weights={"w": [[1 << 40], 0, [1, 1], 1.0]}),
    "more than there is": lambda: sealed({}, [], weights={"w": [[1 << 62] * 9, 0, [1, 1], 1.0]}),
    "a preset": lambda: sealed(
        {"w": [1 << 26]}, [zeros(1 << 26)], file={"masks": {"w": [1 << 26]}, "presets": {"w": [5, 0]}}
    ),
    "spaces": lambda: seal(Sections(deflated(b'{"a":"' + b" " * 50_000_000 + b'"}'), b"", b"")),
    "lists": lambda: seal(Sections(deflated(b'{"a":[' + b"[]," * 8_000_000 + b"[]]}"), b"", b"")),
    "a learned tensor": lambda: sealed(
        {}, [], learned=deflated(safetensors.torch.save({"x": torch.zeros(50_000_000)}))
    ),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_what_is_declared_takes_no_memory_before_it_is_refused(kind):
    data = DECLARED[kind]()
    tracemalloc.start()
    try:
        reason = refusal(data)
        peak = tracemalloc.get_traced_memory()[1]  # numpy's too
    finally:
        tracemalloc.stop()
    assert "memory" in reason
    assert peak < 200e6  # twice the inflated part that is within the limits


def test_limits_are_raised_on_purpose():
    data = sealed({"w": [1 << 27]}, [bytes([0]) + write(*[0] * 8)])
    assert Ticket.from_bytes(data).kept == 0  # 134 MB are within the half gigabyte of a small file
    large = sealed({"w": [1 << 15, 1 << 14]}, [zeros(1 << 14, 1 << 15)])
    assert "with memory=1073741824 or more" in refusal(large)
    assert Ticket.from_bytes(large, memory=1 << 30).prunable == 1 << 29


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_what_takes_no_bytes_in_earnest_is_read(density):
    """All of ResNet-50, kept or pruned: 25.5 million weights in less than 1 KB of masks."""
    shapes = {f"layer{i}": (2048, 1024) for i in range(12)}
    weights = {name: RandomWeight(shape, SignedConstant(), Fans(1024, 2048)) for name, shape in shapes.items()}
    masks = {name: torch.full(shape, bool(density)) for name, shape in shapes.items()}
    ticket = Ticket(seed=0, weights=weights, masks=masks, digest="0" * 64)
    data = ticket.to_bytes()
    assert len(data) < 1_000
    assert Ticket.from_bytes(data).density == density


@pytest.mark.parametrize("size", [1 << 24, pytest.param(1 << 27, marks=pytest.mark.slow)])
def test_few_kept_of_very_many_are_read(size):
    """One in a million: at 2**27 weights a byte for 350,000, as of 2**31 weights in 6 KB."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size, generator=torch.Generator().manual_seed(0))[: size // 1_000_000]] = True
    weights = {"w": RandomWeight((size,), SignedConstant(), Fans(1, 1))}
    ticket = Ticket(seed=0, weights=weights, masks={"w": mask}, digest="0" * 64)
    assert torch.equal(Ticket.from_bytes(ticket.to_bytes()).masks["w"], mask)


# ---- one schema


def header_of(data):
    return json.loads(inflated(unseal(data).header))


def with_header(data, change):
    header = header_of(data)
    change(header)
    return seal(unseal(data)._replace(header=deflated(json.dumps(header).encode())))


def sound():
    weights = {
        "w": RandomWeight((5, 3), SignedConstant(), Fans(3, 5), 0.5**-0.5),
        "v": RandomWeight((3,), SignedConstant(), Fans(3, 5)),
    }
    mask = torch.arange(15).reshape(5, 3) % 2 == 0
    treatment = Treatment(1.5, mask.to(torch.int8), (mask * torch.arange(15).reshape(5, 3)).to(torch.int32), True)
    free, locked = Preset(4, 3).grow(1, "w", (5, 3))
    mask = locked | (free & mask)
    treatment = Treatment(1.5, mask.to(torch.int8), mask.to(torch.int32), True)
    return Ticket(
        seed=1,
        weights=weights,
        masks={"w": mask},
        digest=digest(grow_all(weights, 1)),
        learned={"b": torch.tensor([1.0, 2.0])},
        constants={"c": 1.0},
        bypassed=("norm",),
        provenance={"model": "tiny", "größe": [1, 2.5, None]},
        treatments={"w": treatment},
        presets={"w": Preset(4, 3)},
    ).to_bytes()


FIELDS = {
    **{f"provenance {junk!r}": {"provenance": junk} for junk in (None, [], "text", 1)},
    **{f"digest {junk!r}": {"digest": junk} for junk in (None, [], 1, "x", "A" * 64)},
    **{f"seed {junk!r}": {"seed": junk} for junk in (None, [], 1.0, True, -1, 2**63, "1")},
    **{f"bypassed {junk!r}": {"bypassed": junk} for junk in (None, "norm", [["a"]], [1], {"a": 1})},
    **{f"constants {junk!r}"[:40]: {"constants": {"c": junk}} for junk in (None, "1", True, 10**400, 1e300, [])},
    "a shape of floats": {"weights": {"v": [[3.0], 0, [3, 5], 1.0]}},
    "a huge scale": {"weights": {"v": [[3], 0, [3, 5], 10**400]}},
    "a scale beyond float32": {"weights": {"v": [[3], 0, [3, 5], 3e38]}},
    "huge fans": {"weights": {"v": [[3], 0, [3, 10**400], 1.0]}},
    "a fan of 0": {"weights": {"v": [[3], 0, [0, 5], 1.0]}},
    "no such distribution": {"weights": {"v": [[3], 7, [3, 5], 1.0]}},
    "the last distribution": {"weights": {"v": [[3], -1, [3, 5], 1.0]}},
    "too many axes": {"weights": {"v": [[1] * 65, 0, [3, 5], 1.0]}},
    "a huge gain": {"distributions": [{**ONE, "gain": 10**400}]},
    "a list for a gain": {"distributions": [{**ONE, "gain": [1]}]},
    "a huge bound": {"distributions": [{"name": "uniform", "bound": 10**400}]},
    "a huge cut": {"distributions": [{"name": "truncated_normal", "cut": 10**400}]},
    "a list for a name": {"distributions": [{"name": ["x"]}]},
    "signs of signs": {"distributions": [{"name": "sign_of", "of": {"name": "sign_of", "of": ONE}}]},
    "a distribution that is a list": {"distributions": [[]]},
    "a lone surrogate": {"constants": {"\ud800": 1.0}},
    "one in the provenance": {"provenance": {"model": "\udfff"}},
    "a deep provenance": {"provenance": {"a": json.loads("[" * 100 + "]" * 100)}},
    "a huge gain of a treatment": {"file": {"masks": {"w": [5, 3]}, "treatments": {"w": [10**400, True, True, True]}}},
    "a number for a flag": {"file": {"masks": {"w": [5, 3]}, "treatments": {"w": [1.0, 1, 1, 1]}}},
    "a treatment without a mask": {"file": {"masks": {}, "treatments": {"x": [1.0, True, False, False]}}},
    "a huge preset": {"file": {"masks": {"w": [5, 3]}, "presets": {"w": [10**400, 0]}}},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_a_field_of_another_kind_is_refused_in_a_sentence(kind):
    refusal(with_header(sound(), lambda header: header.update(FIELDS[kind])))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000])
def test_what_no_number_is_is_refused(number):
    data = sound()
    text = inflated(unseal(data).header).replace(b'"c":1.0', f'"c":{number}'.encode())
    refusal(seal(unseal(data)._replace(header=deflated(text))))


@pytest.mark.parametrize("value", ["\ud800", json.loads("[" * 100 + "]" * 100)])
def test_what_could_not_be_read_is_not_written(value):
    weights = {"w": RandomWeight((2,), SignedConstant(), Fans(1, 1))}
    ticket = Ticket(seed=0, weights=weights, masks={}, digest="0" * 64, provenance={"a": value})
    with pytest.raises(TicketError):
        ticket.to_bytes()


# ---- what is right though it looks strange


def applied(learned, **changes):
    model = nn.Module()
    for name, tensor in learned.items():
        model.register_buffer(name, torch.zeros_like(tensor))
    ticket = Ticket(seed=0, weights={}, masks={}, digest=digest({}), learned=learned)
    return Ticket.from_bytes(ticket.to_bytes()).apply(model)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.int64, torch.float16, torch.bfloat16])
def test_buffers_of_any_kind_are_kept(dtype):
    """Attention masks are bool, rotary embeddings complex: a model's own buffers are not refused for their dtype."""
    tensor = torch.tensor([1, 0, 1]).to(dtype)
    assert torch.equal(applied({"buffer": tensor}).buffer, tensor)


def test_a_buffer_may_be_infinite_where_the_models_own_is():
    model = nn.Module()
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    ticket = Ticket(seed=0, weights={}, masks={}, digest=digest({}), learned={"mask": torch.tensor([0.0, -torch.inf])})
    assert torch.equal(ticket.apply(model).mask, ticket.learned["mask"])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.tensor([0.0, torch.nan]), "holds NaN or infinity"),
        (torch.tensor([0.0, torch.inf], dtype=torch.float64), "holds NaN or infinity"),
        (torch.tensor([1 + 1j, 2]), "is torch.complex64, and the model's torch.float32"),
        (torch.tensor([True, False]), "is torch.bool, and the model's torch.float32"),
    ],
)
def test_a_learned_tensor_that_the_model_cannot_have_is_refused(value, says):
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(2))
    ticket = Ticket(seed=0, weights={}, masks={}, digest=digest({}), learned={"bias": value})
    with pytest.raises(TicketError, match=says):
        ticket.apply(model)
    assert torch.equal(model.bias, torch.zeros(2))


def test_the_number_of_a_redraw_costs_nothing():
    """A weight may be of draw 2**31 - 1: each draw has a stream of its own, and none before it is drawn."""
    weights = {"w": RandomWeight((4,), SignedConstant(), Fans(1, 1))}
    mask = torch.tensor([True, True, True, False])
    redraws = torch.tensor([0, 1, 2**31 - 1, 0], dtype=torch.int32)
    factors = torch.tensor([127, -127, 1, 0], dtype=torch.int8)
    ticket = Ticket(
        seed=0,
        weights=weights,
        masks={"w": mask},
        digest=digest(grow_all(weights, 0)),
        treatments={"w": Treatment(1.0, factors, redraws)},
    )
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(4))
    found = Ticket.from_bytes(ticket.to_bytes()).apply(model).w
    draws = [weights["w"].grow(0, "w", draw=draw) for draw in (0, 1, 2**31 - 1)]
    assert found.tolist() == [127 * draws[0][0], -127 * draws[1][1], draws[2][2], 0.0]


# ---- what a file says is not printed raw


def test_controls_and_bidi_overrides_are_escaped_where_a_ticket_is_shown():
    weights = {"w\x1b[2J": RandomWeight((2,), SignedConstant(), Fans(1, 1))}
    masks = {"w\x1b[2J": torch.tensor([True, False])}
    made = {"algorithm": "a\x1b]0;title\x07\u202e\0", "model": "\x9b2J"}
    ticket = Ticket(seed=0, weights=weights, masks=masks, digest="0" * 64, provenance=made)
    with pytest.raises(TicketError) as caught:
        ticket.apply(nn.Linear(1, 1))
    for shown in (repr(ticket), ticket._repr_html_(), str(caught.value)):
        assert shown.isprintable()
    assert r"\x1b[2J" in ticket._repr_html_()


# ---- mutated files


def mutated(sections, dice):
    """Return a section-wise damaged file with right checksums: the header by value, the others by byte."""
    part = dice.choice(("coded", "coded", "coded", "header", "learned"))
    if part == "header":
        text = bytearray(inflated(sections.header))
        for _ in range(dice.randint(1, 2)):
            text[dice.randrange(len(text))] = dice.choice(b'0123456789.-e"[]{},:ntf \\')
        return sections._replace(header=deflated(bytes(text)))
    data = bytearray(sections.coded if part == "coded" else inflated(sections.learned))
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    if dice.random() < 0.2:
        del data[dice.randrange(len(data)) :]
    return sections._replace(**{part: bytes(data) if part == "coded" else deflated(bytes(data))})


def small_files():
    """Return files of each kind of code, of a treatment and of tasks (the last), in a few hundred bytes each."""
    found = EdgePopup(nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 4)), density=0.4, seed=2).ticket()
    weights = {"w": RandomWeight((16, 12), SignedConstant(), Fans(12, 16))}
    grown = grow_all(weights, 3)
    signs = Ticket(
        seed=3, weights=weights, masks={"w": grown["w"] > 0}, digest=digest(grown), learned={"b": grown["w"][0]}
    )
    return [found.to_bytes(), signs.to_bytes(), sound(), encode_tasks([found, found])]


def fuzz(files, count, seed=0):
    """Read mutated files; return how many were accepted, which may be: a mask that is another one is a mask."""
    dice = random.Random(seed)
    accepted = 0
    for number in range(count):
        place = number % len(files)
        sections = unseal(files[place])
        data = seal(mutated(sections if sections.learned else sections._replace(learned=deflated(b"x")), dice))
        with contextlib.suppress(TicketError):
            (decode_tasks if place == len(files) - 1 else Ticket.from_bytes)(data)
            accepted += 1
    return accepted


@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_files_with_right_checksums_are_read_or_refused(count):
    assert 0 < fuzz(small_files(), count) < count


INTERPRETED = """
import pickle, sys, warnings
warnings.simplefilter("error")  # an overflow of numpy's integers is a warning
sys.path.insert(0, sys.argv[1])
import test_hostile_files as hostile
print(hostile.fuzz(pickle.load(sys.stdin.buffer), int(sys.argv[2])))
"""


@pytest.mark.parametrize("count", [40, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_loop_reads_outside_of_its_arrays(count):
    """With the compiler off a place that is outside is an IndexError, and an integer that overflows a warning."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, os.path.dirname(__file__), str(count)],
        input=pickle.dumps(small_files()),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    assert int(done.stdout) > 0
