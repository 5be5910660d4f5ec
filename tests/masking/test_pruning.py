"""Pruning by scores: exact counts, and nothing comes back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune


def slow(scores, kept, left):
    """The same for one pool, in plain Python: the best of those left, ties to the lowest place."""
    flat = [(layer, place) for layer in scores for place in range(scores[layer].numel())]
    there = [spot for spot in flat if left[spot[0]].flatten()[spot[1]]]
    ranked = sorted(there, key=lambda spot: -float(scores[spot[0]].flatten()[spot[1]]))
    chosen = set(ranked[:kept])
    return {
        layer: torch.tensor([(layer, place) in chosen for place in range(scores[layer].numel())]).reshape(
            scores[layer].shape
        )
        for layer in scores
    }


@settings(deadline=None)  # the first call compiles
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_it_keeps_the_best_of_those_that_are_left(seed, share):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 4), "b": (5,)}
    scores = {layer: torch.randint(-3, 3, shape, generator=generator).float() for layer, shape in shapes.items()}
    scores["b"][0] = -torch.inf
    left = {layer: torch.rand(shape, generator=generator) < 0.6 for layer, shape in shapes.items()}
    kept = int(share * sum(int(mask.sum()) for mask in left.values()))
    masks = prune(scores, [Pool(("a", "b"), kept)], left)
    assert all(masks[layer].equal(expected) for layer, expected in slow(scores, kept, left).items())
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    assert not any(bool((masks[layer] & ~left[layer]).any()) for layer in masks)


def test_more_than_is_left_is_refused():
    left = {"a": torch.tensor([True, False, True])}
    with pytest.raises(SupermaskError, match="Cannot keep 3 of the 2 weights left in a"):
        prune({"a": torch.ones(3)}, [Pool(("a",), 3)], left)


def test_the_masks_given_stay_as_they_are():
    left = {"a": torch.tensor([True, False, True])}
    prune({"a": torch.ones(3)}, [Pool(("a",), 1)], left)
    assert left["a"].tolist() == [True, False, True]
