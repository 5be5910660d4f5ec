"""Searches that last, that run side by side, and that live beside the processes of a data loader."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from supermask import EdgePopup, Ticket
from supermask.errors import RunError
from supermask.files import held


def search(seed, steps, seen=lambda step: None):
    """Return the bytes of the ticket of a short search."""
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    found = EdgePopup(network, density=0.3, seed=seed)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        x, y = torch.randn(8, 16, generator=generator), torch.randint(4, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        found.step()
        seen(step)
    return found.ticket().to_bytes()


def test_two_searches_in_two_threads_find_what_each_finds_alone():
    alone = [search(seed, 50) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(search, range(4), [50] * 4)) == alone


def test_two_threads_do_not_fill_one_folder(tmp_path):
    inside = threading.Barrier(2, timeout=60)

    def first():
        with held(tmp_path):
            inside.wait()
            inside.wait()

    def second():
        inside.wait()
        try:
            with pytest.raises(RunError, match="is being filled by process"), held(tmp_path):
                pass
        finally:
            inside.wait()

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(first), pool.submit(second)]:
            each.result()
    with held(tmp_path):
        pass


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks itself up in /proc")
@pytest.mark.parametrize("steps", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_steps_take_no_memory_and_no_files(steps):
    def taken(step):
        if step in (500, steps - 1):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))))

    found = []
    search(0, steps, taken)
    (before, opened), (after, still) = found
    assert still <= opened
    # a step that kept its scores would keep 2.6 KB, and 1,500 of them 4 MB
    assert after - before < 2_000_000


class Tickets(Dataset):
    """What a worker does: it reads a ticket with compiled loops, and multiplies matrices."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return torch.ones(300, 300) @ torch.ones(300, 300) * Ticket.from_bytes(self.data).kept


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_the_workers_of_a_data_loader_live_after_a_search(how):
    """A fork copies no threads: whoever counts on those of OpenMP or numba would wait for ever."""
    data = search(0, 5)
    loader = DataLoader(Tickets(data), batch_size=1, num_workers=2, multiprocessing_context=how, timeout=60)
    assert [float(batch[0, 0, 0]) for batch in loader] == [300.0 * Ticket.from_bytes(data).kept] * 4
