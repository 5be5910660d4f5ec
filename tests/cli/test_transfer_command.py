"""The command `transfer`: what it carries, trains and writes, and what it refuses."""

import json
from dataclasses import replace

import pytest
import torch

from supermask import Ticket, models
from supermask.baselines.sparse import whole_ticket
from supermask.cli.main import main
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune


@pytest.fixture
def ticket_file(tmp_path):
    """A ticket of a narrow LeNet for eight classes of 8x8 images: half of each layer."""
    sizes = {"input_shape": (1, 8, 8), "classes": 8, "width": 0.05}
    whole = whole_ticket(models.build("lenet_300_100", **sizes), seed=7)
    scores = {name: weight.abs() for name, weight in whole.random_weights().items() if name in whole.masks}
    masks = prune(scores, [Pool((name,), score.numel() // 2) for name, score in scores.items()])
    provenance = {"model": {"name": "lenet_300_100", **sizes, "input_shape": [1, 8, 8]}, "data": "other"}
    path = tmp_path / "network.ticket"
    replace(whole, masks=masks, provenance=provenance).save(path)
    return path


def test_masks_are_carried_the_head_is_whole_and_controls_stand_beside(ticket_file, capsys):
    given = ["transfer", str(ticket_file), "--data", "digits", "--iterations", "30", "--device", "cpu"]
    assert main(given) == 0
    found = json.loads((ticket_file.parent / "transfer.json").read_text())
    assert found["taken"] == ["fc1.weight", "fc2.weight"]
    assert found["left"] == ["fc3.weight"]
    assert found["same_weights"]
    assert found["density"] == pytest.approx(0.5, abs=0.01)
    assert {*found["test"]} == {"ticket", "reinitialised", "random"}
    assert found["test"]["ticket"]["total"] == 360
    shown = capsys.readouterr().out
    assert "2 layers at density 49.95%, over its own weights, whole: fc3.weight." in shown
    theirs, ours = Ticket.load(ticket_file), Ticket.load(ticket_file.parent / "carried.ticket")
    assert torch.equal(ours.masks["fc1.weight"], theirs.masks["fc1.weight"])
    assert ours.masks["fc3.weight"].shape == (10, 5)
    assert ours.masks["fc3.weight"].all()


def test_another_distribution_is_said_to_be_other_weights(ticket_file, capsys):
    given = ["transfer", str(ticket_file), "--iterations", "1", "--initial", "xavier_normal", "--device", "cpu"]
    assert main(given) == 0
    assert "over weights of its seed, xavier_normal" in capsys.readouterr().out


def test_a_wider_network_repeats_units(ticket_file, capsys):
    given = ["transfer", str(ticket_file), "--width", "0.1", "--iterations", "1", "--device", "cpu"]
    assert main(given) == 0
    found = json.loads((ticket_file.parent / "transfer.json").read_text())
    assert (found["width"], found["taken"], found["same_weights"]) == (0.1, ["fc1.weight", "fc2.weight"], False)
    assert "over weights of its seed, kaiming_normal" in capsys.readouterr().out
    theirs, ours = Ticket.load(ticket_file), Ticket.load(ticket_file.parent / "carried.ticket")
    assert torch.equal(ours.masks["fc1.weight"], theirs.masks["fc1.weight"].repeat_interleave(2, 0))


def test_a_ticket_without_a_network_is_refused(ticket_file, capsys):
    without = replace(Ticket.load(ticket_file), provenance={})
    without.save(ticket_file)
    assert main(["transfer", str(ticket_file)]) == 2
    assert "names no network; take a ticket that a command of supermask wrote." in capsys.readouterr().err
