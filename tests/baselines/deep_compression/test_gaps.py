"""Differences with fillers, against a reader that walks from weight to weight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask import SupermaskError
from supermask.baselines.deep_compression.layer import Gaps, to_gaps, to_places


def walk(steps, fillers):
    """Return where the weights of entries lie."""
    here, found = -1, []
    for step, filler in zip(steps.tolist(), fillers.tolist(), strict=True):
        here += 1
        for _ in range(step):
            here += 1
        if not filler:
            found.append(here)
    return found


def test_the_example_of_the_paper():
    # figure 2: three weights at 1, 4 and 15, differences of 3 bits; the step from 4 to 15 needs a filler at 12
    gaps = to_gaps(np.array([1, 4, 15]), 3)
    assert (gaps.steps + 1).tolist() == [2, 3, 8, 3]  # ours are counted from before the first weight
    assert gaps.fillers.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("places", "bits", "entries"),
    [
        ([], 1, 0),
        ([0], 1, 1),
        ([1], 1, 1),
        ([2], 1, 2),
        ([31], 5, 1),
        ([32], 5, 2),
        ([63], 5, 2),
        ([64], 5, 3),
        ([1000], 1, 501),
    ],
)
def test_a_filler_stands_only_where_a_difference_overflows(places, bits, entries):
    gaps = to_gaps(np.array(places, np.int64), bits)
    assert len(gaps.steps) == entries
    assert not gaps.fillers[-1:].any()


@settings(deadline=None)
@given(st.sets(st.integers(0, 3000), max_size=60), st.integers(1, 15))
def test_places_come_back(places, bits):
    places = np.array(sorted(places), np.int64)
    gaps = to_gaps(places, bits)
    assert walk(gaps.steps, gaps.fillers) == places.tolist()
    assert to_places(gaps, 3001).tolist() == places.tolist()
    assert ((gaps.steps >= 0) & (gaps.steps < 1 << bits)).all()
    assert (gaps.steps[gaps.fillers] == (1 << bits) - 1).all()
    needed = np.diff(places, prepend=-1)
    assert gaps.fillers.sum() == sum(-(-int(gap) // (1 << bits)) - 1 for gap in needed)


def test_entries_beyond_the_layer_are_refused():
    gaps = Gaps(np.array([3, 3]), np.array([False, False]))
    assert to_places(gaps, 8).tolist() == [3, 7]
    with pytest.raises(SupermaskError, match="reach to weight 8 of a layer of 7"):
        to_places(gaps, 7)
