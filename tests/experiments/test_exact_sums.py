"""Experiments on exact subset sums: by their number of terms, of integers, and of peers' weights."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from experiments import cnn_weights, exact_tickets, natale_subsets, subset_sum_terms
from supermask import data
from supermask.random.stream import philox
from theory.exact import construct_exact


def test_natales_successes_are_those_of_all_subsets(tmp_path, report):
    task = natale_subsets.Subsets(3, 0.05, draws=30)
    result = task.run(tmp_path, device="cpu", data_folder=None)
    n = task.items[0]
    numbers = np.random.Generator(philox(0, "natale_subsets", n)).uniform(-1, 1, (30, n))
    sums = np.stack([numbers[:, list(c)].sum(axis=1) for c in itertools.combinations(range(n), 3)])
    wanted = [(np.abs(sums - target).min(axis=0) < 0.05).sum() for target in task.targets]
    assert [row[0] for row in result.successes] == wanted
    tasks = [replace(group.tasks[0], size=2, epsilon=0.1, draws=10) for group in natale_subsets.EXPERIMENT.groups]
    assert "c_hyp, c_thm open" in report(natale_subsets.EXPERIMENT, tasks)


def test_rates_by_terms_have_their_rows(report):
    items = (4, 5)
    tasks = [replace(group.tasks[0], items=items, work=0, repeats=1) for group in subset_sum_terms.EXPERIMENT.groups]
    shown = report(subset_sum_terms.EXPERIMENT, [replace(t, value=min(t.value, 2)) for t in tasks])
    assert "| exactly n/2 terms" in shown
    assert "2.00 of 5" in shown


def test_the_convolutions_of_a_network_alone_are_solved(monkeypatch, report):
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    monkeypatch.setattr(cnn_weights, "read_network", lambda file, folder: network)
    assert len(cnn_weights.convolutional(network)) == 18
    tasks = [replace(group.tasks[0], items=10) for group in cnn_weights.EXPERIMENT.groups]
    assert " of 18 " in report(cnn_weights.EXPERIMENT, tasks)


@dataclass(frozen=True)
class OnDigits:
    """An untrained network on the digits, in the place of the one that the experiment trains."""

    def config(self):
        return {"model": "untrained"}

    def read(self, folder, data_folder, seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10)), data.load("digits")

    def prepare(self, data_set, images):
        return data_set.normalize(images).double()


def test_an_exact_ticket_has_no_differences(tmp_path, report):
    task = exact_tickets.Exactly(OnDigits(), 6)
    result = task.run(tmp_path, device="cpu", data_folder=None)
    assert (result.differences, result.upper, result.missed) == (0, 0.0, 0)
    assert result.weights == 64 * 6 + 6 + 6 * 10 + 10
    assert result.tried[0] == result.tried[-1] > 0
    assert result.failed[0] >= result.failed[-1]
    assert result.predicted[0] > result.predicted[-1]
    tasks = [replace(group.tasks[0], source=OnDigits()) for group in exact_tickets.EXPERIMENT.groups]
    assert "8 bits" in report(exact_tickets.EXPERIMENT, tasks)


@pytest.mark.parametrize("bits", [4, 8])
def test_failures_are_those_of_all_subsets(bits, monkeypatch):
    monkeypatch.setattr(exact_tickets, "ITEMS", (3, 9))
    torch.manual_seed(0)
    built = construct_exact(nn.Sequential(nn.Linear(5, 8)), bits=bits, grouped=True)
    found = exact_tickets.failures(built)
    first, second = (
        built.ticket.random_weights()[name].numpy() for name in built.ticket.random_weights() if "weight" in name
    )
    hops, (width,) = second.reshape(8, 6, -1), built.widths
    kernel = built.quantised.target.layers[0].kernel.reshape(8, 5)
    for n, tried, failed in zip((3, 9), found["tried"], found["failed"], strict=True):
        masks = np.array(list(itertools.product([0, 1], repeat=n)))
        missed = 0
        for column in range(5):
            units = np.flatnonzero(first.reshape(6, width)[column] > 0)[:n]
            sums = hops[:, column, units] @ masks.T
            missed += int(((sums != kernel[:, [column]]).all(axis=1) & (kernel[:, column] != 0)).sum())
        assert (tried, failed) == (np.count_nonzero(kernel), missed)
