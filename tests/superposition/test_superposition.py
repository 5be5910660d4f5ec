"""A superposition holds tickets over one random network, and lets its model be any of them."""

from dataclasses import replace

import pytest
import torch
from small_tasks import any_tickets, normed, small, weights_of
from torch import nn

from supermask import EdgePopup, SupermaskError, Ticket, TicketError
from supermask.random.transform import Treatment
from supermask.superposition import Superposition


def images(count=5):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_model_computes_with_the_task_that_is_selected():
    tickets = any_tickets(normed)
    superposition = Superposition(normed(), tickets)
    for task in (2, 0, 1, 0):
        alone = tickets[task].apply(normed())
        chosen = superposition.select(task)
        assert chosen is superposition.model
        state = alone.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in chosen.state_dict().items())
        assert torch.equal(chosen.eval()(images()), alone.eval()(images()))


def test_two_tasks_differ_in_their_masks_and_in_their_statistics():
    superposition = Superposition(normed(), any_tickets(normed, count=2))
    first, second = weights_of(superposition), {}
    superposition.select(1)
    second = weights_of(superposition)
    for name in ("0.weight", "5.weight", "1.running_mean"):
        assert not torch.equal(first[name], second[name])


def test_selecting_repairs_what_was_done_to_the_model():
    superposition = Superposition(normed(), any_tickets(normed))
    before = weights_of(superposition)
    with torch.no_grad():
        for tensor in [*superposition.model.parameters(), superposition.model[1].running_var]:
            tensor.add_(1.0)
    superposition.select(0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(superposition).items())


def test_a_task_that_is_added_leaves_the_model_and_the_others_as_they_were():
    tickets = any_tickets(normed)
    superposition = Superposition(normed(), tickets[:2])
    superposition.select(1)
    before, outputs = weights_of(superposition), superposition.outputs(images(), 0)
    assert superposition.add(tickets[2]) == 2
    assert len(superposition) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(superposition).items())
    assert torch.equal(superposition.outputs(images(), 0), outputs)


def test_each_input_can_be_of_its_own_task():
    superposition = Superposition(normed(), any_tickets(normed))
    tasks = torch.tensor([2, 0, 2, 1, 0])
    mixed = superposition.outputs(images(), tasks)
    for place, task in enumerate(tasks.tolist()):
        torch.testing.assert_close(mixed[place], superposition.outputs(images(), task)[place])
    assert superposition.outputs(images(0), tasks[:0]).shape == (0, 30)
    with pytest.raises(SupermaskError, match="give one for each"):
        superposition.outputs(images(), tasks[:3])


def test_a_task_can_be_replaced_and_others_tried_without_keeping_them():
    tickets = any_tickets(small)
    superposition = Superposition(small(), tickets[:2])
    more = superposition.extended([tickets[2]])
    assert (len(superposition), len(more)) == (2, 3)
    superposition.replace(1, tickets[2])
    assert superposition.tickets[1] is tickets[2]
    assert more.tickets[1] is tickets[1]
    with pytest.raises(TicketError, match="share seed 0"):
        superposition.replace(0, any_tickets(small, seed=1)[0])


@pytest.mark.parametrize("task", [-1, 3, True, 1.0, None])
def test_tasks_that_are_not_there_are_refused(task):
    superposition = Superposition(small(), any_tickets(small))
    for use in (superposition.select, lambda task: superposition.outputs(images(), task)):
        with pytest.raises(SupermaskError, match="the tasks are 0 to 2"):
            use(task)


def of(build, **options):
    return EdgePopup(build(), density=options.pop("density", 0.5), **options).ticket()


class Wider(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 49), nn.ReLU(), nn.Linear(49, 30))


@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        (of(small, seed=1), "is of seed 1; the tasks here share seed 0"),
        (of(small, density=0.25), r"other random weights than the tasks here \(1.weight\)"),
        (of(small, weights="kaiming_normal"), "other random weights"),
        (of(Wider), "other random weights"),
        (of(small, dense=("3.weight",)), r"other random weights than the tasks here \(3.weight\)"),
        (replace(of(small), masks={"1.weight": of(small).masks["1.weight"]}), r"other masks .*\(3.weight\)"),
        (of(small, bias="learned"), r"other learned tensors than the tasks here \(1.bias\)"),
        (replace(of(small), digest="0" * 64), "another digest"),
    ],
)
def test_tickets_over_another_random_network_are_refused(stranger, message):
    superposition = Superposition(small(), any_tickets(small))
    with pytest.raises(TicketError, match=message):
        superposition.add(stranger)
    assert len(superposition) == 3


def test_a_ticket_that_does_more_than_mask_is_refused():
    ticket = of(small)
    treated = replace(ticket, treatments={"1.weight": Treatment(gain=2.0)})
    with pytest.raises(TicketError, match="more to its random weights than mask them"):
        Superposition(small(), [treated])
    with pytest.raises(TicketError, match="more to its random weights than mask them"):
        Superposition(small(), [ticket, treated])


def test_a_first_ticket_that_does_not_fit_leaves_the_superposition_empty():
    superposition = Superposition(Wider())
    with pytest.raises(TicketError, match="another architecture"):
        superposition.add(of(small))
    assert len(superposition) == 0
    assert superposition.add(of(Wider)) == 0


def test_the_model_may_change_its_dtype():
    superposition = Superposition(normed(), any_tickets(normed))
    single = superposition.outputs(images(), 1)
    superposition.model.double()
    torch.testing.assert_close(superposition.outputs(images().double(), 1).float(), single)
    assert superposition.infer(images().double()) in range(3)


def test_tickets_stay_what_they_were():
    tickets = any_tickets(normed)
    before = [{name: mask.clone() for name, mask in ticket.masks.items()} for ticket in tickets]
    superposition = Superposition(normed(), tickets)
    superposition.infer(images())
    superposition.select(2)
    assert all(isinstance(ticket, Ticket) for ticket in superposition.tickets)
    for ticket, masks in zip(tickets, before, strict=True):
        assert all(torch.equal(ticket.masks[name], mask) for name, mask in masks.items())
