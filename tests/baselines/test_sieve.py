"""What falls in a step of SynFlow is what a plain sort leaves out."""

import pytest
import torch

from supermask.baselines.at_initialisation.sieve import Sieve
from supermask.masking.budget import Pool
from supermask.masking.selection import Selection


def layers(sizes, seed, *, grain=0.0, left=1.0):
    """Return masks, weights, slopes and an order of zeros; with a grain there are many equal scores."""
    draws = torch.Generator().manual_seed(seed)
    masks, weights, slopes = {}, {}, {}
    for name, size in sizes.items():
        masks[name] = torch.rand(size, generator=draws) < left
        weights[name] = torch.rand(size, generator=draws, dtype=torch.float64)
        slopes[name] = torch.rand(size, generator=draws, dtype=torch.float64)
        if grain:
            weights[name] = (weights[name] / grain).round() * grain
            slopes[name] = torch.ones_like(slopes[name])
        weights[name] *= masks[name]
    return masks, weights, slopes, {name: torch.zeros_like(each) for name, each in weights.items()}


def sorted_out(masks, weights, slopes, kept):
    """Return the masks by a stable sort of all scores: among equal ones the first stays."""
    scores = torch.cat(
        [(weights[name] * slopes[name]).masked_fill(~mask, -torch.inf).flatten() for name, mask in masks.items()]
    )
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.sort(descending=True, stable=True).indices[:kept]] = True
    parts = chosen.split([mask.numel() for mask in masks.values()])
    return {name: part.view(mask.shape) for part, (name, mask) in zip(parts, masks.items(), strict=True)}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("left", [1.0, 0.3, 0.02])
@pytest.mark.parametrize("grain", [0.0, 0.04])
@pytest.mark.parametrize("share", [0.99, 0.6, 0.05])
def test_what_falls_is_what_a_sort_leaves_out(share, grain, left, last):
    sizes = {"one": (301, 53), "two": (7,), "three": (40_000,), "none": (0,)}
    masks, weights, slopes, order = layers(sizes, 3, grain=grain, left=left)
    before, values = {name: mask.clone() for name, mask in masks.items()}, {n: w.clone() for n, w in weights.items()}
    kept = int(share * sum(int(mask.sum()) for mask in masks.values()))
    expected = sorted_out(masks, weights, slopes, kept)
    assert Sieve(masks, weights, order).fall(slopes, Pool(tuple(sizes), kept, floor=0), 5, last=last)
    largest = max(float((values[name] * slopes[name]).max()) for name in sizes if name != "none")
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name])
        assert torch.equal(weights[name], values[name] * mask)
        placed = before[name] if last else before[name] & ~mask
        assert torch.equal(order[name], torch.where(placed, 5 + values[name] * slopes[name] / (2 * largest), 0.0))


def test_step_after_step_it_counts_what_is_left():
    sizes = {"one": (5_000,), "two": (300, 20)}
    masks, weights, slopes, order = layers(sizes, 0)
    sieve = Sieve(masks, weights, order)
    for step, kept in enumerate((9_000, 4_000, 500, 20, 1)):
        expected = sorted_out(masks, weights, slopes, kept)
        assert sieve.fall(slopes, Pool(tuple(sizes), kept, floor=0), step, last=False)
        assert all(torch.equal(masks[name], expected[name]) for name in sizes)


def refused(change, kept=50):
    masks, weights, slopes, order = layers({"one": (90,), "two": (10,)}, 1)
    change(weights, slopes)
    before = [each.clone() for each in (*masks.values(), *weights.values(), *order.values())]
    done = Sieve(masks, weights, order).fall(slopes, Pool(("one", "two"), kept, floor=0), 1, last=False)
    unchanged = all(map(torch.equal, before, (*masks.values(), *weights.values(), *order.values())))
    assert done or unchanged
    return not done


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_left_to_the_selection_which_says_so(value):
    assert refused(lambda weights, slopes: slopes["two"].fill_(value))


def test_where_nothing_flows_all_is_left_to_the_selection():
    assert refused(lambda weights, slopes: [slope.zero_() for slope in slopes.values()])


@pytest.mark.parametrize("floor", [0, 1, 3])
def test_layers_have_their_floors_as_by_a_selection_of_all_scores(floor):
    sizes = {"one": (5_000,), "two": (300, 20), "three": (40,), "four": (2,)}
    masks, weights, slopes, order = layers(sizes, 0)
    slopes["three"] *= 1e-9
    slopes["four"] *= 1e-12
    sieve, expected = Sieve(masks, weights, order), {name: mask.clone() for name, mask in masks.items()}
    for step, kept in enumerate((9_000, 4_000, 500, 40)):
        scores = {name: (weights[name] * slopes[name]).masked_fill(~mask, -torch.inf) for name, mask in masks.items()}
        pool = Pool(tuple(sizes), kept, floor=floor)
        Selection(signed=True).select([pool], scores, expected)
        assert sieve.fall(slopes, pool, step, last=False)
        assert all(torch.equal(masks[name], expected[name]) for name in sizes)
    assert [int(masks[name].sum()) for name in ("three", "four")] == [floor, min(floor, 2)]


def test_what_a_floor_cannot_have_is_left_to_the_selection():
    masks, weights, slopes, order = layers({"one": (90,), "two": (10,)}, 1)
    masks["two"].fill_(False)
    weights["two"].zero_()
    assert not Sieve(masks, weights, order).fall(slopes, Pool(("one", "two"), 50, floor=1), 1, last=False)


@pytest.mark.parametrize("kept", [0, 100])
def test_all_or_nothing_is_left_to_the_selection(kept):
    assert refused(lambda weights, slopes: None, kept=kept)


def test_what_is_not_in_order_is_not_sieved():
    weight = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    mask = torch.ones_like(weight, dtype=torch.bool)
    assert Sieve.suits({"w": mask}, {"w": weight})
    assert not Sieve.suits({"w": mask}, {"w": weight.contiguous(memory_format=torch.channels_last)})
