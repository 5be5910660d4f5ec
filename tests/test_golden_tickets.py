"""Tickets are written as the same bytes as ever: SHA-256 of each search's and each construction's file."""

import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from supermask import EdgePopup
from supermask.masking import CubicRamp, Global
from supermask.masking.granularity import Blocks, Channels, NofM
from supermask.search import (
    SEARCHES,
    Anchored,
    Biprop,
    Coded,
    Gates,
    GemMiner,
    IteRand,
    LearnedSupermask,
    MulticoatedSupermask,
    NodePerturbation,
    PartiallyFrozen,
    SignedSupermask,
    StructuredPopup,
    TrichromaticSupermask,
)
from theory import construct, construct_exact
from theory.constructions import CONSTRUCTIONS

GOLDEN = Path(__file__).with_name("golden_tickets.json")
STEPS = 12

LINES = {
    "edge_popup": (EdgePopup, {"density": 0.3}),
    "edge_popup, global": (EdgePopup, {"density": 0.3, "scope": Global(1), "equalised": True}),
    "edge_popup, global, gradual": (EdgePopup, {"density": 0.3, "scope": Global(1), "schedule": CubicRamp(4)}),
    "anchored": (Anchored, {"density": 0.3}),
    "learned": (LearnedSupermask, {}),
    "learned, rounded": (LearnedSupermask, {"evaluated": "rounded", "rescaled": False}),
    "gates": (Gates, {"density": 0.3, "steps": STEPS}),
    "coded": (Coded, {"bytes": 2000, "steps": STEPS, "memory": 6}),
    "gem_miner": (GemMiner, {"density": 0.3, "steps": STEPS, "freeze_every": 3}),
    "iterand": (IteRand, {"density": 0.3, "every": 3, "rate": 0.5}),
    # the means of its weights are exact: each is 1/2
    "biprop": (Biprop, {"density": 0.3, "dense": ("conv.*",), "weights": "signed_constant", "scaled": False}),
    "signed": (SignedSupermask, {"density": 0.3}),
    "signed, by threshold": (SignedSupermask, {"threshold": 0.2}),
    "multicoated": (MulticoatedSupermask, {"density": 0.3}),
    "trichromatic": (TrichromaticSupermask, {"density": 0.3}),
    "partially_frozen": (PartiallyFrozen, {"density": 0.3}),
    "channels": (StructuredPopup, {"density": 0.5, "structure": Channels("out")}),
    "blocks": (StructuredPopup, {"density": 0.3, "structure": Blocks(2, 3)}),
    "n of m": (StructuredPopup, {"structure": NofM(1, 3)}),
    "node_perturbation": (NodePerturbation, {"density": 0.3}),
}


class Net(nn.Module):
    """A grouped convolution, a normalisation, a tied pair and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.fc = nn.Linear(8, 18)


def searched(kind, options):
    """Return the ticket of scores that are set at every step: training would sum in another order elsewhere."""
    search = kind(Net(), seed=3, **options)
    for step in range(STEPS):
        for number, score in enumerate(search.scores().values()):
            draw = np.random.Generator(np.random.Philox(key=[step, number]))
            values = (2 * draw.permutation(score.numel()) + 1) / 512 * draw.choice([-1, 1], score.numel())  # exact
            values *= 4 if kind is GemMiner else 1  # so that some of each layer are above 1/2
            score.data.copy_(torch.from_numpy(values).reshape(score.shape))
        search.step()
    return search.ticket()


def constructed(name):
    """Return the ticket of a small target whose weights are multiples of 1/64; "exact" of integers."""
    layers = [nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)]
    if name == "linear_diamond":
        del layers[1]
    if name == "convolution":
        layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    target = nn.Sequential(*layers)
    draw = np.random.Generator(np.random.Philox(key=[7, 0]))
    for parameter in target.parameters():
        parameter.data.copy_(torch.from_numpy(draw.integers(-32, 33, tuple(parameter.shape)) / 64))
    if name == "exact":
        return construct_exact(target, bits=7, seed=3, width=40, progress=False).ticket
    shape = (1, 4, 4) if name == "convolution" else None
    return construct(target, 0.05, construction=name, seed=3, width=40, input_shape=shape, progress=False).ticket


CASES = {name: lambda line=line: searched(*line) for name, line in LINES.items()}
CASES |= {name: lambda name=name: constructed(name) for name in (*CONSTRUCTIONS, "exact")}


def written(ticket, folder):
    """Return the digest of the random weights and the file, hashed; the file holds no versions."""
    replace(ticket, provenance={"x": 1}).save(folder / "a.ticket")
    return hashlib.sha256(ticket.digest.encode() + (folder / "a.ticket").read_bytes()).hexdigest()


def deflater():
    """Return what tells one implementation of zlib from another: equal contents are equal bytes with the same alone."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    text = json.dumps([[number * number, f"fc{number}.weight"] for number in range(2000)]).encode()
    return hashlib.sha256(deflater.compress(text) + deflater.flush()).hexdigest()


def test_there_is_a_line_for_every_search():
    assert {kind for kind, _ in LINES.values()} == set(SEARCHES.values())
    assert json.loads(GOLDEN.read_text()).keys() == {"zlib", *CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_ticket_is_the_same_bytes_as_ever(name, tmp_path):
    golden = json.loads(GOLDEN.read_text())
    if golden["zlib"] != deflater():
        pytest.skip("this zlib deflates to other bytes")
    assert written(CASES[name](), tmp_path) == golden[name]
