"""Tickets carried to other heads, seeds and initialisations."""

from dataclasses import replace

import pytest
import torch

import supermask
from supermask import models
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.errors import TicketError
from supermask.judge.transfer import carried, with_signs


def lenet(classes=10, width=0.1):
    return models.build("lenet_300_100", width=width, input_shape=(1, 8, 8), classes=classes)


def pruned(seed=0):
    whole = whole_ticket(lenet(), seed=seed)
    generator = torch.Generator().manual_seed(1)
    return replace(
        whole, masks={name: torch.rand(m.shape, generator=generator) < 0.3 for name, m in whole.masks.items()}
    )


@pytest.mark.parametrize("classes", [3, 17])
def test_a_head_of_another_size_is_drawn_again_and_whole(classes):
    ticket = pruned()
    found = carried(ticket, whole_ticket(lenet(classes), seed=ticket.seed))
    assert found.taken == ("fc1.weight", "fc2.weight")
    assert found.left == ("fc3.weight",)
    assert found.same_weights
    network, mine = found.ticket.apply(lenet(classes)), ticket.apply(lenet())
    for layer in ("fc1", "fc2"):
        assert torch.equal(network.get_submodule(layer).weight, mine.get_submodule(layer).weight)
    assert bool(network.fc3.weight.all())
    kept = sum(int(ticket.masks[name].sum()) for name in found.taken)
    assert found.ticket.kept == kept + classes * 10
    assert found.density == kept / (30 * 64 + 10 * 30)


def test_with_the_same_head_it_is_the_ticket_and_with_another_seed_its_masks_alone():
    ticket = pruned()
    assert carried(ticket, whole_ticket(lenet(), seed=0)).ticket.masks.keys() == ticket.masks.keys()
    same, other = (carried(ticket, whole_ticket(lenet(), seed=seed)) for seed in (0, 5))
    assert same.same_weights
    assert not other.same_weights
    for found in (same, other):
        assert found.left == ()
        assert all(torch.equal(mask, ticket.masks[name]) for name, mask in found.ticket.masks.items())
    ours, theirs = ticket.apply(lenet()), other.ticket.apply(lenet())
    mask = ticket.masks["fc1.weight"]
    assert not torch.isclose(ours.fc1.weight[mask], theirs.fc1.weight[mask]).any()


def test_another_distribution_is_told():
    ticket = pruned()
    assert not carried(ticket, whole_ticket(lenet(), seed=0, weights="xavier_normal")).same_weights


def test_what_was_carried_is_trained_with_its_zeros():
    found = carried(pruned(), whole_ticket(lenet(4), seed=0))
    network = Sparse(lenet(4), found.ticket)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        network.model(torch.randn(5, 1, 8, 8)).square().sum().backward()
        optimizer.step()
        network.step()
    assert not network.model.fc1.weight[~found.ticket.masks["fc1.weight"]].any()


def test_a_strong_ticket_that_only_prunes_is_carried_too():
    search = supermask.EdgePopup(lenet(), density=0.3, seed=2)
    found = carried(search.ticket(), whole_ticket(lenet(5), seed=2))
    assert all(torch.equal(found.ticket.masks[name], search.masks()[name]) for name in found.taken)


def test_networks_without_a_layer_in_common_and_treated_weights_are_refused():
    with pytest.raises(
        TicketError, match=r"begin with fc1.weight \(30, 64\).*the network's with fc1.weight \(60, 64\)"
    ):
        carried(pruned(), whole_ticket(lenet(width=0.2), seed=0))
    signed = supermask.search.SignedSupermask(lenet(), density=0.2, seed=0).ticket()
    with pytest.raises(TicketError, match="changes weights besides pruning them"):
        carried(signed, whole_ticket(lenet(), seed=0))


def test_signs_of_one_on_magnitudes_of_the_other():
    first, second = torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[-3.0, 4.0, -5.0]])
    assert with_signs({"a": first, "b": second}, {"a": second})["a"].tolist() == [[3.0, -4.0, 5.0]]
    with pytest.raises(TicketError, match="no signs of the shape of b"):
        with_signs({"a": first}, {"b": second})
