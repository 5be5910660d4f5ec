"""One file for the tickets of many tasks."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tasks import any_tickets, normed, small

from supermask import SupermaskError, Ticket, TicketError
from supermask.superposition import Superposition


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    superposition = Superposition(normed(), any_tickets(normed))
    path = tmp_path_factory.mktemp("tasks") / "three.tasks"
    superposition.save(path)
    return superposition, path


def test_what_is_loaded_is_what_was_saved(saved):
    superposition, path = saved
    loaded = Superposition.load(path, normed())
    inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert len(loaded) == len(superposition)
    for task, (there, here) in enumerate(zip(loaded.tickets, superposition.tickets, strict=True)):
        assert there.masks.keys() == here.masks.keys()
        assert all(torch.equal(there.masks[name], mask) for name, mask in here.masks.items())
        assert there.learned.keys() == here.learned.keys()
        assert all(torch.equal(there.learned[name], tensor) for name, tensor in here.learned.items())
        assert there.provenance == json.loads(json.dumps(dict(here.provenance)))
        assert torch.equal(loaded.outputs(inputs, task), superposition.outputs(inputs, task))
    assert loaded.infer_each(inputs).equal(superposition.infer_each(inputs))


def test_the_size_is_that_of_the_file(saved):
    superposition, path = saved
    assert superposition.size == path.stat().st_size
    assert superposition.bits_per_task == 8 * superposition.size / 3


def test_what_tasks_share_is_written_once():
    tickets = any_tickets(small, count=9)
    few, many = Superposition(small(), tickets[:1]), Superposition(small(), tickets)
    marginal = (many.size - few.size) / 8
    own = sum(len(str(dict(tickets[0].provenance))) for _ in range(1)) + 200  # provenance, and where the masks lie
    assert marginal <= tickets[0].prunable / 8 + own
    assert many.size < sum(ticket.size for ticket in tickets)


def test_tensors_that_are_equal_in_all_tasks_are_written_once():
    tickets = any_tickets(small, bias="learned")
    before = Superposition(small(), tickets).size
    apart = []
    for task, ticket in enumerate(tickets):
        learned = {name: tensor + task for name, tensor in ticket.learned.items()}
        apart.append(replace(ticket, learned=learned))
    floats = sum(tensor.numel() for tensor in tickets[0].learned.values())
    assert Superposition(small(), apart).size - before >= 4 * floats * 2


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_is_refused(saved, tmp_path, place, change):
    data = bytearray(saved[1].read_bytes())
    data[int(place * len(data))] ^= change
    (tmp_path / "bad.tasks").write_bytes(data)
    with pytest.raises(TicketError, match="is not a sound file of tasks"):
        Superposition.load(tmp_path / "bad.tasks", normed())


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_that_was_cut_is_refused(saved, tmp_path, left):
    (tmp_path / "cut.tasks").write_bytes(saved[1].read_bytes()[:left])
    with pytest.raises(TicketError, match="is not a sound file of tasks"):
        Superposition.load(tmp_path / "cut.tasks", normed())


def test_one_ticket_is_not_read_as_tasks_and_tasks_not_as_one_ticket(saved, tmp_path):
    saved[0].tickets[0].save(tmp_path / "one.ticket")
    with pytest.raises(TicketError, match=r"holds one ticket.*Ticket\.load"):
        Superposition.load(tmp_path / "one.ticket", normed())
    with pytest.raises(TicketError, match="is not a sound ticket"):
        Ticket.load(saved[1])


def test_a_missing_file_and_another_model_are_refused(saved, tmp_path):
    with pytest.raises(TicketError, match="Cannot read the file of tasks"):
        Superposition.load(tmp_path / "none.tasks", normed())
    with pytest.raises(TicketError, match="another architecture"):
        Superposition.load(saved[1], small())


def test_nothing_is_not_saved(tmp_path):
    with pytest.raises(SupermaskError, match="no task to write"):
        Superposition(small()).save(tmp_path / "empty.tasks")
    assert not list(tmp_path.iterdir())
