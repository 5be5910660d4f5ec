"""A ticket is a value: it can be compared, copied, pickled, sent through files that are open, and shown."""

import copy
import io
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from torch import nn

from supermask import EdgePopup, Ticket
from supermask.errors import TicketError
from supermask.search import SEARCHES


def network():
    torch.manual_seed(0)  # biases are learned from where the model has them
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def ticket(seed=0, **provenance):
    return EdgePopup(network(), density=0.4, seed=seed, bias="learned", norm="learned").ticket(**provenance)


def changed(one, **parts):
    return replace(one, **parts)


def test_tickets_are_equal_where_their_files_are(tmp_path):
    one = ticket()
    one.save(tmp_path / "a.ticket")
    assert one == ticket() == Ticket.load(tmp_path / "a.ticket")
    assert hash(one) == hash(ticket())
    assert len({one, ticket(), ticket(1)}) == 2
    assert one != one.to_bytes()
    mask = one.masks["0.weight"].clone()
    mask[0, 0] = ~mask[0, 0]
    learned = {**one.learned, "0.bias": one.learned["0.bias"] + 1}
    others = [
        ticket(1),
        ticket(data="mnist"),
        one.remasked({**one.masks, "0.weight": mask}),
        changed(one, learned=learned),
        changed(one, provenance={}),
    ]
    assert all(one != other and one.to_bytes() != other.to_bytes() for other in others)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
@pytest.mark.parametrize("name", ["edge_popup", "signed", "multicoated", "iterand", "biprop"])
def test_a_copy_is_equal_and_shares_no_tensor(name, way):
    options = {} if name == "signed" else {"density": 0.4}
    one = SEARCHES[name](network(), seed=3, **options).ticket(where={"epochs": [1, 2]})
    made = way(one)
    assert made == one
    assert made.to_bytes() == one.to_bytes()
    for parts in ("masks", "learned"):
        assert getattr(one, parts).keys() == getattr(made, parts).keys()
        for parameter, there in getattr(one, parts).items():
            here = getattr(made, parts)[parameter]
            assert torch.equal(there, here)
            assert there.data_ptr() != here.data_ptr() or not there.numel()
    assert type(made) is Ticket


def test_a_damaged_pickle_is_refused():
    data = pickle.dumps(ticket())
    place = data.index(b"0.weight") if b"0.weight" in data else len(data) // 2
    with pytest.raises(TicketError):
        pickle.loads(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def kept(one):
    return one.kept


def test_a_ticket_can_be_sent_to_another_process():
    one = ticket()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(kept, one).result() == one.kept


def test_torch_saves_it_beside_other_things():
    buffer = io.BytesIO()
    torch.save({"ticket": ticket(), "epoch": 3}, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False) == {"ticket": ticket(), "epoch": 3}


def test_open_files_take_and_give_tickets(tmp_path):
    buffer = io.BytesIO()
    ticket().save(buffer)
    assert buffer.getvalue() == ticket().to_bytes()
    buffer.seek(0)
    assert Ticket.load(buffer) == ticket()
    with pytest.raises(TicketError, match="that was given is not a sound ticket"):
        Ticket.load(buffer)  # at its end
    ticket().save(tmp_path / "a.ticket")
    with (tmp_path / "a.ticket").open("rb") as file:
        assert Ticket.load(file) == ticket()
    with (
        (tmp_path / "a.ticket").open(encoding="latin-1") as file,
        pytest.raises(TicketError, match=r"a\.ticket is open as text; open it in binary mode"),
    ):
        Ticket.load(file)


def test_a_notebook_shows_the_layers_and_nothing_of_a_name_runs():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<b>", nn.Linear(4, 3))

        def forward(self, x):
            return self._modules["<b>"](x)

    shown = EdgePopup(Odd(), density=0.5).ticket()._repr_html_()
    assert "&lt;b&gt;.weight" in shown
    assert "<b>" not in shown
    assert "<td>3x4</td><td>6</td><td>12</td><td>50.00%</td>" in shown
