"""A built network is for inputs of the certified shape: convolutions and poolings would run on others too."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from supermask import Ticket
from supermask.cli import main
from supermask.deploy import export
from supermask.errors import SupermaskError
from supermask.models.wired import Chain, Wired
from supermask.runs.ticket_model import network_of
from theory import ascent, construct
from theory.attention import construct_transformer
from theory.exact import IntegerInputs, construct_exact

REFUSED = r"^The network is for inputs of shape \(batch, .*\), not \(.*\); give inputs of that shape\.$"


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    """Here the search from below is not under test."""
    monkeypatch.setattr(ascent, "STEPS", 3)


class Skip(nn.Module):
    """A residual network that takes images of every size."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Linear(2, 2)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        return self.head(torch.relu(y + self.body(y)).mean((2, 3)))


class Beside(nn.Module):
    """Two convolutions of the input, side by side."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 1, 3), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.head(torch.relu(torch.cat([self.one(x), self.two(x)], dim=1)))


def chain(side=8):
    """Return a network that takes images of this side, and of one pixel more too, which the pooling leaves out."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * ((side - 2) // 2) ** 2, 3)
    )


CASES = {
    "a chain, by its default shape": (chain(8), None, (1, 8, 8), (1, 9, 9)),
    "a chain": (chain(8), (1, 9, 9), (1, 9, 9), (1, 8, 8)),
    "a graph": (Skip(), (1, 4, 4), (1, 4, 4), (1, 4, 5)),
    "two that read the input": (Beside(), (1, 4, 4), (1, 4, 4), (1, 5, 4)),
    "sequences": (nn.Sequential(nn.Conv1d(2, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 1)), (2, 6), (2, 6), (2, 7)),
    "vectors": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), None, (4,), (5, 4)),
    "a batch alone": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), None, (4,), ()),
}


def reloaded(ticket, folder):
    """Return the network of a ticket as the commands build it from the file."""
    ticket.save(folder / "network.ticket")
    return network_of(Ticket.load(folder / "network.ticket"), folder / "network.ticket", None).double()


def takes_only(networks, shape, other, whole=False):
    right, wrong = (torch.ones(3, *sizes, dtype=torch.float64) for sizes in (shape, other))
    for network in networks:
        assert torch.isfinite(network(right.long() if whole else right)).all()
        with pytest.raises(SupermaskError, match=REFUSED):
            network(wrong.long() if whole else wrong)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("target", "given", "shape", "other"), CASES.values(), ids=CASES)
def test_inputs_of_another_shape_are_refused_wherever_a_built_network_runs(
    target, given, shape, other, grouped, tmp_path
):
    built = construct(target, 0.5, construction="convolution", width=8, input_shape=given, grouped=grouped)
    assert built.input_shape == shape
    copies = (copy.deepcopy(built.network), pickle.loads(pickle.dumps(built.network)))
    takes_only([built.network, built.target, reloaded(built.ticket, tmp_path), *copies], shape, other)


@pytest.mark.parametrize("name", ["a chain", "sequences", "vectors"])
def test_so_they_are_by_an_exact_ticket(name, tmp_path):
    target, given, shape, other = CASES[name]
    built = construct_exact(target, bits=3, inputs=IntegerInputs(0, 3), input_shape=given)
    takes_only([built.network, reloaded(built.ticket, tmp_path)], shape, other)
    takes_only([built.quantised], shape, other, whole=True)
    x = torch.randint(0, 4, (20, *shape), generator=torch.Generator().manual_seed(0))
    assert built.certificate.upper >= float((built.network(x.double()) - built.quantised(x)).abs().max())
    assert built.certificate.exact


def test_what_is_flattened_first_may_have_any_shape_of_as_many_numbers(tmp_path):
    target = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    built = construct(target, 0.5, width=8)
    for network in (built.network, built.target, reloaded(built.ticket, tmp_path)):
        x = torch.arange(12.0, dtype=torch.float64).reshape(2, 6)
        assert torch.equal(network(x.reshape(2, 1, 2, 3)), network(x))
        for wrong in (x.reshape(2, 1, 6)[:, :, :5], x.reshape(12), x.reshape(3, 4)):
            with pytest.raises(SupermaskError, match=REFUSED):
                network(wrong)


def test_evaluate_refuses_data_of_another_shape_in_one_sentence(tmp_path, capsys, blank_plots):
    path = tmp_path / "network.ticket"
    head = nn.Sequential(*chain(8)[:-1], nn.Linear(18, 10))
    construct(head, 0.5, construction="convolution", width=8, input_shape=(1, 8, 8)).ticket.save(path)
    assert main(["evaluate", str(path), "--data", "digits", "--device", "cpu", "--threads", "1"]) == 0
    construct(head, 0.5, construction="convolution", width=8, input_shape=(1, 9, 9)).ticket.save(path)
    capsys.readouterr()
    assert main(["evaluate", str(path), "--data", "digits", "--device", "cpu", "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "is for inputs of shape (batch, 1, 9, 9), not (2, 1, 8, 8)" in said
    assert "Traceback" not in said


def test_a_part_that_is_cut_out_takes_what_its_modules_take():
    network = construct(chain(8), 0.5, construction="convolution", width=8).network
    assert isinstance(network, Chain)
    assert network[:2](torch.ones(1, 1, 5, 5, dtype=torch.float64)).shape[2:] == (5, 5)


@pytest.mark.parametrize("target", [chain(8), Skip()])
def test_a_network_with_a_shape_is_exported_and_traced_as_before(target, tmp_path):
    network = construct(target, 0.5, construction="convolution", width=8, input_shape=(1, 8, 8)).network.float()
    assert isinstance(network, Chain | Wired)
    x = torch.ones(2, 1, 8, 8)
    program = torch.export.export(network, (x,), strict=False)
    assert torch.equal(program.module()(x), network(x))
    assert torch.equal(torch.fx.symbolic_trace(network)(x), network(x))
    found = export(network, Path(tmp_path) / "network.onnx", example=x)
    assert found.difference < 1e-5


def test_a_transformer_refuses_what_is_no_batch_of_sequences():
    attention = nn.MultiheadAttention(4, 1, batch_first=True)
    network = construct_transformer(attention, 0.5, width=6).network
    assert network(torch.ones(2, 3, 4, dtype=torch.float64)).shape == (2, 3, 4)
    for wrong in ((3, 4), (2, 2, 3, 4)):
        with pytest.raises(SupermaskError, match=r"^The network takes tokens of shape \(batch, T, units\), not .*\.$"):
            network(torch.ones(*wrong, dtype=torch.float64))
