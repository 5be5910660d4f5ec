"""The experiment of residual targets, with a network that is built in seconds."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from experiments import residual_targets
from experiments.residual_targets import Surrounded
from supermask import Ticket


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(2 * 16, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head((x + self.second(x)).relu().flatten(1))


@dataclass(frozen=True)
class Tiny:
    def config(self):
        return {"model": "tiny"}

    def read(self, folder, data_folder):
        torch.manual_seed(0)
        return Skip(), torch.rand(5, 1, 4, 4, dtype=torch.float64)


def run(path):
    return Surrounded(Tiny()).run(path, device="cpu", data_folder=None)


def test_a_residual_network_is_measured_from_its_ticket(tmp_path):
    found = run(tmp_path)
    assert found.same == found.images == len(found.differences) == 5
    assert list(found.differences) == sorted(found.differences)
    assert found.lower <= found.differences[-1] * 1.001 + 1e-9  # both are at the five images
    assert found.differences[-1] <= found.upper
    assert found.weights == 2 * 9 + 2 + 2 * 2 * 9 + 2 + 32 * 3 + 3
    assert found.layers == 3
    assert found.bytes == (tmp_path / "network.ticket").stat().st_size
    assert found.kept == Ticket.load(tmp_path / "network.ticket").kept


def test_a_ticket_that_is_there_is_not_built_again(tmp_path, monkeypatch):
    first = run(tmp_path)
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr(residual_targets, "construct", lambda *args, **keywords: pytest.fail("built again"))
    again = run(tmp_path)
    assert again.differences == first.differences
    assert again.seconds == first.seconds
