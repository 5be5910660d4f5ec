"""`supermask construct --exact`."""

import json

import pytest
import safetensors.torch
import torch

from supermask import Ticket
from supermask.cli import main

QUICK = ["construct", "--exact", "--threads", "1", "--out", "here", "--target", "target.safetensors"]


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_target(tmp_path, monkeypatch, blank_plots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)
    generator = torch.Generator().manual_seed(0)
    state = {
        f"fc{i}.weight": torch.randn(b, a, generator=generator) / a**0.5
        for i, (a, b) in enumerate([(64, 12), (12, 10)])
    }
    safetensors.torch.save_file(state, "target.safetensors")


def status(*arguments):
    try:
        return main(list(arguments))
    except SystemExit as end:
        return end.code


def test_a_ticket_that_evaluate_takes(capsys):
    assert status(*QUICK, "--data", "digits", "--grouped") == 0
    shown = capsys.readouterr().out
    assert "equal on every input" in shown
    with open("here/construction.json") as file:
        found = json.load(file)
    assert found["exact"] is True
    assert found["certificate"]["upper"] == 0
    assert found["test"]["differences"] == 0
    assert found["bits"] == 8
    ticket = Ticket.load("here/network.ticket")
    assert ticket.provenance["pixels"] == "integers"
    assert status("evaluate", "here/network.ticket", "--threads", "1") == 0
    with open("here/evaluation.json") as file:
        evaluated = json.load(file)
    assert evaluated["correct"] == found["test"]["correct"]
    assert evaluated["total"] == found["test"]["total"]


def test_without_data_pixels_are_raw(capsys):
    assert status(*QUICK, "--pixels", "raw", "--bits", "4", "--seed", "3") == 0
    assert "target.safetensors, 4 bits, exactly" in capsys.readouterr().out
    assert status(*QUICK) == 2
    assert "give --data, or raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epsilon", "0.1"], "--epsilon is for tickets that miss their target; leave it out with --exact."),
        (["--both-halves"], "--both-halves is for tickets that miss their target"),
        (["--bits", "1"], "bits=1 must be an integer from 2 to 16"),
    ],
)
def test_options_that_have_no_place_are_refused(options, sentence, capsys):
    assert status(*QUICK, "--pixels", "raw", *options) == 2
    assert sentence in capsys.readouterr().err


def test_bits_without_exact_are_refused(capsys):
    assert status("construct", "--target", "target.safetensors", "--bits", "4") == 2
    assert "--bits is for exact tickets; give --exact too" in capsys.readouterr().err
