"""Every search on a GPU: the masks of the CPU at the start, and a ticket that computes the same."""

import pytest
import torch
from searches import LINES, STEPS
from torch import nn

from supermask import models
from supermask.training.subject import Intervening

pytestmark = pytest.mark.gpu
OWN_DRAWS = ("learned", "learned, rounded")  # a GPU draws other samples


def advance(search, images, labels):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model.train()(images), labels).backward()
        if isinstance(search, Intervening):
            search.before_step(optimizer)
        optimizer.step()
        search.step()


@pytest.mark.parametrize("name", LINES)
def test_a_search_on_a_gpu_starts_as_on_the_cpu_and_ends_in_its_ticket(name):
    one, other = (LINES[name].make(models.build("lenet5").to(device)) for device in ("cpu", "cuda"))
    if name not in OWN_DRAWS:
        assert all(torch.equal(mask, other.masks()[key].cpu()) for key, mask in one.masks().items())
    images = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)).cuda()
    advance(other, images, torch.arange(64).cuda() % 10)
    network = other.ticket().apply(models.build("lenet5")).cuda().eval()
    assert torch.equal(network(images), other.model.eval()(images))
