"""Edge-popup near the first mask: the slope of its price against a slow oracle, and what it does to masks and files."""

import pytest
import torch
from torch import nn

from supermask import EdgePopup, SupermaskError
from supermask.search import Anchored

INPUTS = torch.randn(400, 20, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 5, (400,), generator=torch.Generator().manual_seed(2))


def network():
    return nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 5))


def trained(search, steps=80):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    return search


def differing(search):
    first = Anchored(network(), density=0.3).masks()
    return sum(int((mask != first[name]).sum()) for name, mask in search.masks().items())


@pytest.mark.parametrize("score", ["magnitude", "signed"])
def test_the_slope_is_the_price_of_an_entry_toward_its_first_value(score):
    search = trained(Anchored(network(), density=0.3, price=0.25, score=score), steps=5)
    first = Anchored(network(), density=0.3, score=score).masks()
    with torch.no_grad():  # of both signs, as they become in training
        for each in search.scores().values():
            each.view(-1)[::3] *= -1.0
    given = {name: torch.full_like(each, 2.0) for name, each in search.scores().items()}
    for name, each in search.scores().items():
        each.grad = given[name].clone()
    search.before_step(torch.optim.SGD(search.parameters(), lr=0.1))
    for name, each in search.scores().items():
        for value, grad, kept in zip(each.flatten().tolist(), each.grad.flatten(), first[name].flatten(), strict=True):
            # of |s| at a negative score, a slope has the other sign
            upward = -1.0 if score == "magnitude" and value < 0.0 else 1.0
            assert float(grad) == 2.0 + upward * (-0.25 if kept else 0.25)


def test_at_no_price_it_is_edge_popup():
    plain, free = (trained(kind(network(), density=0.3, **own)) for kind, own in WAYS)
    assert all(torch.equal(mask, free.masks()[name]) for name, mask in plain.masks().items())


WAYS = ((EdgePopup, {}), (Anchored, {"price": 0.0}))


def test_a_higher_price_leaves_the_mask_nearer_to_the_first_and_the_file_shorter():
    searches = [trained(Anchored(network(), density=0.3, price=price)) for price in (0.0, 1e-3, 1.0)]
    far, near, still = (differing(search) for search in searches)
    assert far > 1.3 * near > 0
    assert still == 0
    sizes = [search.ticket().size for search in searches]
    assert sizes[0] - 10 > sizes[1] > sizes[2] + 50  # of 1,500 entries, 165 bytes by their entropy


def test_the_density_stays():
    search = trained(Anchored(network(), density=0.3, price=1e-3))
    assert {name: int(mask.sum()) for name, mask in search.masks().items()} == {"0.weight": 360, "2.weight": 90}


@pytest.mark.parametrize("price", [-1e-6, float("nan"), float("inf")])
def test_a_price_out_of_range_is_refused(price):
    with pytest.raises(SupermaskError, match=r"price=\S+ is out of range; give a number of at least 0"):
        Anchored(network(), density=0.3, price=price)


def test_fused_sgd_which_makes_gradients_by_itself_is_refused():
    with pytest.raises(SupermaskError, match="fused_sgd does not know"):
        Anchored(network(), density=0.3).fused_sgd(lr=0.1)
