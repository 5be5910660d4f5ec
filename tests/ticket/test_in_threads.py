"""Files of many layers are written and read in several threads: the same bytes, the same refusals."""

import _thread
import signal
import threading

import pytest
import torch
from torch import nn

from supermask import EdgePopup, Ticket
from supermask.errors import TicketError
from supermask.search import MulticoatedSupermask
from supermask.ticket import file
from supermask.ticket.container import Sections, seal, unseal
from supermask.ticket.deflate_dictionary import inflated
from supermask.ticket.in_threads import in_threads, threads_for


@pytest.fixture
def threads(monkeypatch):
    """Let files use so many threads, however few entries they have."""
    return lambda count: monkeypatch.setattr(file, "threads_for", lambda _: count)


def network():
    return nn.Sequential(*(nn.Linear(30, 30) for _ in range(12)), nn.Linear(30, 10))


@pytest.mark.parametrize("search", [EdgePopup, MulticoatedSupermask])
def test_a_file_is_the_same_however_many_threads_write_and_read_it(search, threads):
    ticket = search(network(), density=0.3, seed=1).ticket()
    threads(1)
    alone = file.encode(ticket.contents())
    threads(5)
    assert file.encode(ticket.contents()) == alone
    read = Ticket.from_bytes(alone)
    assert all(torch.equal(read.masks[name], mask) for name, mask in ticket.masks.items())
    assert read.to_bytes() == alone


def test_a_damaged_layer_is_refused_as_without_threads(threads):
    """Two layers are damaged, each in its way; the first is told."""
    data = EdgePopup(network(), density=0.3, seed=1).ticket().to_bytes()
    sections = unseal(data)
    codes = [code for _, (code,) in file._parts(file.read_header(inflated(sections.header))[1], sections.coded)]
    codes[3], codes[9] = codes[3] + b"\1\2\3", b"\7" + codes[9]
    coded = b"".join(file.write(len(code)) + code for code in codes)
    bad = seal(Sections(sections.header, coded, sections.learned))
    told = []
    for count in (1, 5):
        threads(count)
        with pytest.raises(TicketError, match="are not the code of any mask") as refusal:
            Ticket.from_bytes(bad)
        told.append(str(refusal.value))
    assert told[0] == told[1]


def test_results_come_in_order_and_the_first_failure_is_raised():
    later = threading.Event()

    def work(item):
        if item == 2:
            later.wait(30)  # the failure of 3 comes first
        if item == 3:
            later.set()
        if item in (2, 3):
            raise ValueError(item)
        return -item

    assert in_threads(work, [0, 1, 4], 3) == [0, -1, -4]
    with pytest.raises(ValueError, match="2"):
        in_threads(work, range(5), 4)


def test_ctrl_c_ends_the_work_and_nothing_more_is_begun():
    begun, interrupted = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 1:
            _thread.interrupt_main()
        interrupted.wait(0.2)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test that is run beside others may have none
    try:
        with pytest.raises(KeyboardInterrupt):
            in_threads(work, range(1000), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(begun) < 1000


def test_a_failure_before_that_of_the_iterable_is_raised_first():
    def items(last):
        yield from range(last)
        raise KeyError("no more")

    def work(item):
        if item == 3:
            raise ValueError(item)

    for threads in (1, 4):
        with pytest.raises(ValueError, match="3"):
            in_threads(work, items(6), threads)
        with pytest.raises(KeyError, match="no more"):
            in_threads(work, items(3), threads)


@pytest.mark.parametrize(("entries", "expected"), [(0, 1), (10_000, 1), (1 << 20, 3)])
def test_threads_are_those_of_torch_where_there_is_work(entries, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert threads_for(entries) == expected
