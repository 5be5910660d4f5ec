"""Tickets carried to other heads, seeds and initialisations."""

from dataclasses import replace

import pytest
import torch
from torch import nn

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
    assert carried(pruned(), whole_ticket(lenet(width=0.2), seed=0), stretch=True).left == ()
    signed = supermask.search.SignedSupermask(lenet(), density=0.2, seed=0).ticket()
    with pytest.raises(TicketError, match="changes weights besides pruning them"):
        carried(signed, whole_ticket(lenet(), seed=0))


def test_signs_of_one_on_magnitudes_of_the_other():
    first, second = torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[-3.0, 4.0, -5.0]])
    assert with_signs({"a": first, "b": second}, {"a": second})["a"].tolist() == [[3.0, -4.0, 5.0]]
    with pytest.raises(TicketError, match="no signs of the shape of b"):
        with_signs({"a": first}, {"b": second})


class Convolutions(nn.Module):
    """Two convolutions, the second in two groups, and a head that reads them flattened."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(1, 2 * width, 3)
        self.second = nn.Conv2d(2 * width, 4 * width, 3, groups=2)
        self.head = nn.Linear(4 * width * 4, 3)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu()).relu().flatten(1))


@pytest.mark.parametrize(("old", "new"), [(2, 4), (2, 3), (3, 2), (2, 2), (3, 1)])
def test_units_of_another_width_have_the_places_of_units_of_the_first(old, new):
    def unit(number):
        return number * old // new

    ticket, whole = (whole_ticket(Convolutions(width), seed=3) for width in (old, new))
    ticket = replace(ticket, masks={name: torch.rand(m.shape) < 0.5 for name, m in ticket.masks.items()})
    found = carried(ticket, whole, stretch=True)
    assert found.left == ()
    assert found.same_weights == (old == new)
    first, second, head = found.ticket.masks.values()
    theirs = [*ticket.masks.values()]
    for o in range(2 * new):
        assert torch.equal(first[o], theirs[0][unit(o)])
    for o in range(4 * new):
        for i in range(new):
            assert torch.equal(second[o, i], theirs[1][unit(o), unit(i)])
            assert unit(o) // (2 * old) == o // (2 * new), "a unit stays in its group"
        for place in range(4):
            assert torch.equal(head[:, o * 4 + place], theirs[2][:, unit(o) * 4 + place])


def test_a_wider_network_with_other_inputs_and_classes_takes_what_lies_between():
    whole = whole_ticket(models.build("lenet_300_100", width=0.2, input_shape=(1, 9, 9), classes=4), seed=0)
    found = carried(pruned(), whole, stretch=True)
    assert found.taken == ("fc2.weight",)
    assert found.density == pytest.approx(float(found.ticket.masks["fc2.weight"].float().mean()))
    assert torch.equal(found.ticket.masks["fc2.weight"][::2, ::2], pruned().masks["fc2.weight"])


def test_layers_of_another_kind_are_left():
    class Other(nn.Module):
        def __init__(self, middle):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), middle, nn.Linear(6, 2)

    ticket = whole_ticket(Other(nn.Linear(6, 6)), seed=0)
    ticket = replace(ticket, masks={name: torch.zeros_like(mask) for name, mask in ticket.masks.items()})
    found = carried(ticket, whole_ticket(Other(nn.Conv1d(6, 6, 2)), seed=0), stretch=True)
    assert "b.weight" in found.left
