"""A network whose pruned weights stay zero, whatever trains it."""

import copy
import struct
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from supermask import models
from supermask.baselines import Dense
from supermask.baselines.sparse import Sparse, whole_ticket


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    )


def sparse(density=0.3, seed=5):
    ticket = whole_ticket(network(), seed=seed)
    generator = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(mask.shape, generator=generator) < density for name, mask in ticket.masks.items()}
    return Sparse(network(), replace(ticket, masks=masks)), masks


OPTIMIZERS = {
    "momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "adam, fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_pruned_weights_stay_plus_zero_through_training_averaging_and_export(kind):
    subject, masks = sparse()
    optimizer = OPTIMIZERS[kind](list(subject.parameters()))
    averaged = AveragedModel(subject.model)
    images, labels = torch.randn(32, 1, 6, 6), torch.randint(0, 10, (32,))
    before = copy.deepcopy(subject.weights())
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(subject.model(images), labels).backward()
        optimizer.step()
        subject.step()
        averaged.update_parameters(subject.model)
    exported = subject.state_dict()["model"]
    for name, mask in masks.items():
        for weight in (subject.weights()[name], averaged.module.get_parameter(name), exported[name]):
            bits = {struct.pack("<f", value) for value in weight.detach()[~mask].tolist()}
            assert bits == {struct.pack("<f", 0.0)}
        moved = (subject.weights()[name] != before[name])[mask]
        assert moved.float().mean() > 0.5


def test_a_whole_network_is_the_dense_baseline():
    ticket = whole_ticket(network(), seed=3)
    whole, dense = Sparse(network(), ticket), Dense(network(), seed=3)
    for name, tensor in dense.model.state_dict().items():
        assert tensor.equal(whole.model.state_dict()[name])
    assert whole.count == dense.count
    assert [p.requires_grad for p in whole.model.parameters()] == [True] * 6


def test_its_ticket_is_the_network_before_training():
    subject, masks = sparse()
    first = copy.deepcopy(subject.model.state_dict())
    with torch.no_grad():
        for parameter in subject.parameters():
            parameter.add_(1.0)
    subject.step()
    ticket = subject.ticket(data="none")
    again = ticket.apply(network()).state_dict()
    assert all(again[name].equal(tensor) for name, tensor in first.items())
    assert all(ticket.masks[name].equal(mask) for name, mask in masks.items())
    assert ticket.provenance["data"] == "none"


def test_state_goes_to_another_and_back():
    subject, masks = sparse()
    with torch.no_grad():
        for parameter in subject.parameters():
            parameter.add_(0.5)
    subject.step()
    other, _ = sparse(density=0.9, seed=8)
    other.load_state_dict(copy.deepcopy(subject.state_dict()))
    assert other.steps == 1
    assert all(other.masks()[name].equal(mask) for name, mask in masks.items())
    assert all(a.equal(b) for a, b in zip(subject.parameters(), other.parameters(), strict=True))


def test_new_masks_silence_at_once_and_are_copies():
    subject, masks = sparse()
    subject.step()
    fewer = {name: mask.clone() for name, mask in masks.items()}
    fewer["0.weight"][:] = False
    subject.set_masks(fewer)
    fewer["4.weight"][:] = False
    assert not subject.weights()["0.weight"].any()
    assert subject.masks()["4.weight"].equal(masks["4.weight"])
    assert subject.count == 18 + int(masks["4.weight"].sum()) + 4


def test_weights_loaded_are_pruned_by_its_own_masks():
    subject, masks = sparse()
    subject.load_weights({name: torch.ones_like(t) for name, t in subject.model.state_dict().items()})
    assert subject.weights()["4.weight"].equal(masks["4.weight"].float())


def test_dense_weights_count_among_none_and_frozen_parameters_stay_frozen():
    model = models.build("lenet_300_100")
    model.fc2.bias.requires_grad_(False)
    ticket = whole_ticket(model, seed=0, dense=("fc3.weight",))
    assert list(ticket.masks) == ["fc1.weight", "fc2.weight"]
    assert not model.fc2.bias.requires_grad
    assert model.fc3.weight.requires_grad
